//! Packages of disks, and files beside them, each before a reader that shares no code with the writer.

use std::path::{Path, PathBuf};

use crate::support::program::{diskwright, project};
use crate::support::tools::{Said, command, digest, must, run, scratch};

/// A raw disk with holes, and the manifest that it is of.
fn disk(folder: &Path) -> (PathBuf, PathBuf) {
    let [manifest, _] = project(folder);
    let raw = folder.join("plain.img");
    made(&manifest, &raw, &[]);
    (manifest, raw)
}

fn build(manifest: &Path, out: &Path, arguments: &[&str]) -> Said {
    run(diskwright().arg("build").arg(manifest).arg("-o").arg(out).args(arguments))
}

fn made(manifest: &Path, out: &Path, arguments: &[&str]) {
    let said = build(manifest, out, arguments);
    assert_eq!(said.code, 0, "{}", said.error());
}

fn shell(script: &str, folder: &Path) -> Said {
    must(command("sh").args(["-ec", script]).current_dir(folder))
}

#[test]
fn a_compressed_disk_is_the_disk_with_any_number_of_jobs() {
    let folder = scratch();
    let (manifest, raw) = disk(folder.path());
    let plain = digest(&raw);
    for (suffix, program) in [("gz", "gzip"), ("xz", "xz"), ("zst", "zstd")] {
        let out = folder.path().join(format!("disk.raw.{suffix}"));
        made(&manifest, &out, &["--jobs", "1"]);
        let one = digest(&out);
        let name = out.file_name().unwrap().to_str().unwrap().to_owned();
        shell(&format!("{program} -t {name}; {program} -dc {name} > back"), folder.path());
        assert_eq!(digest(&folder.path().join("back")), plain, "{program}");
        made(&manifest, &out, &["--jobs", "7"]);
        assert_eq!(digest(&out), one, "{program} with seven jobs");
        // The same bytes on standard output.
        let package = if suffix == "gz" {
            "gzip"
        } else if suffix == "zst" {
            "zstd"
        } else {
            "xz"
        };
        let piped = run(diskwright().arg("build").arg(&manifest).args(["-o", "-", "--package", package]));
        assert_eq!(piped.code, 0, "{}", piped.error());
        assert!(piped.out == std::fs::read(&out).unwrap(), "{program} on standard output");
        // A level is heard.
        made(&manifest, &out, &["--level", "1"]);
        shell(&format!("{program} -t {name}"), folder.path());
    }
    // Each of the programs sees a damaged byte, so they do compare.
    shell(
        "cp disk.raw.gz bad.gz; printf XXXXXXXX | dd of=bad.gz bs=1 seek=5000 conv=notrunc status=none; ! gzip -t bad.gz 2>/dev/null",
        folder.path(),
    );
}

/// What Google asks for: disk.raw alone, of whole GiB, in the old GNU format, in gzip.
#[test]
fn a_package_for_google_is_what_it_asks_for() {
    let folder = scratch();
    let (manifest, raw) = disk(folder.path());
    made(&manifest, &folder.path().join("disk.tar.gz"), &[]);
    let list = shell("tar -tvzf disk.tar.gz", folder.path()).text();
    let words: Vec<&str> = list.split_whitespace().collect();
    assert_eq!(
        (words[0], words[1], words[2], words.last()),
        ("-rw-r--r--", "root/root", "1073741824", Some(&"disk.raw")),
        "{list}"
    );
    shell("tar -xzf disk.tar.gz; sgdisk -v disk.raw | grep -q 'No problems found'", folder.path());
    // Only the backup of the table is elsewhere.
    let length = std::fs::metadata(&raw).unwrap().len();
    shell(&format!("cmp -i 1048576 -n {} plain.img disk.raw", length - 2 * 1_048_576), folder.path());
}

#[test]
fn an_ova_has_a_description_digests_and_a_disk() {
    let folder = scratch();
    let (manifest, raw) = disk(folder.path());
    made(&manifest, &folder.path().join("disk & name.ova"), &[]);
    let list = shell("tar -tf 'disk & name.ova'; tar -xf 'disk & name.ova'", folder.path()).text();
    assert_eq!(list, "disk.ovf\ndisk.mf\ndisk.vmdk\n");
    shell(
        "xmllint --noout disk.ovf; sed 's/^SHA256(\\(.*\\))= \\(.*\\)$/\\2  \\1/' disk.mf | sha256sum -c --quiet",
        folder.path(),
    );
    shell("qemu-img convert -O raw disk.vmdk back.img", folder.path());
    assert_eq!(digest(&folder.path().join("back.img")), digest(&raw));
    let value = |path: &str| {
        must(command("xmllint").args(["--xpath", path]).arg(folder.path().join("disk.ovf")))
            .text()
            .trim()
            .to_owned()
    };
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len().to_string();
    assert_eq!(value("string(//*[local-name()='File']/@*[local-name()='size'])"), size("disk.vmdk"));
    assert_eq!(value("string(//*[local-name()='Disk']/@*[local-name()='capacity'])"), size("plain.img"));
    assert_eq!(value("string(//*[local-name()='VirtualSystem']/*[local-name()='Name'])"), "disk & name");
}

