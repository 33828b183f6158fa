//! Disks with hashes and signatures, as a manifest describes them.

use std::path::{Path, PathBuf};

use super::signature::{pair, verified};
use crate::support::program::{build, diskwright};
use crate::support::tools::{command, must, run, scratch};
use crate::support::{ext4, fat, table, tree};

/// A disk with a verified root, and its root hash in a loader entry on an ESP that stands before it.
const MANIFEST: &str = r#"
version = 1

[disk]
seed = "0867da16-f251-457d-a9e8-c31f9a3c220b"

[[partition]]
type = "esp"
label = "ESP"
filesystem = { type = "vfat", label = "ESP", fat = "auto", free = 0 }
contents = [
  { text = "options roothash={roothash:root} quiet {roothash:root-x86-64-verity\n", target = "/loader/entries/a.conf" },
]

[[partition]]
type = "root-x86-64"
label = "root"
filesystem = { type = "ext4", label = "root", free = 0 }
contents = [{ source = "tree", target = "/" }]

[[partition]]
type = "root-x86-64-verity"
label = "root-verity"
verity = { data = "root"VERITY }

[[partition]]
type = "root-x86-64-verity-sig"
label = "root-verity-sig"
signature = { data = "root", private_key = "one.key", certificate = "one.crt" }
"#;

/// The manifest with further keys of `verity`, beside what it names.
fn project(folder: &Path, verity: &str) -> PathBuf {
    if !folder.join("one.key").exists() {
        tree::plain(&folder.join("tree"));
        pair(folder, "one", "rsa:2048");
    }
    let manifest = folder.join("disk.toml");
    std::fs::write(&manifest, MANIFEST.replace("VERITY", verity)).unwrap();
    manifest
}

/// Partition `number` (from 1) of a disk, as a file of its own.
fn cut(disk: &Path, number: usize) -> PathBuf {
    let file = disk.with_extension(format!("part{number}"));
    table::extract(disk, table::partitions(disk)[number - 1], &file);
    file
}

/// The root hash in a signature partition, and the signature.
fn signed(partition: &Path) -> (String, Vec<u8>) {
    let bytes = std::fs::read(partition).unwrap();
    let text = bytes.split(|byte| *byte == 0).next().unwrap();
    let json: serde_json::Value = serde_json::from_slice(text).unwrap();
    let digits = json["signature"].as_str().unwrap();
    let mut decode = command("openssl");
    let file = partition.with_extension("base64");
    std::fs::write(&file, digits).unwrap();
    let pkcs7 = must(decode.args(["base64", "-d", "-A", "-in"]).arg(&file)).out;
    (json["rootHash"].as_str().unwrap().to_owned(), pkcs7)
}

fn verify(disk: &Path, root: &str) -> bool {
    let (data, hash) = (cut(disk, 2), cut(disk, 3));
    run(command("veritysetup").arg("verify").arg(data).arg(hash).arg(root)).code == 0
}

#[test]
fn a_disk_verifies_names_its_parts_by_the_root_hash_and_is_signed() {
    let folder = scratch();
    let folder = folder.path();
    for (number, options) in [
        "",
        ", algorithm = \"sha512\", data_block_size = \"1KiB\", hash_block_size = \"2KiB\", salt = \"00ff\"",
        ", algorithm = \"sha384\", data_block_size = 512, hash_block_size = 512, salt = \"\"",
    ]
    .into_iter()
    .enumerate()
    {
        let manifest = project(folder, options);
        let disk = folder.join("disk.img");
        let one = diskwright()
            .arg("build")
            .arg(&manifest)
            .arg("-o")
            .arg(&disk)
            .args(["--json", "--jobs", "1"])
            .output();
        assert!(one.unwrap().status.success());
        let bytes = std::fs::read(&disk).unwrap();
        build(&manifest, &disk);
        assert!(std::fs::read(&disk).unwrap() == bytes, "jobs change bytes");
        table::assert_clean(&disk);
        ext4::assert_clean(&cut(&disk, 2));

        let (root, pkcs7) = signed(&cut(&disk, 4));
        assert_eq!(root.len(), [64, 128, 96][number]);
        assert!(verify(&disk, &root), "{options}");
        assert!(verified(folder, &pkcs7, &root, &folder.join("one.crt")));
        // The loader entry says it too; what looks like a reference and is none stays.
        let entry = &fat::view(&cut(&disk, 1))["loader/entries/a.conf"];
        let line = format!("options roothash={root} quiet {{roothash:root-x86-64-verity\n");
        assert_eq!(entry.as_deref().map(String::from_utf8_lossy).unwrap(), line);

        let listed = must(command("sfdisk").arg("--json").arg(&disk)).text();
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let parts = listed["partitiontable"]["partitions"].as_array().unwrap();
        let digits = |number: usize| parts[number]["uuid"].as_str().unwrap().replace('-', "").to_lowercase();
        assert_eq!(digits(1), root[..32]);
        assert_eq!(digits(2), root[root.len() - 32..]);
        let attributes: Vec<_> = parts.iter().map(|part| part["attrs"].as_str()).collect();
        assert_eq!(attributes, [None, Some("GUID:60"), Some("GUID:60"), Some("GUID:60")]);

        let mut other = bytes;
        let (start, length) = table::partitions(&disk)[1];
        other[usize::try_from((start + length / 3) * 512).unwrap()] ^= 1;
        std::fs::write(&disk, other).unwrap();
        assert!(!verify(&disk, &root), "a flipped bit");
    }
}

