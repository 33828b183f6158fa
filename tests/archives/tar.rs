//! tar, against GNU tar and bsdtar.

use std::path::Path;

use super::{gnu_tar, made, unpacked};
use crate::support::compare::{Aspect, assert_same};
use crate::support::ext4::judge;
use crate::support::program::{as_nobody, diskwright};
use crate::support::snapshot::Snapshot;
use crate::support::tools::{command, digest, must, quick_scratch, run, scratch};
use crate::support::tree::{Host, strange};
use crate::support::{kernel, tools};

/// What the image of an unpacked tar is to show.
fn expected(unpacked: &Path) -> Snapshot {
    Snapshot::of(unpacked).links_as_in_ext4().without_host_labels()
}

/// Every format of GNU tar that holds the tree, with holes in each way that it writes them.
#[test]
fn an_image_of_a_tar_is_what_gnu_tar_unpacks() {
    let folder = scratch();
    let source = folder.path().join("source");
    strange(&source, 300, Host::Linux);
    for (name, flags) in [
        ("gnu", &["--format=gnu", "--sparse"][..]),
        ("pax", &["--format=posix", "--xattrs", "--xattrs-include=*", "--acls"]),
        ("pax-0.0", &["--format=posix", "--sparse", "--sparse-version=0.0"]),
        ("pax-0.1", &["--format=posix", "--sparse", "--sparse-version=0.1"]),
        (
            "pax-1.0",
            &[
                "--format=posix",
                "--sparse",
                "--sparse-version=1.0",
                "--acls",
                "--xattrs",
                "--xattrs-include=*",
            ],
        ),
    ] {
        let archive = folder.path().join(format!("{name}.tar"));
        gnu_tar(&source, &[flags, &["-cf", archive.to_str().unwrap(), "."]].concat());
        let top = unpacked(&archive, folder.path(), name);
        let image = folder.path().join(format!("{name}.img"));
        made(&archive, &image, &["--size", "256MiB"]);
        let expected = expected(&top);
        judge(&image, &expected);
        if name.starts_with("pax") && kernel::can_judge() {
            kernel::reads(&image, &expected);
        }
        for path in [&archive, &image] {
            std::fs::remove_file(path).unwrap();
        }
        std::fs::remove_dir_all(&top).unwrap();
    }
}

/// bsdtar writes attributes and lists in keys of its own, and names holes in yet another way.
#[test]
fn an_image_of_a_tar_of_bsdtar_is_what_bsdtar_unpacks() {
    let folder = scratch();
    let source = folder.path().join("source");
    crate::support::tree::plain(&source);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::lsetxattr(source.join("etc/one"), "user.binary", b"\n1\0=\n", flags).ok();
    let archive = folder.path().join("bsd.tar");
    let mut bsdtar = command("bsdtar");
    must(bsdtar.args(["--format=pax", "-C"]).arg(&source).arg("-cf").arg(&archive).arg("."));
    let top = folder.path().join("bsd");
    std::fs::create_dir(&top).unwrap();
    // GNU tar dates directories before it has put all files into them, which bsdtar lists in another order.
    must(command("bsdtar").arg("-C").arg(&top).arg("-xpf").arg(&archive));
    let image = folder.path().join("bsd.img");
    made(&archive, &image, &[]);
    let mut expected = expected(&top);
    // bsdtar does not date the directory that it unpacks into.
    let dated = Snapshot::of(&source).0[&Vec::new()].mtime;
    expected.0.entry(Vec::new()).and_modify(|top| top.mtime = dated);
    judge(&image, &expected);
}