#[test]
fn a_sparse_image_of_android_is_the_disk() {
    let folder = scratch();
    let (manifest, raw) = disk(folder.path());
    made(&manifest, &folder.path().join("disk.simg"), &[]);
    shell("simg2img disk.simg back.img", folder.path());
    assert_eq!(digest(&folder.path().join("back.img")), digest(&raw));
    let (sparse, whole) = (
        std::fs::metadata(folder.path().join("disk.simg")).unwrap().len(),
        std::fs::metadata(raw).unwrap().len(),
    );
    assert!(sparse < whole / 2, "{sparse} of {whole}");
}

#[test]
fn bmaptool_writes_the_disk_and_sees_damage() {
    let folder = scratch();
    let (manifest, raw) = disk(folder.path());
    for name in ["disk.img", "disk.raw.gz"] {
        made(&manifest, &folder.path().join(name), &["--bmap", "--sha256"]);
        shell(
            &format!(
                "rm -f target; truncate -s 1G target; bmaptool --quiet copy --bmap {name}.bmap {name} target"
            ),
            folder.path(),
        );
        let length = std::fs::metadata(&raw).unwrap().len();
        shell(
            &format!("cmp -n {length} plain.img target; sha256sum -c --quiet {name}.sha256"),
            folder.path(),
        );
    }
    shell(
        "printf X | dd of=disk.img bs=1 seek=600 conv=notrunc status=none; ! bmaptool --quiet copy --bmap disk.img.bmap disk.img target 2>/dev/null; ! sha256sum -c --quiet disk.img.sha256 2>/dev/null",
        folder.path(),
    );
}

#[test]
fn parts_are_the_whole() {
    let folder = scratch();
    let (manifest, _) = disk(folder.path());
    for (name, size) in [("plain.img", "9000000"), ("disk.qcow2", "1000000"), ("disk.raw.zst", "10000")] {
        let whole = folder.path().join(name);
        made(&manifest, &whole, &[]);
        let expected = digest(&whole);
        std::fs::remove_file(&whole).unwrap();
        made(&manifest, &whole, &["--split", size, "--sha256"]);
        assert!(!whole.exists());
        shell(
            &format!(
                "cat {name}.[0-9]* > {name}; sha256sum -c --quiet {name}.sha256; test $(stat -c %s {name}.000) = {size}"
            ),
            folder.path(),
        );
        assert_eq!(digest(&whole), expected, "{name}");
        shell(&format!("rm {name}.[0-9]*"), folder.path());
    }
}

