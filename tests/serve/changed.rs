//! Sources that change or vanish while they are served: a client that reads them gets an error, and nothing else happens.

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

/// Long parts of files that nobody may write, as those of a store, are sent without a copy; what changed all the same is an error,
/// told after its bytes.
#[test]
fn files_that_nobody_may_write_are_sent_without_a_copy() {
    let folder = scratch();
    let folder = folder.path();
    let source = folder.join("tree");
    std::fs::create_dir(&source).unwrap();
    for (name, length) in
        [("calm", 1 << 20), ("changed", 1 << 20), ("short", 1 << 20), ("small", 3000), ("odd", 200_001)]
    {
        std::fs::write(source.join(name), noise(8, length)).unwrap();
    }
    must(command("chmod").arg("-R").arg("a-w").arg(&source));
    let built = folder.join("built.img");
    must(diskwright().args(["mkfs", "ext4"]).arg(&source).arg("-o").arg(&built));
    let calls = folder.join("calls");
    let mut serve = command("strace");
    serve.args(["-D", "-f", "-e", "trace=sendfile", "-o"]).arg(&calls).arg(crate::support::program::path());
    let socket = folder.join("socket");
    serve.arg("serve").arg("--socket").arg(&socket).args(["--", "mkfs", "ext4"]).arg(&source);
    let served = Served::of(serve, socket);
    let out = folder.join("out.img");
    for connections in ["1", "4"] {
        must(command("nbdcopy").args(["--connections", connections, &served.uri]).arg(&out));
        assert_eq!(digest(&out), digest(&built));
    }
    // Reads of odd places, across files and holes.
    let disk = std::fs::read(&built).unwrap();
    let mut talk = Talk::chunked(&served.socket, "");
    let length = 700_001_u32;
    for at in [1, 4095, 65_537, 1_000_003, 2_500_001] {
        talk.say(&request(0, at, length));
        let mut found = vec![0xaa; usize::try_from(length).unwrap()];
        loop {
            let (flags, kind, payload) = talk.chunk();
            let place =
                |bytes: &[u8]| usize::try_from(u64::from_be_bytes(bytes.try_into().unwrap()) - at).unwrap();
            match kind {
                0 => assert!(payload.is_empty()),
                1 => found[place(&payload[..8])..][..payload.len() - 8].copy_from_slice(&payload[8..]),
                2 => {
                    let hole = u32::from_be_bytes(payload[8..].try_into().unwrap());
                    found[place(&payload[..8])..][..usize::try_from(hole).unwrap()].fill(0);
                }
                other => panic!("{other:x}"),
            }
            if flags == 1 {
                break;
            }
        }
        assert!(found == disk[usize::try_from(at).unwrap()..][..found.len()], "{at}");
    }
    // A user who may change the mode may change the file.
    must(command("chmod").arg("u+w").arg(&source).arg(source.join("changed")).arg(source.join("short")));
    std::fs::write(source.join("changed"), noise(9, 1 << 20)).unwrap();
    std::fs::write(source.join("short"), noise(8, 300_000)).unwrap();
    must(command("chmod").arg("a-w").arg(source.join("changed")).arg(source.join("short")));
    for name in ["changed", "short"] {
        let at = place(folder, name) + 8192;
        talk.say(&request(0, at, 512 << 10));
        let mut last = talk.chunk();
        while last.0 == 0 {
            last = talk.chunk();
        }
        assert_eq!(last.1, 0x8002, "{name}");
        let text = String::from_utf8_lossy(&last.2).into_owned();
        assert!(text.contains(&format!("/tree/{name}")), "{text}");
    }
    talk.say(&request(0, place(folder, "calm"), 1 << 20));
    let (mut flags, mut data) = (0, Vec::new());
    while flags == 0 {
        let (last, kind, payload) = talk.chunk();
        flags = last;
        data.extend_from_slice(if kind == 1 { &payload[8..] } else { &[] });
    }
    assert!(data == noise(8, 1 << 20));
    drop(talk);
    served.end();
    // The tracer ends by itself.
    let traced = || std::fs::read_to_string(&calls).unwrap();
    while !traced().contains("+++") {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let calls = traced();
    let calls = calls.lines().filter(|line| line.contains("sendfile(")).count();
    // At least four pieces of each of three files, three times.
    assert!(calls > 30, "{calls} calls of sendfile");
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
