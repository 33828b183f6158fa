//! Tests of qcow2 only: the names of features.

use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::create::diskwright;
use crate::hostile::complaint;
use crate::judge::{check, qemu_img};
use crate::tools::{command, must, run, scratch};

/// The header extensions, and what lies between them and the end of the name of a backing file, if there is one.
fn extensions(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let be32 =
        |at: usize| usize::try_from(u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap();
    let mut end = 112;
    while be32(end) != 0 {
        end += 8 + be32(end + 4).next_multiple_of(8);
    }
    let name = be32(12);
    bytes[112..(end + 8).max(name + be32(16))].to_vec()
}

/// A reader that lacks a feature can name it: the names are there if a bit is set, as with QEMU.
#[test]
fn features_have_the_names_that_qemu_gives_them() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    qemu_img(&[&"create", &"-q", &"-f", &"qcow2", &path("base"), &"1M"]);
    for cluster in ["512", "4096", "8192", "65536", "2097152"] {
        for backing in [&[][..], &["-b", "base", "-F", "qcow2"]] {
            let size = Some("1M").filter(|_| backing.is_empty());
            let options = format!("compression_type=zstd,cluster_size={cluster}");
            let mut theirs = command("qemu-img");
            theirs.args(["create", "-q", "-f", "qcow2", "-o", &options]).args(backing).arg(path("theirs"));
            must(theirs.args(size).current_dir(folder.path()));
            let mut ours = diskwright();
            ours.args(["create", "--format", "qcow2", "--compress", "zstd", "--cluster-size", cluster]);
            ours.args(backing).arg(path("ours"));
            must(ours.args(size.map(|_| ["--size", "1MiB"]).into_iter().flatten()));
            let (ours, theirs) = (extensions(&path("ours")), extensions(&path("theirs")));
            assert!(ours == theirs, "{cluster}, {backing:?}: {ours:02x?} {theirs:02x?}");
            let named = ours.windows(16).any(|window| window == b"compression type");
            assert_eq!(named, !["512", "4096"].contains(&cluster));
            check("qcow2", &path("ours")).unwrap();
        }
    }
    // Without a bit there is no name to tell.
    for codec in ["none", "zlib"] {
        must(diskwright().arg("create").arg(path("a.qcow2")).args(["--size", "1MiB", "--compress", codec]));
        assert_eq!(extensions(&path("a.qcow2")), [0; 8]);
    }
}

/// Unknown features of a foreign image are named as the image names them.
#[test]
fn features_that_are_not_known_are_named() {
    let folder = scratch();
    let path = folder.path().join("a.qcow2");
    qemu_img(&[&"create", &"-q", &"-f", &"qcow2", &path, &"1M"]);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    // Bit 5 has the name of bit 4, and bit 63 has none.
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|own| own == b"extended").unwrap() - 2;
    file.write_all_at(b"\0\x05of a \x1b[2Jstranger\0", u64::try_from(at).unwrap()).unwrap();
    file.write_all_at(&(1_u64 << 63 | 1 << 5).to_be_bytes(), 72).unwrap();
    let message = complaint(&run(diskwright().arg("inspect").arg(&path)), 1);
    assert!(message.contains("found: bit 5, `of a \\x1b[2Jstranger`, bit 63\n"), "{message}");
    assert!(message.contains("byte 72"), "{message}");
}
