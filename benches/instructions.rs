//! Instructions of the program for a tree of a fixed shape, which do not depend on the load of the machine:
//! `cargo bench --bench instructions`. The counts of the last release are in `benches/instructions.txt`. A
//! count that is more than a twentieth above them is a failure.
//!
//! Every step is a run of this program under callgrind (Debian's valgrind). The cost of a step is the
//! difference to the run that ends before it. `cargo bench --bench instructions -- --write` writes the counts
//! to the file.

#![expect(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure stops and says why")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use diskwright::filesystem::{Placement, ext4};
use diskwright::image::{Data, Image};
use diskwright::progress::Progress;
use diskwright::tree::{self, Meta, Rules, Time, Tree};
use diskwright::units::usize_of;
use uuid::Uuid;

/// Files on the host, a hundred in a directory.
const ON_HOST: u32 = 5000;
/// Files in memory, a hundred in a directory.
const IN_MEMORY: u32 = 20_000;

/// A step, the run that ends with it, and the run that ends before it.
const STEPS: [(&str, &str, &str); 4] = [
    ("scan", "scan", "start"),
    ("graft", "graft", "scan"),
    ("plan", "plan", "tree"),
    ("render", "render", "plan"),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [run, step, folder] = arguments.as_slice()
        && run == "run"
    {
        return run_to(step, Path::new(folder));
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build has a place for files");
    make(folder.path());
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    let before = std::fs::read_to_string(&stored).unwrap_or_default();
    let (mut text, mut worse) = (String::new(), false);
    println!("{:>14} {:>14} {:>6}  step", "now", "last release", "ratio");
    for (name, end, begin) in STEPS {
        let [end, begin] = [end, begin].map(|step| count(step, folder.path()));
        let now = end.checked_sub(begin).expect("a step takes more than none");
        let _ = writeln!(text, "{name} {now}");
        let old = before.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        match old {
            Some(old) => {
                println!("{now:>14} {old:>14} {:>5}%  {name}", now * 100 / old.max(1));
                worse |= now > old + old / 20;
            }
            None => println!("{now:>14} {:>14} {:>6}  {name}", "-", "-"),
        }
    }
    if arguments.iter().any(|argument| argument == "--write") {
        std::fs::write(&stored, text).expect("the counts can be written");
    } else if worse {
        panic!("a step takes more than a twentieth more instructions than in the last release");
    }
}

/// The files of the scan: short ones, of a second after 1970.
fn make(folder: &Path) {
    for number in 0..ON_HOST {
        let place = folder.join(format!("{:04}", number / 100));
        std::fs::create_dir_all(&place).expect("a directory can be made");
        let file = std::fs::File::create(place.join(format!("file-{number}"))).expect("a file can be made");
        std::io::Write::write_all(&mut &file, b"content").expect("a file can be written");
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1))
            .expect("it can be dated");
    }
}

/// Instructions of a run to the end of `step`.
fn count(step: &str, folder: &Path) -> u64 {
    let own = std::env::current_exe().expect("this program has a path");
    let out = folder.with_extension("callgrind");
    let mut file = std::ffi::OsString::from("--callgrind-out-file=");
    file.push(&out);
    let status = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind"])
        .arg(file)
        .arg(own)
        .args(["run", step])
        .arg(folder)
        .stdin(Stdio::null())
        .status()
        .expect("valgrind starts: apt-get install valgrind");
    assert!(status.success(), "the run to `{step}` failed");
    let text = std::fs::read_to_string(&out).expect("callgrind writes its file");
    let _ = std::fs::remove_file(&out);
    // One line has the sum of all that was counted (callgrind's format, "totals").
    let total = text.lines().find_map(|line| line.strip_prefix("totals:").or(line.strip_prefix("summary:")));
    total.and_then(|total| total.trim().parse().ok()).expect("callgrind's file has a sum")
}

/// Runs everything up to and including `step`, on one thread.
fn run_to(step: &str, folder: &Path) {
    match step {
        "start" => drop(black_box(folder.to_owned())),
        "scan" | "graft" => {
            let request = tree::Request::new(folder);
            let scanned = tree::scan(&[request], 1, &Progress::default()).expect("the files can be read");
            if step == "graft" {
                let mut builder = tree::Builder::new(Time::default());
                let origin = builder.origin("bench");
                builder.graft(b"/", &scanned, 0, &Rules::default(), origin).expect("no name comes twice");
                black_box(builder.finish(1).expect("nothing has to be read"));
            }
            black_box(&scanned);
        }
        "tree" | "plan" | "render" => {
            let tree = in_memory();
            if step == "tree" {
                black_box(&tree);
                return;
            }
            let built = ext4::build(&tree, &ext4::Options::default(), &Placement::alone(Uuid::from_u128(1)))
                .expect("the tree fits");
            if step == "render" {
                render(&built.image);
            }
            black_box(&built);
        }
        other => panic!("no step {other}"),
    }
}

fn in_memory() -> Arc<Tree> {
    let mut builder = tree::Builder::new(Time::default());
    let origin = builder.origin("bench");
    for number in 0..IN_MEMORY {
        let target = format!("/{:04}-directory/{number:08}-an-ordinary-name", number / 100);
        let meta = Meta::root(0o644, Time::seconds(1));
        builder.text(target.as_bytes(), *b"content", meta, origin).expect("no name comes twice");
    }
    Arc::new(builder.finish(1).expect("nothing has to be read"))
}

/// Renders all that `image` makes and does not copy.
fn render(image: &Image) {
    let (mut cursor, mut buffer) = (image.cursor(), Vec::new());
    for segment in image.segments() {
        if matches!(segment.data, Data::Rendered { .. }) {
            buffer.resize(usize_of(segment.length.get()), 0);
            cursor.read(segment.offset.get(), &mut buffer).expect("nothing rendered can fail");
            black_box(&buffer);
        }
    }
}
