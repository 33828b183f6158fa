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
            &["zstd is not for this format", "--compress zstd"][..],
        ),
        ("a.qcow2.zst", &[], &["does not tell its format"]),
        ("a.zst", &[], &["FILE.raw.zst"]),
        ("a.raw.gz", &["--level", "10"], &["gzip does not have this level", "1 to 9"]),
        ("a.tar.gz", &["--level", "3"], &["gce does not have levels"]),
        ("a.raw.gz", &["--compress", "zlib"], &["decides by itself"]),
        ("a.img", &["--package", "bzip2"], &["there is no such package", "android-sparse"]),
        ("a.qcow2", &["--bmap"], &["the blocks of a raw disk"]),
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
    // A folder where a file beside it belongs leaves nothing of the others.
    std::fs::create_dir(folder.path().join("b.img.sha256")).unwrap();
    let said = build(&manifest, &folder.path().join("b.img"), &["--sha256"]);
    assert!(said.code == 1 && !folder.path().join("b.img").exists(), "{}", said.error());
}