#[test]
fn what_does_not_fit_a_package_is_refused() {
    let folder = scratch();
    let [manifest, _] = project(folder.path());
    for (name, arguments, words) in [
        (
            "a.qcow2",
            &["--package", "zstd", "--format", "qcow2"][..],
            &["zstd is not for this format", "by zstd or zlib (--compress)"][..],
        ),
        ("a.qcow2.zst", &[], &["does not tell its format"]),
        ("a.zst", &[], &["FILE.raw.zst"]),
        ("a.raw.gz", &["--level", "10"], &["gzip does not have this level", "1 to 9"]),
        ("a.tar.gz", &["--level", "3"], &["gce does not have levels"]),
        ("a.raw.gz", &["--compress", "zlib"], &["decides by itself"]),
        ("a.img", &["--package", "bzip2"], &["there is no such package", "android-sparse"]),
        ("a.qcow2", &["--bmap"], &["the blocks of a raw disk"]),
        (
            "a.raw.zst",
            &["--format", "qcow2"],
            &["the output's name says zstd", "expected: raw", "found: qcow2"],
        ),
        ("a.ova", &["--format", "raw"], &["the output's name says ova"]),
        ("a.raw.zst", &["--package", "xz"], &["xz is not what the output's name says", "expected: zstd"]),
        ("-", &["--sha256"], &["standard output"]),
        ("a.img", &["--split", "0"], &["parts of no bytes"]),
        ("a.img", &["--split", "1000"], &["too many parts", "at most 1000"]),
    ] {
        let out = if name == "-" { PathBuf::from(name) } else { folder.path().join(name) };
        let said = build(&manifest, &out, arguments);
        assert_eq!(said.code, 2, "{name} {arguments:?}: {}", said.error());
        for word in words {
            assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
        }
    }
    // A format that fits what the name says is no contradiction, and the disk is packed.
    let packed = folder.path().join("c.raw.gz");
    let said = build(&manifest, &packed, &["--format", "raw"]);
    assert!(said.code == 0 && std::fs::read(&packed).unwrap().starts_with(&[0x1f, 0x8b]), "{}", said.error());
    let mut convert = diskwright();
    convert.args(["convert", "--format", "raw"]).arg(&manifest).arg(folder.path().join("d.raw.gz"));
    let said = run(&mut convert);
    assert!(said.code == 2 && said.error().contains("nothing is packed here"), "{}", said.error());
    // A folder where a file beside it belongs leaves nothing of the others.
    std::fs::create_dir(folder.path().join("b.img.sha256")).unwrap();
    let said = build(&manifest, &folder.path().join("b.img"), &["--sha256"]);
    assert!(said.code == 1 && !folder.path().join("b.img").exists(), "{}", said.error());
}

