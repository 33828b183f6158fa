//! Whole disks: the table goes to its judges, and each partition is cut out and goes to its own.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::program::{diskwright, project};
use crate::support::snapshot::{Digester, Entry, Kind, Snapshot};
use crate::support::tools::{command, digest, must, scratch};
use crate::support::{ext4, fat, kernel, table, tree};

/// Cuts partition `number` (from 1) out of a disk.
fn cut(disk: &Path, number: usize) -> std::path::PathBuf {
    let file = disk.with_extension(format!("part{number}"));
    table::extract(disk, table::partitions(disk)[number - 1], &file);
    file
}

/// The files of a folder under `prefix`, as a FAT filesystem is to show them.
fn under(prefix: &str, top: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    fat::files(top).into_iter().map(|(name, bytes)| (format!("{prefix}{name}"), bytes)).collect()
}

/// The tree of the project with what the GPT manifest adds to it.
fn expected_root(folder: &Path) -> Snapshot {
    let mut expected = Snapshot::of(&folder.join("tree")).owned_by(0, 0);
    let text = b"a file of text\n";
    let mut digester = Digester::default();
    digester.block(0, text);
    for (name, kind, mode) in
        [("tmp", Kind::Directory, 0o1777), ("init", Kind::Symlink, 0o777), ("etc/text", Kind::File, 0o600)]
    {
        let mut entry = Entry::new(kind);
        (entry.mode, entry.links, entry.inode) = (mode, 1, name.as_bytes().to_vec());
        match kind {
            Kind::Symlink => (entry.target, entry.size) = (b"/bin/tool-1".to_vec(), 11),
            Kind::File => (entry.size, entry.data, entry.sectors) = (15, vec![(0, 15)], 8),
            _ => {}
        }
        expected.0.insert(name.as_bytes().to_vec(), entry);
    }
    expected.0.get_mut(b"etc/text".as_slice()).unwrap().digest = digester.finish();
    // What the manifest makes is dated by its time, which is 0.
    expected.links_as_in_ext4()
}

#[test]
fn a_disk_for_uefi() {
    let folder = scratch();
    let [manifest, _] = project(folder.path());
    let disk = folder.path().join("gpt.img");
    let report = must(diskwright().arg("build").arg(&manifest).arg("-o").arg(&disk).arg("--json")).text();
    table::assert_clean(&disk);
    let esp = cut(&disk, 1);
    fat::assert_clean(&esp);
    let mut expected = under("EFI/BOOT/", &folder.path().join("tree/bin"));
    for name in ["EFI", "EFI/BOOT", "loader"] {
        expected.insert(name.to_owned(), None);
    }
    expected.insert("loader/loader.conf".to_owned(), Some(b"timeout 0\n".to_vec()));
    assert_eq!(fat::view(&esp), expected);
    let swap =
        must(command("blkid").args(["-p", "-s", "TYPE", "-s", "LABEL", "-o", "export"]).arg(cut(&disk, 2)));
    assert!(swap.text().contains("TYPE=swap") && swap.text().contains("LABEL=swap"), "{}", swap.text());
    let (root, expected) = (cut(&disk, 3), expected_root(folder.path()));
    ext4::judge(&root, &expected);
    kernel::judge(&root, &expected);

    // The report gives the places that sfdisk finds.
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let told: Vec<_> = report["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|partition| ["offset", "size"].map(|key| partition[key].as_u64().unwrap() / 512).into())
        .collect::<Vec<(u64, u64)>>();
    assert_eq!(told, table::partitions(&disk));
}

#[test]
fn a_disk_for_bios() {
    let folder = scratch();
    let [_, manifest] = project(folder.path());
    let disk = folder.path().join("mbr.img");
    must(diskwright().arg("build").arg(&manifest).arg("-o").arg(&disk));
    let said = must(command("sfdisk").arg("--verify").arg(&disk));
    assert!(
        said.text().contains("No errors detected") && said.error().is_empty(),
        "{}{}",
        said.text(),
        said.error()
    );
    let boot = cut(&disk, 1);
    fat::assert_clean(&boot);
    assert_eq!(fat::view(&boot), fat::files(&folder.path().join("tree/bin")));
    let root = cut(&disk, 2);
    let expected = Snapshot::of(&folder.path().join("tree")).owned_by(0, 0).deduplicated().links_as_in_ext4();
    ext4::judge(&root, &expected);
    kernel::judge(&root, &expected);
}

#[test]
fn a_stream_is_the_file() {
    let folder = scratch();
    for manifest in project(folder.path()) {
        let (file, streamed) = (folder.path().join("file.img"), folder.path().join("streamed.img"));
        must(diskwright().arg("build").arg(&manifest).arg("-o").arg(&file));
        let out = std::fs::File::create(&streamed).unwrap();
        let status = diskwright().arg("build").arg(&manifest).args(["-o", "-"]).stdout(out).status().unwrap();
        assert!(status.success());
        assert_eq!(digest(&file), digest(&streamed));
    }
}

#[test]
fn a_file_takes_no_more_of_the_host_than_its_data() {
    use std::os::unix::fs::MetadataExt;
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    tree::Maker::new(&source).sparse("sparse", 1 << 30, &[(1 << 29, 4096)]).finish();
    must(diskwright().args(["mkfs", "ext4", "--size", "100GiB"]).arg(&source).arg("-o").arg(&image));
    let meta = std::fs::metadata(&image).unwrap();
    assert_eq!(meta.len(), 100 << 30);
    // 800 groups; the content is their descriptors, backups and a few tables.
    assert!(meta.blocks() * 512 < 8 << 20, "{} bytes", meta.blocks() * 512);
    ext4::assert_clean(&image);
}
