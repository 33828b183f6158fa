//! What is refused, and what is said about it.

use std::path::Path;

use crate::served::{Served, fixture};
use crate::support::program::diskwright;
use crate::tools::{Said, names_in, run, scratch};

fn serve(folder: &Path, arguments: &[&str]) -> Said {
    run(diskwright().arg("serve").args(arguments).current_dir(folder))
}

#[test]
fn mistakes_are_told_and_nothing_is_left_behind() {
    let (folder, _) = fixture();
    let folder = folder.path();
    let gpt = names_in(folder).into_iter().find(|name| name.to_string_lossy().contains("gpt")).unwrap();
    let gpt = gpt.to_str().unwrap();
    std::fs::write(folder.join("bad.toml"), "version = 1\n[disk]\ntable_ = \"gpt\"\n").unwrap();
    std::fs::write(folder.join("file"), "text").unwrap();
    std::fs::write(folder.join("other.zip"), [b"PK\x03\x04".as_slice(), &[0; 600]].concat()).unwrap();
    let before = names_in(folder);
    let long = "s".repeat(108);
    let cases: &[(&[&str], u8, &[&str])] = &[
        (&[gpt], 2, &["there is no socket to serve on", "--socket PATH"]),
        (
            &[gpt, "--socket", &long],
            2,
            &["the path of the socket is too long", "at most 107 bytes", "108 bytes"],
        ),
        (&[gpt, "--socket", "file"], 2, &["there is something else at the path of the socket", "file"]),
        (&[gpt, "--socket", "nowhere/s"], 1, &["cannot make the socket", "nowhere/s"]),
        (&["bad.toml", "--socket", "s"], 2, &["bad.toml:3", "table_", "table"]),
        (&["missing.toml", "--socket", "s"], 1, &["missing.toml"]),
        (&["other.zip", "--socket", "s"], 1, &["other.zip"]),
        (&[gpt, "--socket", "s", "--tcp", "127.0.0.1:0"], 2, &["--tcp"]),
        (&[gpt, "--tcp", "localhost"], 2, &["--tcp"]),
        (&[gpt, "--fd", "77"], 2, &["there is no such descriptor", "77", "--fd"]),
        (&[gpt, "--fd", "0"], 2, &["nothing to serve on", "something else than a socket"]),
        (
            &[gpt, "--socket", "s", "--format", "qcow2", "--compress", "zlib"],
            2,
            &["laid out while it is written"],
        ),
        (&[gpt, "--socket", "s", "--compress", "zlib"], 2, &["raw does not have compression", "--compress"]),
        (&[gpt, gpt, "--socket", "s"], 2, &["two exports have the same name"]),
        (&["--socket", "s"], 2, &["SOURCE"]),
        (
            &["--socket", "s", "--", "convert", "a", "b"],
            2,
            &["does not describe a disk", "build, mkfs, nixos or repart", "found: convert"],
        ),
        (&["--socket", "s", "--", "mkfs"], 2, &["does not describe a disk", "found: mkfs without them"]),
        (
            &["--socket", "s", "--", "build", gpt, "-o", "a.raw.zst"],
            2,
            &["zstd is laid out while it is written"],
        ),
        (
            &["--socket", "s", "--", "build", gpt, "--package", "ova"],
            2,
            &["ova is laid out while it is written"],
        ),
        (
            &["--socket", "s", "--format", "vhd", "--", "build", gpt, "--format", "qcow2"],
            2,
            &["the command that is served says a format too"],
        ),
        (&["--socket", "s", "--", "build", gpt, "--sha256"], 2, &["nothing can stand beside it"]),
        (&["--socket", "s", "--", "build", gpt, "-o", "a.img", "-o", "b.img"], 2, &["served as one file"]),
        (&["--socket", "s", "--", "mkfs", "ext5"], 2, &["does not describe a disk", "ext5"]),
        (&["--socket", "s", "--", "mkfs", "ext4", "nowhere"], 1, &["nowhere"]),
        (&[gpt, "--socket", "s", "--", "build", gpt], 2, &["cannot be used with"]),
        (&[gpt, "--run", "true", "--once"], 2, &["cannot be used with"]),
    ];
    for (arguments, code, expected) in cases {
        let said = serve(folder, arguments);
        let error = said.error();
        assert_eq!(said.code, i32::from(*code), "{arguments:?}: {error}");
        for part in *expected {
            assert!(error.contains(part), "{arguments:?}: `{part}` is not in {error}");
        }
        assert_eq!(said.text(), "", "{arguments:?}");
        assert_eq!(names_in(folder), before, "{arguments:?}");
    }
}

