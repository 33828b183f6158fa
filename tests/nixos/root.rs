//! The written root before its own judges: the kernel, which mounts it, and real Nix, for which it is an
//! ordinary store.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use diskwright::nix::nar::hash_host;
use diskwright::progress::Progress;

use crate::closure::{host, nix, nix_at, nixos, registration, small, systems};
use crate::support::kernel::{self, Mount};
use crate::support::program::diskwright;
use crate::support::tools::{command, digest, must, run, scratch};

/// Everything that Nix knows about the store, sorted by path.
fn database(root: &Path) -> String {
    must(nix_at("nix-store", root).arg("--dump-db")).text()
}

/// The registration of the closure as blocks, one a path.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(path) = lines.next() {
        let mut block = vec![path.to_owned()];
        for _ in 0..3 {
            block.push(lines.next().unwrap_or("").to_owned());
        }
        let references: usize = lines.next().unwrap_or("").parse().unwrap_or(0);
        let mut names: Vec<_> = lines.by_ref().take(references).map(str::to_owned).collect();
        names.sort();
        block.extend(names);
        blocks.push(block.join("\n"));
    }
    blocks.sort();
    blocks
}

#[test]
fn real_nix_is_content_with_the_root() {
    kernel::need();
    let systems = systems();
    let folder = scratch();
    assert!(host(&systems.system).join("specialisation/special").is_symlink());
    let roots = [systems.system.as_str(), systems.earlier.as_str(), systems.channel.as_str()];
    let closure = registration(folder.path(), &roots);
    let out = folder.path().join("root.img");
    let mut build = nixos(&closure, "none", &out);
    build.args(["--channel", &systems.channel, "--verify-closure"]).args(small("none"));
    must(&mut build);
    crate::support::ext4::assert_clean(&out);

    let mount = Mount::new(&out, "rw");
    let root = mount.path();
    let stat = |path: &str| {
        let meta = root.join(path.trim_start_matches('/')).symlink_metadata().unwrap();
        (format!("{:o}", meta.mode() & 0o7777), meta.uid(), meta.gid())
    };
    for (path, mode, gid) in [
        ("/", "755", 0),
        ("/nix/store", "1775", 30000),
        ("/nix/var/nix/db", "755", 0),
        ("/nix/var/nix/db/db.sqlite", "644", 0),
        ("/nix/var/nix/db/big-lock", "600", 0),
        ("/nix/var/nix/profiles/per-user/root", "755", 0),
        ("/etc/NIXOS", "644", 0),
        ("/root", "700", 0),
        ("/root/.nix-defexpr", "700", 0),
        ("/tmp", "1777", 0),
        ("/dev", "755", 0),
        ("/proc", "755", 0),
        ("/sys", "755", 0),
        ("/run", "755", 0),
    ] {
        assert_eq!(stat(path), (mode.to_owned(), 0, gid), "{path}");
    }
    for path in ["/etc/machine-id", "/nix/var/nix/gcroots/auto", "/nix/var/nix/db/db.sqlite-wal"] {
        assert!(!root.join(path.trim_start_matches('/')).exists(), "{path}");
    }
    let link = |path: &str| {
        std::fs::read_link(root.join(path.trim_start_matches('/'))).unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(link("/nix/var/nix/profiles/system"), "system-2-link");
    assert_eq!(link("/nix/var/nix/profiles/system-2-link"), systems.system);
    assert_eq!(link("/nix/var/nix/profiles/system-1-link"), systems.earlier);
    assert_eq!(link("/nix/var/nix/profiles/per-user/root/channels-1-link"), systems.channel);
    canonical(&root.join("nix/store"));
    nix_says(root, &closure);

    // Nix notices the faults that it is asked to look for: a changed byte, and a path without a root.
    let init = root.join(&systems.earlier[1..]).join("init");
    let mut bytes = std::fs::read(&init).unwrap();
    bytes[2] ^= 1;
    std::fs::write(&init, bytes).unwrap();
    let verified = run(nix_at("nix-store", root).args(["--verify", "--check-contents"]));
    assert!(verified.code != 0 && verified.error().contains(&systems.earlier), "{}", verified.error());
    std::fs::remove_file(root.join("nix/var/nix/profiles/system-1-link")).unwrap();
    let garbage = must(nix_at("nix-store", root).args(["--gc", "--print-dead"])).text();
    assert!(garbage.contains(&systems.earlier) && !garbage.contains(&systems.system), "{garbage}");
    mount.unmount();
    crate::support::ext4::assert_clean(&out);
}

/// Every file of the store has the metadata that Nix gives it.
fn canonical(store: &Path) {
    let mut odd = command("find");
    odd.arg(store).args(["-mindepth", "1"]).args([
        "(",
        "!",
        "-uid",
        "0",
        "-o",
        "!",
        "-gid",
        "0",
        "-o",
        "!",
        "-newermt",
        "1970-01-01 00:00:00",
        "-o",
        "-newermt",
        "1970-01-01 00:00:01",
        "-o",
        "-type",
        "f",
        "!",
        "-perm",
        "444",
        "!",
        "-perm",
        "555",
        "-o",
        "-type",
        "d",
        "!",
        "-perm",
        "555",
        "-o",
        "-type",
        "f",
        "-links",
        "+1",
        ")",
    ]);
    assert_eq!(must(&mut odd).text(), "");
}

fn nix_says(root: &Path, closure: &Path) {
    let systems = systems();
    let dumped = std::fs::read_to_string(closure).unwrap();
    let expected = blocks(&dumped);
    assert!(expected.len() >= 100, "a closure of only {} paths", expected.len());
    assert_eq!(blocks(&database(root)), expected);
    let verified = must(nix_at("nix-store", root).args(["--verify", "--check-contents"]));
    assert!(
        !verified.error().contains("error") && !verified.error().contains("warning"),
        "{}",
        verified.error()
    );
    for path in [&systems.system, &systems.earlier] {
        let references = |root: Option<&Path>| {
            let mut command = root.map_or_else(|| nix("nix-store"), |root| nix_at("nix-store", root));
            must(command.args(["-q", "--references", path])).text()
        };
        assert_eq!(references(Some(root)), references(None));
    }
    let garbage = must(nix_at("nix-store", root).args(["--gc", "--print-dead"])).text();
    assert_eq!(garbage, "", "the profiles keep everything alive");
    let dry = must(nix_at("nix-collect-garbage", root).arg("--dry-run"));
    assert!(!dry.text().contains("/nix/store/"), "{}", dry.text());
    let profile = root.join("nix/var/nix/profiles/system");
    let generations = must(nix_at("nix-env", root).arg("-p").arg(profile).arg("--list-generations")).text();
    let lines: Vec<_> = generations.lines().map(str::trim).collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with('1') && lines[1].ends_with("(current)"),
        "{generations}"
    );
    let judged = root.join("nix/var/nix/db/db.sqlite");
    for pragma in ["pragma integrity_check", "pragma foreign_key_check"] {
        let said = run(command("sqlite3").arg(&judged).arg(pragma));
        assert!(["ok\n", ""].contains(&said.text().as_str()) && said.code == 0, "{pragma}: {}", said.text());
    }
}

