//! cpio, against GNU cpio.

use std::io::Write as _;

use super::{made, mkfs};
use crate::support::ext4::judge;
use crate::support::snapshot::Snapshot;
use crate::support::tools::{command, must, scratch};
use crate::support::tree::plain;

#[test]
fn an_image_of_a_cpio_is_what_gnu_cpio_unpacks() {
    let folder = scratch();
    let source = folder.path().join("source");
    plain(&source);
    // The contents of a file with several names stand behind the last of them.
    std::fs::write(source.join("one"), crate::support::tree::noise(1, 70_001)).unwrap();
    for name in ["two", "three"] {
        std::fs::hard_link(source.join("one"), source.join(name)).unwrap();
    }
    for format in ["newc", "crc"] {
        let archive = folder.path().join(format!("{format}.cpio"));
        let top = folder.path().join(format);
        std::fs::create_dir(&top).unwrap();
        let (from, to, file) = (source.display(), top.display(), archive.display());
        must(command("sh").args([
            "-c",
            &format!("cd {from} && find . | LC_ALL=C sort | cpio --quiet -o -H {format} > {file}"),
        ]));
        must(command("sh").args(["-c", &format!("cd {to} && cpio --quiet -idm < {file}")]));
        let image = folder.path().join(format!("{format}.img"));
        made(&archive, &image, &[]);
        // cpio gives directories and links no times; the archive has them in seconds.
        let (mut expected, theirs) = (Snapshot::of(&top).links_as_in_ext4(), Snapshot::of(&source));
        for (path, entry) in &mut expected.0 {
            entry.mtime = (theirs.0[path].mtime.0, 0);
        }
        judge(&image, &expected);
    }
}

/// An initrd is often several archives, one behind the other: a later file of one name is the one that is there, and inodes
/// are those of their own archive.
#[test]
fn archives_behind_one_another_are_read() {
    let folder = scratch();
    let mut parts = Vec::new();
    for (name, files) in [("a", [("x", "of a"), ("both", "of a")]), ("b", [("y", "of b"), ("both", "of b")])]
    {
        let source = folder.path().join(name);
        std::fs::create_dir(&source).unwrap();
        for (file, text) in files {
            std::fs::write(source.join(file), text).unwrap();
        }
        let file = folder.path().join(format!("{name}.cpio"));
        let (from, to) = (source.display(), file.display());
        // Each has inodes from 0 on, so that the same number is another file.
        let script =
            format!("cd {from} && find . | LC_ALL=C sort | cpio --quiet -o -H newc --renumber-inodes > {to}");
        must(command("sh").args(["-c", &script]));
        // The kernel takes any multiple of four zeros between them.
        parts.push([std::fs::read(&file).unwrap(), vec![0; 12]].concat());
    }
    let whole = parts.concat();
    let (archive, image) = (folder.path().join("both.cpio"), folder.path().join("both.img"));
    let text = |name: &str| {
        must(crate::support::program::diskwright().arg("cat").arg(format!("{}:/{name}", image.display())))
            .text()
    };
    for packed in [false, true] {
        std::fs::write(&archive, &whole).unwrap();
        if packed {
            must(command("gzip").arg("-kf").arg(&archive));
        }
        let given = if packed { folder.path().join("both.cpio.gz") } else { archive.clone() };
        let said = made(&given, &image, &[]);
        assert!(!said.error().contains("not read"), "{}", said.error());
        assert_eq!(["x", "y", "both"].map(text), ["of a", "of b", "of b"]);
    }
    // Microcode lies before a compressed initrd; a part may be two archives itself.
    let compressed = |program: &str, bytes: &[u8]| {
        std::fs::write(&archive, bytes).unwrap();
        let file = archive.display();
        must(command("sh").args(["-c", &format!("{program} -c < {file} > {file}.out")]));
        std::fs::read(folder.path().join("both.cpio.out")).unwrap()
    };
    let zstd = [parts[0].clone(), compressed("zstd -q", &parts[1])].concat();
    let xz = [parts[0].clone(), compressed("xz", &whole)].concat();
    let twice = compressed("gzip", &[whole.clone(), compressed("gzip", &parts[1])].concat());
    // What is compressed in what is compressed behind is none that the kernel reads.
    let thrice =
        [parts[0].clone(), compressed("gzip", &[parts[1].clone(), compressed("gzip", &parts[0])].concat())]
            .concat();
    std::fs::write(&archive, &thrice).unwrap();
    let said = made(&archive, &image, &[]);
    assert!(said.error().contains("what follows the end of the archive is not read"), "{}", said.error());
    assert_eq!(["x", "y", "both"].map(text), ["of a", "of b", "of b"]);
    for bytes in [&zstd, &xz, &twice] {
        std::fs::write(&archive, bytes).unwrap();
        let said = made(&archive, &image, &[]);
        assert!(!said.error().contains("not read"), "{}", said.error());
        assert_eq!(["x", "y", "both"].map(text), ["of a", "of b", "of b"]);
    }
    // What is compressed in another way, and what is cut off, is an error; what is no cpio is told.
    for (bytes, words) in [
        (compressed("bzip2", &parts[1]), "compressed in a way that is not read here"),
        (compressed("gzip", &parts[1])[..60].to_vec(), "cannot decompress the archive"),
    ] {
        std::fs::write(&archive, [parts[0].clone(), bytes].concat()).unwrap();
        let said = mkfs(&archive, &image, &[]);
        assert!(said.code != 0 && said.error().contains(words), "{}", said.error());
    }
    std::fs::write(&archive, &whole).unwrap();
    std::fs::File::options().append(true).open(&archive).unwrap().write_all(b"something").unwrap();
    let said = made(&archive, &image, &[]);
    assert!(said.error().contains("what follows the end of the archive is not read"), "{}", said.error());
}
