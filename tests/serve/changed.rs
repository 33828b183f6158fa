//! Sources that change or vanish while they are served: an error for whoever reads them, and nothing else.

use std::path::Path;

use crate::served::{Served, nbdsh};
use crate::support::program::diskwright;
use crate::support::tree::noise;
use crate::talk::{Talk, request};
use crate::tools::{command, digest, must, run, scratch};

/// A filesystem with three files of 1 MiB, of which two change after it is laid out.
fn served(folder: &Path) -> Served {
    let source = folder.join("tree");
    std::fs::create_dir(&source).unwrap();
    for name in ["calm", "changed", "gone"] {
        std::fs::write(source.join(name), noise(7, 1 << 20)).unwrap();
    }
    let built = folder.join("built.img");
    must(diskwright().args(["mkfs", "ext4"]).arg(&source).arg("-o").arg(&built));
    let served = Served::start(folder, &["-v", "--", "mkfs", "ext4", source.to_str().unwrap()]);
    std::fs::write(source.join("changed"), b"shorter").unwrap();
    std::fs::remove_file(source.join("gone")).unwrap();
    served
}

/// Where `name` begins on the disk, by the map of the image.
fn place(folder: &Path, name: &str) -> u64 {
    let said = must(command("debugfs").args(["-R", &format!("bmap {name} 0")]).arg(folder.join("built.img")));
    said.text().trim().parse::<u64>().unwrap() * 4096
}

#[test]
fn reads_of_what_changed_fail_with_its_path_and_the_rest_goes_on() {
    let folder = scratch();
    let folder = folder.path();
    let served = served(folder);
    let (calm, changed, gone) = (place(folder, "calm"), place(folder, "changed"), place(folder, "gone"));
    let mut talk = Talk::chunked(&served.socket, "");
    for _ in 0..2 {
        for (name, at) in [("changed", changed), ("gone", gone)] {
            talk.say(&request(0, at + 4096, 8192));
            let (flags, kind, payload) = talk.chunk();
            assert_eq!((flags, kind), (1, 0x8002));
            assert_eq!(payload[..4], 5_u32.to_be_bytes());
            let text = String::from_utf8_lossy(&payload[6..payload.len() - 8]).into_owned();
            assert!(text.ends_with(&format!("/tree/{name}")), "{text}");
            assert_eq!(payload[payload.len() - 8..], (at + 4096).to_be_bytes());
        }
        talk.say(&request(0, calm, 4096));
        let (flags, kind, payload) = talk.chunk();
        assert_eq!((flags, kind), (1, 1));
        assert!(payload[8..] == noise(7, 1 << 20)[..4096]);
    }
    // Without chunks there is a number alone.
    let mut old = Talk::old(&served.socket, "");
    assert_eq!(old.read(gone, 512), Err(5));
    assert!(old.read(calm, 512).is_ok());
    // Clients of others see the error, and what they read before and after.
    let script = format!(
        "try:\n    h.pread(512, {gone})\nexcept nbd.Error as error:\n    print(error.errno)\nprint(len(h.pread(512, {calm})))"
    );
    let said = must(&mut nbdsh(&served.uri, &script));
    assert_eq!(said.text(), "EIO\n512\n");
    let copied = run(command("nbdcopy").args([&served.uri, "null:"]));
    assert_ne!(copied.code, 0);
    drop((talk, old));
    // Each source is told once.
    let said = served.end();
    let errors: Vec<&str> = said
        .error()
        .lines()
        .filter(|line| line.starts_with("diskwright: ") && line.contains("error"))
        .map(|line| if line.contains("vanished") { "gone" } else { "changed" })
        .collect();
    assert_eq!(errors, ["changed", "gone"], "{}", said.error());
}

/// A reader of 2 MiB at once cannot be told of an error after the header; it is sent away and may come again.
#[test]
fn a_simple_reply_that_fails_in_the_middle_ends_the_conversation_only() {
    let folder = scratch();
    let folder = folder.path();
    let source = folder.join("tree");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("a"), noise(1, 8 << 20)).unwrap();
    std::fs::write(source.join("b"), noise(2, 8 << 20)).unwrap();
    let built = folder.join("built.img");
    must(diskwright().args(["mkfs", "ext4"]).arg(&source).arg("-o").arg(&built));
    let served = Served::start(folder, &["--", "mkfs", "ext4", source.to_str().unwrap()]);
    std::fs::remove_file(source.join("b")).unwrap();
    let (a, b) = (place(folder, "a"), place(folder, "b"));
    assert_eq!(b, a + (8 << 20), "they lie next to each other");
    let mut talk = Talk::old(&served.socket, "");
    talk.say(&request(0, a, 16 << 20));
    assert_eq!(talk.hear(16)[..8], [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0]);
    assert!(talk.hear(8 << 20) == noise(1, 8 << 20));
    assert!(talk.is_closed());
    let mut again = Talk::old(&served.socket, "");
    assert_eq!(again.read(b, 4096), Err(5));
    assert!(again.read(a, 4096).is_ok());
    assert_ne!(digest(&built), "");
}