/// Without a closure, Nix itself is asked about everything that is named; its answer equals a registration by
/// it.
#[test]
fn nix_is_asked_where_no_closure_is_given() {
    let systems = systems();
    let folder = scratch();
    let roots = [systems.system.as_str(), systems.earlier.as_str(), systems.channel.as_str()];
    let closure = registration(folder.path(), &roots);
    let out = folder.path().join("root.img");
    let mut build = nixos(&closure, "none", &out);
    let seed = ["--seed", "0867da16-f251-457d-a9e8-c31f9a3c220b"];
    must(build.args(["--channel", &systems.channel]).args(seed).args(small("none")));
    let expected = digest(&out);
    let mut arguments = crate::support::program::arguments(&build);
    let at = arguments.iter().position(|argument| argument == "--closure").unwrap();
    for auto in [false, true] {
        let mut build = diskwright();
        if auto {
            arguments[at + 1] = "auto".into();
            build.args(&arguments);
        } else {
            build.args(&arguments[..at]).args(&arguments[at + 2..]);
        }
        must(&mut build);
        assert_eq!(digest(&out), expected, "auto: {auto}");
    }
    // Nix does not know this path, and knows nothing where it is not installed.
    let unknown = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-unknown";
    let mut build = diskwright();
    let refused = run(build.args(&arguments).args(["--additional-paths", unknown]));
    assert_eq!(refused.code, 1, "{}", refused.error());
    assert!(refused.error().contains("nix-store failed") && refused.error().contains(unknown));
    let mut build = diskwright();
    let refused = run(build.args(&arguments).env("PATH", "/nonexistent"));
    assert_eq!(refused.code, 1, "{}", refused.error());
    assert!(
        refused.error().contains("where there is no Nix, give the closure as a file"),
        "{}",
        refused.error()
    );
}

