//! Trees that come as archives, and disks that leave compressed, against the programs that only do that part. It needs tar,
//! zstd and pigz.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::{Case, Group, program};
use crate::{jobs, trees};

/// A store of at least 45,000 files and 1.7 GB.
pub(crate) fn run(folder: &Path) {
    let tree = trees::store(folder);
    let (archive, raw, image) = (archive(folder, &tree), trees::raw(folder, &tree), folder.join("out.img"));
    let shell = |name: &str, script: String| Case::new(name, "sh").args(["-c", &script]).makes(&image);
    let (tar, disk, out) = (archive.display(), raw.display(), image.display());
    let ours = |arguments: &[&Path], output: &str| {
        let output = folder.join(output);
        let verb = arguments.first().map_or_else(String::new, |verb| verb.display().to_string());
        Case::new(&format!("diskwright {verb}"), program())
            .args(arguments)
            .args([Path::new("-o"), &output])
            .makes(&output)
    };
    let disks = vec![
        shell("zstd -dc, to nowhere", format!("zstd -dcq {tar} > /dev/null")),
        ours(&[Path::new("mkfs"), Path::new("ext4"), &archive], "out.qcow2"),
    ];
    Group { title: "archives: a tar.zst into a disk", cases: disks }.run();
    let packed = vec![
        shell("zstd", format!("zstd -3 -T{} -qf {disk} -o {out}", jobs())),
        ours(&[Path::new("mkfs"), Path::new("ext4"), &tree], "out.raw.zst"),
    ];
    Group { title: "archives: a store into a disk by zstd, against the ready disk", cases: packed }.run();
    let zipped = vec![
        shell("pigz", format!("pigz -6 -p {} -c {disk} > {out}", jobs())),
        ours(&[Path::new("mkfs"), Path::new("ext4"), &tree], "out.raw.gz"),
    ];
    Group { title: "archives: a store into a disk by gzip, against the ready disk", cases: zipped }.run();
}

/// The tree as a tar.zst.
fn archive(folder: &Path, tree: &Path) -> PathBuf {
    let archive = folder.join("store.tar.zst");
    if !archive.exists() {
        let script = format!("tar -cf - -C {} . | zstd -3 -T0 -qf -o {}", tree.display(), archive.display());
        let status = Command::new("sh").args(["-euc", &script]).stdin(Stdio::null()).status();
        assert!(status.is_ok_and(|status| status.success()), "the archive can be made");
    }
    archive
}
