//! What only a terminal gets: a bar and colour.

use std::process::{Command, Stdio};

use super::bench::{Bench, text};
use crate::support::judges::find;
use crate::support::program::path;

/// What a command shows on a terminal of 80 columns, with `environment` before it.
fn on_a_terminal(bench: &Bench, environment: &str, arguments: &str) -> (bool, String) {
    let program = path().display().to_string();
    let output = Command::new(find("script"))
        .args(["-qec", &format!("stty cols 80; {environment} {program} {arguments}"), "/dev/null"])
        .current_dir(bench.folder.path())
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.success(), text(&output.stdout))
}

#[test]
fn a_terminal_gets_a_bar_for_long_work_and_colour_unless_it_declines() {
    let bench = Bench::new();
    bench.write("large/file", vec![1; 64 << 20]);
    // A reader that sleeps in the middle makes it last, with something done by then.
    let program = path().display().to_string();
    let slow = "mkfs ext4 large -o - | (head -c 32M > /dev/null; sleep 1.5; cat > /dev/null)";
    let (done, seen) = on_a_terminal(&bench, "", slow);
    assert!(done && seen.contains("writing [") && seen.contains(" left"), "{seen}");
    assert!(seen.contains("/64.00 MiB") && seen.contains("/1 files") && seen.contains("/s"), "{seen}");
    // The bar is removed at the end.
    assert!(seen.trim_end_matches(['\r', '\n']).ends_with("\x1b[2K"), "{seen:?}");
    let (_, seen) = on_a_terminal(&bench, "", &format!("--version; stty cols 40; {program} {slow}"));
    assert!(seen.contains("writing ") && seen.contains("% ") && !seen.contains("ing ["), "{seen}");
    // An image that is converted has no files to count.
    bench.write("disk.raw", vec![1; 64 << 20]);
    let slow = "convert disk.raw - | (head -c 32M > /dev/null; sleep 1.5; cat > /dev/null)";
    let (done, seen) = on_a_terminal(&bench, "", slow);
    assert!(done && seen.contains("/64.00 MiB ") && !seen.contains("MiB 0 "), "{seen}");
    // Quick work shows none.
    let (done, seen) = on_a_terminal(&bench, "", "build disk.toml");
    assert!(done && !seen.contains("writing"), "{seen}");
    let (done, seen) = on_a_terminal(&bench, "", "build missing.toml");
    assert!(!done && seen.starts_with("diskwright: \x1b[1;31merror\x1b[0m: "), "{seen}");
    for environment in ["NO_COLOR=1", "TERM=dumb"] {
        let (_, seen) = on_a_terminal(&bench, environment, "build missing.toml");
        assert!(seen.starts_with("diskwright: error: ") && !seen.contains('\x1b'), "{environment}: {seen}");
    }
    let (done, seen) = on_a_terminal(&bench, "", "build disk.toml -o -");
    assert!(!done && seen.contains("not written to a terminal"), "{seen}");
}