#[test]
fn a_socket_of_a_server_that_runs_is_left_to_it() {
    let (folder, [gpt, _]) = fixture();
    let served = Served::start(folder.path(), &[&gpt]);
    let second = run(diskwright().arg("serve").arg(&gpt).arg("--socket").arg(&served.socket));
    assert_eq!(second.code, 2);
    assert!(second.error().contains("another server listens at this socket"), "{}", second.error());
    assert!(served.socket.exists());
}

#[test]
fn an_overlay_lies_on_an_nbd_uri_or_on_nothing() {
    let folder = scratch();
    let create =
        |arguments: &[&str]| run(diskwright().arg("create").args(arguments).current_dir(folder.path()));
    let good = "nbd+unix:///root?socket=/run/a.sock";
    let cases: &[(&[&str], &str)] = &[
        (&["a.qcow2", "--backing-uri", good], "--size"),
        (&["a.vdi", "--size", "1GiB", "--backing-uri", good], "vdi does not have a backing file"),
        (&["a.qcow2", "--size", "1GiB", "--backing-uri", "disk.img"], "this is no URI of NBD"),
        (&["a.qcow2", "--size", "1GiB", "--backing-uri", "http://x/y"], "a scheme of nbd"),
        (&["a.qcow2", "--size", "1GiB", "--backing-uri", "nbd+unix://x"], "nbd+unix:///NAME?socket=PATH"),
        (&["a.qcow2", "--size", "1GiB", "--backing-uri", "nbd+unix:///x?socket="], "socket=PATH"),
        (&["a.qcow2", "--size", "1GiB", "--backing-uri", "nbd:///x"], "nbd://HOST:PORT/NAME"),
        (&["a.qcow2", "--size", "1GiB", "--backing-uri", "nbd://h/a b"], "no blanks"),
        (&["a.qcow2", "--size", "1GiB", "--backing-uri", "nbd://h/%zz"], "two hexadecimal digits"),
        (&["a.qcow2", "--size", "1GiB", "--backing-uri", "nbd://h:99999/x"], "a port of 1 to 65535"),
        (&["a.qcow2", "--size", "1GiB", "--backing-uri", "nbd://[::1]:0/x"], "a port of 1 to 65535"),
        (
            &["a.qcow2", "--size", "1GiB", "-b", "x", "-F", "raw", "--backing-uri", good],
            "cannot be used with",
        ),
    ];
    for (arguments, expected) in cases {
        let said = create(arguments);
        assert_eq!(said.code, 2, "{arguments:?}");
        assert!(said.error().contains(expected), "{arguments:?}: {}", said.error());
    }
    let long = format!("nbd+unix:///?socket=/{}", "x".repeat(1100));
    let said = create(&["a.qcow2", "--size", "1GiB", "--backing-uri", &long]);
    assert!(
        said.error().contains("too long for qcow2") && said.error().contains("--backing-uri"),
        "{}",
        said.error()
    );
    assert_eq!(names_in(folder.path()).len(), 0);
    assert_eq!(create(&["a.qcow2", "--size", "1GiB", "--backing-uri", good]).code, 0);
    // Opened again, it says what it lies on; we do not follow it.
    let seen = run(diskwright().args(["inspect", "a.qcow2"]).current_dir(folder.path()));
    assert!(seen.text().contains(good), "{}", seen.text());
    let refused =
        run(diskwright().args(["inspect", "--allow-backing", "a.qcow2"]).current_dir(folder.path()));
    assert!(refused.code == 1 && refused.error().contains("behind a protocol"), "{}", refused.error());
}