/// The outputs of derivations in one database that another database also knows.
fn outputs(database: &Path) -> Vec<String> {
    let query = "select v.path, o.id, o.path from DerivationOutputs o join ValidPaths v on v.id = o.drv";
    let said = must(command("sqlite3").arg(database).arg(query)).text();
    let mut lines: Vec<_> = said.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// If a closure contains derivations, their outputs are in the database as in Nix's own.
#[test]
fn derivations_say_what_they_make() {
    let systems = systems();
    let folder = scratch();
    let derivation = must(nix("nix-store").args(["-q", "--deriver", &systems.system])).text();
    let derivation = derivation.trim();
    let roots = [systems.system.as_str(), &systems.earlier, derivation];
    let closure = registration(folder.path(), &roots);
    let out = folder.path().join("root.img");
    let mut build = nixos(&closure, "none", &out);
    must(build.args(["--additional-paths", derivation, "--verify-closure"]).args(small("none")));
    let database = folder.path().join("db.sqlite");
    let dump = format!("dump /nix/var/nix/db/db.sqlite {}", database.display());
    must(command("debugfs").args(["-R", &dump]).arg(&out));
    let found = outputs(&database);
    assert!(found.iter().any(|line| *line == format!("{derivation}|out|{}", systems.system)), "{found:?}");
    // Nix's own knows derivations of other tests' builds, too.
    let own = outputs(&host("/nix/var/nix/db/db.sqlite"));
    let names: std::collections::BTreeSet<_> = found.iter().map(|line| line.split('|').next()).collect();
    let own: Vec<_> = own.into_iter().filter(|line| names.contains(&line.split('|').next())).collect();
    assert_eq!(found, own);
}

/// The hash of an archive equals Nix's hash for names in every order, for lengths around a multiple of 8, and
/// for all kinds of nodes.
#[test]
fn archives_have_the_hash_that_nix_has() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = scratch();
    let top = folder.path().join("top");
    std::fs::create_dir_all(top.join("empty/deeper")).unwrap();
    for name in ["a", "a-b", "a.b", "a b", "A", "aa", "ä", "~", "\u{1f980}", ".hidden", "new\nline", "-"] {
        std::fs::write(top.join(name), name).unwrap();
    }
    for length in (0..=17).chain([4095, 4096, 300_000]) {
        std::fs::write(top.join(format!("length-{length}")), vec![b'x'; length]).unwrap();
    }
    std::fs::File::create(top.join("hole")).unwrap().set_len(1_000_003).unwrap();
    for (name, mode) in [("run-owner", 0o500), ("run-others", 0o455), ("run-all", 0o777)] {
        std::fs::write(top.join(name), name).unwrap();
        std::fs::set_permissions(top.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("nowhere at all", top.join("link")).unwrap();
    for path in
        [top.clone(), top.join("link"), top.join("length-0"), top.join("run-owner"), top.join("empty")]
    {
        let expected = must(command("nix-hash").args(["--type", "sha256"]).arg(&path)).text();
        let found = hash_host(&path, 2, &Progress::default()).unwrap();
        assert_eq!(found.hash.to_string(), format!("sha256:{}", expected.trim()), "{}", path.display());
    }
}