/// The length of a disk as QEMU sees it.
fn seen_size(format: &str, path: &Path) -> u64 {
    let said = must(command("qemu-img").args(["info", "--output=json", "-f", format]).arg(path));
    json(&said.out)["virtual-size"].as_u64().unwrap()
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

/// What Azure asks for: a fixed VHD of whole MiB, at least 20 of them, with the footer behind.
#[test]
fn a_disk_for_azure_is_a_fixed_vhd_of_whole_mib() {
    let folder = scratch();
    let (manifest, _) = disk(folder.path());
    made(&manifest, &folder.path().join("disk.vhd"), &["--package", "azure"]);
    let size = std::fs::metadata(folder.path().join("disk.vhd")).unwrap().len() - 512;
    assert_eq!((size % 1_048_576, seen_size("vpc", &folder.path().join("disk.vhd"))), (0, size));
    let script = "
        size=$(stat -c %s disk.vhd)
        test \"$(tail -c 512 disk.vhd | head -c 8)\" = conectix
        test $(tail -c 512 disk.vhd | od -An -tu1 -j 63 -N 1) = 2
        head -c $((size - 512)) disk.vhd > back.img; sgdisk -v back.img | grep -q 'No problems found'";
    must(command("bash").args(["-euc", script]).current_dir(folder.path()));
    // A small disk becomes as long as the smallest that can be uploaded; another name says another format.
    let small = folder.path().join("small.toml");
    std::fs::write(&small, "version = 1\n[[partition]]\nsize = \"1MiB\"\n").unwrap();
    made(&small, &folder.path().join("small.vhd"), &["--package", "azure"]);
    assert_eq!(std::fs::metadata(folder.path().join("small.vhd")).unwrap().len(), 20 * 1_048_576 + 512);
    let said = build(&small, &folder.path().join("small.vhdx"), &["--package", "azure"]);
    assert!(said.code == 2 && said.error().contains("azure is not for"), "{}", said.error());
    std::fs::write(&small, "version = 1\n[disk]\nsize = \"2041GiB\"\n[[partition]]\nsize = \"1MiB\"\n")
        .unwrap();
    let said = build(&small, &folder.path().join("small.vhd"), &["--package", "azure"]);
    assert!(said.code != 0 && said.error().contains("at most"), "{}", said.error());
}

#[test]
fn a_disk_for_hyper_v_is_a_vhdx_of_whole_mib() {
    let folder = scratch();
    let small = folder.path().join("small.toml");
    std::fs::write(&small, "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nsize = \"1025KiB\"\n")
        .unwrap();
    let said = build(&small, &folder.path().join("small.vhdx"), &["--package", "hyper-v"]);
    assert_eq!(said.code, 0, "{}", said.error());
    assert!(said.error().contains("1049600 bytes, and 2097152 in hyper-v"), "{}", said.error());
    assert_eq!(seen_size("vhdx", &folder.path().join("small.vhdx")), 2 << 20);
    shell("qemu-img check -q -f vhdx small.vhdx", folder.path());
}

/// Generation 2 has UEFI alone, so a disk for it has a GPT with an EFI system partition.
#[test]
fn a_disk_that_generation_2_of_hyper_v_does_not_start_is_told() {
    let folder = scratch();
    let path = folder.path().join("disk.toml");
    let out = folder.path().join("disk.vhdx");
    for (table, kind, package, told) in [
        ("gpt", "linux", "hyper-v", true),
        ("mbr", "0xef", "hyper-v", true),
        ("gpt", "esp", "hyper-v", false),
        ("gpt", "linux", "azure", false),
    ] {
        let partition = format!("[[partition]]\ntype = \"{kind}\"\nsize = \"1MiB\"\n");
        std::fs::write(&path, format!("version = 1\n[disk]\ntable = \"{table}\"\n{partition}")).unwrap();
        let out = if package == "azure" { folder.path().join("disk.vhd") } else { out.clone() };
        let said = build(&path, &out, &["--package", package]);
        assert_eq!(said.code, 0, "{}", said.error());
        assert_eq!(said.error().contains("generation 2 does not start"), told, "{}", said.error());
    }
}

/// A size that is given is the length of the disk in every file, or an error that names the nearest.
#[test]
fn a_size_that_a_package_cannot_have_is_refused_with_the_nearest() {
    let folder = scratch();
    let path = folder.path().join("disk.toml");
    for (size, name, package, nearest) in [
        ("1537MiB", "a.tar.gz", "gce", Some("1GiB or 2GiB")),
        ("512MiB", "a.tar.gz", "gce", Some("1GiB")),
        ("2GiB", "a.tar.gz", "gce", None),
        ("31457792", "a.vhd", "azure", Some("30MiB or 31MiB")),
        ("4MiB", "a.vhd", "azure", Some("20MiB")),
        ("20MiB", "a.vhd", "azure", None),
        ("10486272", "a.vhdx", "hyper-v", Some("10MiB or 11MiB")),
        ("10486272", "a.simg", "android-sparse", Some("10244KiB")),
        ("10486272", "a.raw.zst", "zstd", None),
    ] {
        std::fs::write(
            &path,
            format!("version = 1\n[disk]\nsize = \"{size}\"\n[[partition]]\nsize = \"1MiB\"\n"),
        )
        .unwrap();
        let said = build(&path, &folder.path().join(name), &["--package", package, "--dry-run"]);
        match nearest {
            None => assert_eq!(said.code, 0, "{size} {package}: {}", said.error()),
            Some(nearest) => {
                assert_eq!(said.code, 2, "{size} {package}: {}", said.error());
                for words in ["disk of exactly this length", nearest, "disk.toml:3"] {
                    assert!(said.error().contains(words), "no `{words}` in {}", said.error());
                }
            }
        }
    }
}

#[test]
fn boxes_of_vagrant_have_what_their_providers_take() {
    let folder = scratch();
    let (manifest, raw) = disk(folder.path());
    for (name, files) in [
        ("disk.box", "metadata.json\nVagrantfile\nbox.img\n"),
        ("disk.virtualbox.box", "metadata.json\nVagrantfile\nbox.ovf\ndisk.vmdk\n"),
    ] {
        made(&manifest, &folder.path().join(name), &[]);
        let list = shell(&format!("tar -tzf {name}; tar -xzf {name}"), folder.path()).text();
        assert_eq!(list, files);
        let metadata = json(&std::fs::read(folder.path().join("metadata.json")).unwrap());
        let image = if name == "disk.box" {
            let expected = serde_json::json!({ "provider": "libvirt", "format": "qcow2", "virtual_size": 1 });
            assert_eq!(metadata, expected);
            shell("qemu-img check -q -f qcow2 box.img", folder.path());
            "box.img"
        } else {
            assert_eq!(metadata, serde_json::json!({ "provider": "virtualbox" }));
            shell(
                "xmllint --noout box.ovf
                 grep -Eq 'base_mac = \"080027[0-9A-F]{6}\"' Vagrantfile; grep -q 'href=\"disk.vmdk\"' box.ovf",
                folder.path(),
            );
            "disk.vmdk"
        };
        shell(&format!("qemu-img convert -O raw {image} back.img"), folder.path());
        assert_eq!(digest(&folder.path().join("back.img")), digest(&raw), "{name}");
    }
}

/// Numbers as VMA has them.
fn big(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn md5(bytes: &[u8], at: usize, folder: &Path) -> bool {
    let mut blank = bytes.to_vec();
    blank[at..at + 16].fill(0);
    std::fs::write(folder.join("blank"), &blank).unwrap();
    let sum = shell("md5sum < blank", folder).text();
    let found: String = bytes[at..at + 16].iter().map(|byte| format!("{byte:02x}")).collect();
    sum.starts_with(&found)
}

/// A reader by the specification alone (vma_spec.txt), as strict as Proxmox' own: it returns the configuration and the disk.
fn read_vma(bytes: &[u8], folder: &Path) -> (String, Vec<u8>) {
    assert_eq!((&bytes[..4], big(&bytes[4..8])), (&b"VMA\0"[..], 1));
    let (blobs, used, header) = (big(&bytes[48..52]), big(&bytes[52..56]), big(&bytes[56..60]));
    let [blobs, used, header] = [blobs, used, header].map(|number| usize::try_from(number).unwrap());
    assert!(blobs == 12_288 && header.is_multiple_of(512) && blobs + used <= header);
    assert!(md5(&bytes[..header], 32, folder), "the header's sum");
    let blob = |at: u64| {
        let at = blobs + usize::try_from(at).unwrap();
        let length = usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        assert!(at + 2 + length <= blobs + used);
        &bytes[at + 2..at + 2 + length]
    };
    assert_eq!(blob(big(&bytes[2044..2048])), b"qemu-server.conf\0");
    let config = String::from_utf8(blob(big(&bytes[3068..3072])).to_vec()).unwrap();
    assert_eq!(blob(big(&bytes[4096 + 32..4096 + 36])), b"drive-scsi0\0");
    let length = usize::try_from(big(&bytes[4096 + 40..4096 + 48])).unwrap();
    let mut disk = vec![0; length.next_multiple_of(65_536)];
    let mut seen = vec![false; length.div_ceil(65_536)];
    let mut at = header;
    while at < bytes.len() {
        let extent = &bytes[at..];
        assert!(extent.starts_with(b"VMAE\0\0") && extent[8..24] == bytes[8..24]);
        assert!(md5(&extent[..512], 24, folder), "the sum of an extent");
        let mut from = 512;
        for info in extent[40..512].chunks(8).map(big).filter(|info| info >> 32 & 0xff != 0) {
            let cluster = usize::try_from(info & 0xffff_ffff).unwrap();
            assert!(info >> 32 & 0xff == 1 && !std::mem::replace(&mut seen[cluster], true));
            for block in (0..16).filter(|block| info >> (48 + block) & 1 == 1) {
                let to = cluster * 65_536 + block * 4096;
                assert!(to < length);
                disk[to..to + 4096].copy_from_slice(&extent[from..from + 4096]);
                from += 4096;
            }
        }
        assert_eq!(big(&extent[6..8]), u64::try_from((from - 512) / 4096).unwrap());
        at += from;
    }
    assert!(seen.iter().all(|seen| *seen), "every cluster is there");
    disk.truncate(length);
    (config, disk)
}

#[test]
fn an_archive_for_proxmox_is_the_disk_and_a_machine() {
    let folder = scratch();
    let (manifest, raw) = disk(folder.path());
    let name = "vzdump-qemu-100.vma";
    made(&manifest, &folder.path().join(name), &[]);
    let bytes = std::fs::read(folder.path().join(name)).unwrap();
    let (config, back) = read_vma(&bytes, folder.path());
    assert!(back == std::fs::read(&raw).unwrap());
    for line in ["name: vzdump-qemu-100", "boot: order=scsi0", "#qmdump#map:scsi0:drive-scsi0:local-lvm:raw:"]
    {
        assert!(config.lines().any(|own| own == line), "no `{line}` in\n{config}");
    }
    for (suffix, program) in [("zst", "zstd"), ("gz", "gzip")] {
        made(&manifest, &folder.path().join(format!("{name}.{suffix}")), &[]);
        shell(&format!("{program} -dc {name}.{suffix} | cmp - {name}"), folder.path());
    }
    // A changed byte of a header is seen.
    let mut changed = bytes;
    changed[3068] ^= 1;
    assert!(std::panic::catch_unwind(|| read_vma(&changed, folder.path())).is_err());
    // A disk that is all holes has its clusters, too.
    let small = folder.path().join("small.toml");
    std::fs::write(&small, "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nsize = \"5000KiB\"\n")
        .unwrap();
    made(&small, &folder.path().join("small.vma"), &[]);
    let bytes = std::fs::read(folder.path().join("small.vma")).unwrap();
    assert_eq!(read_vma(&bytes, folder.path()).1, vec![0; 5_120_000]);
}
