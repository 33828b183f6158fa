//! cpio, against GNU cpio.

use super::made;
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