/// The device of dm-verity has sectors as large as its blocks, and Linux mounts nothing on it whose blocks are smaller.
#[test]
fn filesystems_with_smaller_blocks_are_refused() {
    let folder = scratch();
    let (manifest, disk) = (folder.path().join("disk.toml"), folder.path().join("disk.img"));
    for (filesystem, more, found) in [
        (
            "type = \"erofs\", block_size = 512",
            "",
            Some("blocks of data with 4096 bytes, and erofs with 512"),
        ),
        ("type = \"ext4\", block_size = \"1KiB\"", "", Some("and ext4 with 1024")),
        ("type = \"vfat\"", "", Some("and vfat with 512")),
        ("type = \"erofs\", block_size = 512", ", data_block_size = 512", None),
        ("type = \"squashfs\"", "", None),
        ("type = \"erofs\"", "", None),
    ] {
        let text = format!(
            "version = 1\n[[partition]]\nlabel = \"root\"\nfilesystem = {{ {filesystem} }}\n\
             contents = [ {{ text = \"x\", target = \"/a\" }} ]\n[[partition]]\nverity = {{ data = \"root\"{more} }}\n"
        );
        std::fs::write(&manifest, text).unwrap();
        let said = run(diskwright().arg("build").arg(&manifest).arg("-o").arg(&disk));
        match found {
            Some(found) => {
                assert!(said.code != 0 && said.error().contains(found), "{filesystem}: {}", said.error());
            }
            None => assert_eq!(said.code, 0, "{filesystem}: {}", said.error()),
        }
    }
}

#[test]
fn the_report_tells_the_root_hash() {
    let folder = scratch();
    let folder = folder.path();
    let manifest = project(folder, "");
    let disk = folder.join("disk.img");
    let said = must(diskwright().arg("build").arg(&manifest).arg("-o").arg(&disk)).text();
    let (root, _) = signed(&cut(&disk, 4));
    assert!(said.contains(&root), "{said}");
    let dry = must(diskwright().arg("build").arg(&manifest).args(["--dry-run", "--json"])).text();
    assert!(dry.contains(&root), "{dry}");
}

#[test]
fn a_signature_that_was_made_elsewhere_is_joined() {
    let folder = scratch();
    let folder = folder.path();
    let manifest = project(folder, "");
    let disk = folder.join("disk.img");
    build(&manifest, &disk);
    let whole = std::fs::read(&disk).unwrap();
    let (root, pkcs7) = signed(&cut(&disk, 4));
    std::fs::write(folder.join("elsewhere.der"), pkcs7).unwrap();
    let joined = |root: &str| {
        let keys = "private_key = \"one.key\", certificate = \"one.crt\"";
        let text = MANIFEST.replace("VERITY", "");
        let text = text.replace(keys, &format!("root_hash = \"{root}\", pkcs7 = \"elsewhere.der\""));
        std::fs::write(&manifest, text).unwrap();
        run(diskwright().arg("build").arg(&manifest).arg("-o").arg(&disk))
    };
    assert_eq!(joined(&root).code, 0);
    assert!(std::fs::read(&disk).unwrap() == whole);
    let other = "0".repeat(64);
    let said = joined(&other);
    assert_ne!(said.code, 0);
    let text = said.error();
    for part in ["the signature is of another root hash", &root, &other, "disk.toml:26"] {
        assert!(text.contains(part), "{text}");
    }
}