/// The same bytes, however the archive is compressed and comes in, and for any user who makes the image.
#[test]
fn compression_pipes_and_users_change_nothing() {
    let folder = quick_scratch();
    let source = folder.path().join("source");
    strange(&source, 100, Host::Linux);
    let archive = folder.path().join("plain.tar");
    let path = archive.to_str().unwrap().to_owned();
    gnu_tar(&source, &["--format=posix", "--xattrs", "--xattrs-include=*", "-cf", &path, "."]);
    let image = folder.path().join("plain.img");
    let arguments = ["--free", "1MiB"];
    made(&archive, &image, &arguments);
    let plain = digest(&image);
    for (program, suffix) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        let packed = folder.path().join(format!("plain.tar.{suffix}"));
        // Two members, streams and frames one behind the other are one archive.
        let halves = format!("head -c 100000 {path} | {program} -c; tail -c +100001 {path} | {program} -c");
        must(command("sh").args(["-c", &format!("({halves}) > {}", packed.display())]));
        let out = folder.path().join(format!("{suffix}.img"));
        made(&packed, &out, &arguments);
        assert_eq!(digest(&out), plain, "{program}");
        let piped = folder.path().join(format!("{suffix}-piped.img"));
        let mut program = diskwright();
        program.args(["mkfs", "ext4", "-", "-o"]).arg(&piped).args(arguments);
        program.stdin(std::fs::File::open(&packed).unwrap());
        must(&mut program);
        assert_eq!(digest(&piped), plain, "{suffix} on standard input");
    }
    // A tape fills its last block with zeros, and anything else is no archive.
    let tape = folder.path().join("plain.tar.gz");
    let mut bytes = std::fs::read(&tape).unwrap();
    bytes.resize(bytes.len() + 100_000, 0);
    std::fs::write(&tape, &bytes).unwrap();
    let out = folder.path().join("tape.img");
    made(&tape, &out, &arguments);
    assert_eq!(digest(&out), plain, "zeros behind a gzip");
    bytes.push(1);
    std::fs::write(&tape, &bytes).unwrap();
    let said = super::mkfs(&tape, &out, &arguments);
    assert!(said.code == 1 && said.error().contains("cannot decompress the archive"), "{}", said.error());
    if tools::is_root() {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let out = folder.path().join("nobody.img");
        let mut nobody = as_nobody(&crate::support::program::path());
        nobody.args(["mkfs", "ext4"]).arg(&archive).arg("-o").arg(&out);
        let said = run(nobody.args(arguments));
        assert_eq!(said.code, 0, "{}", said.error());
        assert_eq!(digest(&out), plain, "as another user");
    }
}

/// A member of a plain file is a range of it: the image is not what grows.
#[test]
fn a_plain_tar_is_read_in_place() {
    let folder = quick_scratch();
    let source = folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("large"), crate::support::tree::noise(3, 3 << 20)).unwrap();
    let archive = folder.path().join("a.tar");
    gnu_tar(&source, &["-cf", archive.to_str().unwrap(), "."]);
    let map = must(
        diskwright().args(["mkfs", "ext4", "--dry-run", "--map"]).arg(&archive).args(["--size", "16MiB"]),
    );
    let text = map.text();
    assert!(text.lines().any(|line| line.contains("a.tar")), "{text}");
}

#[test]
fn the_last_member_of_a_name_wins_as_with_tar() {
    let folder = quick_scratch();
    let source = folder.path().join("source");
    let archive = folder.path().join("a.tar");
    let path = archive.to_str().unwrap();
    let write = |name: &str, text: &str| std::fs::write(source.join(name), text).unwrap();
    std::fs::create_dir_all(source.join("d")).unwrap();
    write("a", "first");
    write("b", "kept");
    write("d/x", "x");
    gnu_tar(&source, &["-cf", path, "a", "b", "d"]);
    write("a", "second");
    write("d/y", "y");
    gnu_tar(&source, &["-rf", path, "a", "d/y"]);
    // A link to what was there before, and then another file of the linked name.
    std::fs::hard_link(source.join("b"), source.join("c")).unwrap();
    gnu_tar(&source, &["-rf", path, "b", "c"]);
    std::fs::remove_file(source.join("b")).unwrap();
    write("b", "new");
    gnu_tar(&source, &["-rf", path, "b"]);
    let top = unpacked(&archive, folder.path(), "top");
    // GNU tar removes a file that it replaces, so `c` keeps the old one.
    assert_eq!(std::fs::read(top.join("c")).unwrap(), b"kept");
    let image = folder.path().join("a.img");
    made(&archive, &image, &[]);
    let mut expected = expected(&top);
    // The top of this archive is not in it.
    let found = crate::support::ext4::view(&image).without_lost_and_found();
    let own = found.0[&Vec::new()].clone();
    expected.0.insert(Vec::new(), crate::support::snapshot::Entry { links: 3, ..own });
    // What is put into a directory later changes the time that tar has given it.
    let aspects: Vec<_> =
        crate::support::ext4::VIEW.into_iter().filter(|aspect| *aspect != Aspect::Time).collect();
    assert_same("ext4-view", &expected, &found, &aspects);
}

/// GNU tar codes `=` and `%` in names of attributes; libarchive writes each attribute twice, with one coded name.
#[test]
fn names_of_attributes_are_decoded() {
    let folder = crate::support::tools::quick_scratch();
    let file = folder.path().join("f");
    std::fs::write(&file, "x").unwrap();
    for name in ["user.a=b", "user.50%", "user.a%3Db2"] {
        must(command("setfattr").args(["-n", name, "-v", "value"]).arg(&file));
    }
    let archive = folder.path().join("x.tar");
    gnu_tar(folder.path(), &["--xattrs", "-cf", archive.to_str().unwrap(), "f"]);
    let out = folder.path().join("out.img");
    made(&archive, &out, &[]);
    let names = |out: &Path| -> Vec<String> {
        let view = crate::support::debugfs::view(out);
        let names = view.0[b"f".as_slice()].xattrs.keys();
        names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    };
    assert_eq!(names(&out), ["user.50%", "user.a%3Db2", "user.a=b"]);
}
