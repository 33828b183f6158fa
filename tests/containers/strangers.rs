//! Files that are not disk images are named and not taken for raw disks: compressed files, archives, images
//! that cannot be read. The tools of each format make them, where a tool exists.

use std::path::Path;
use std::process::Stdio;

use diskwright::units::MIB;

use crate::create::diskwright;
use crate::hostile::complaint;
use crate::judge::{compare, qemu_img};
use crate::rows::ROWS;
use crate::samples::{noise, usual};
use crate::tools::{command, digest, must, names_in, run, scratch};
use crate::written::raw;

/// Runs a program in `folder`; what it says on standard output becomes the file `out` there.
fn made(folder: &Path, out: &str, program: &str, arguments: &[&str]) {
    let file = std::fs::File::create(folder.join(out)).unwrap();
    let status = command(program).args(arguments).current_dir(folder).stdout(file).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

/// A cpio archive of `disk.raw` in a format of GNU cpio.
fn cpio(folder: &Path, out: &str, format: &str) {
    let names = std::fs::File::open(folder.join("names")).unwrap();
    let file = std::fs::File::create(folder.join(out)).unwrap();
    let mut program = command("cpio");
    program.args(["-o", "--quiet", "-H", format]).current_dir(folder).stdin(names).stdout(file);
    assert!(program.status().unwrap().success());
}

/// Such a file cannot be inspected, converted, grown or used as a backing file: the error names its kind and
/// what to do.
fn named(folder: &Path, name: &str, what: &str, remedy: &str) {
    let path = folder.join(name);
    let out = folder.join("out.img");
    let before = digest(&path);
    let mut commands = vec![
        (diskwright(), vec!["inspect"]),
        (diskwright(), vec!["resize", "+1MiB"]),
        (diskwright(), vec!["convert", out.to_str().unwrap()]),
    ];
    for (program, arguments) in &mut commands {
        program.arg(arguments[0]).arg(&path).args(&arguments[1..]);
        let message = complaint(&run(program), 1);
        for part in [what, remedy, name, "format is raw"] {
            assert!(message.contains(part), "{name}: `{part}` is not in: {message}");
        }
        let flag = if arguments[0] == "resize" { "(--format)" } else { "(--from)" };
        assert!(message.contains(flag), "{message}");
    }
    // From standard input too, which has no name that would tell.
    if !name.ends_with("VMDK") && !what.starts_with("called a ") {
        let mut program = diskwright();
        program.args(["convert", "-"]).arg(&out).stdin(std::fs::File::open(&path).unwrap());
        let message = complaint(&run(&mut program), 1);
        assert!(message.contains(what) && message.contains("standard input"), "{message}");
    }
    // An overlay of QEMU's making on it that does not say what it lies on.
    let overlay = folder.join("overlay.qcow2");
    qemu_img(&[&"create", &"-q", &"-f", &"qcow2", &"-u", &"-b", &path, &"-F", &"raw", &overlay, &"1M"]);
    let mut bytes = std::fs::read(&overlay).unwrap();
    let format = bytes.windows(8).position(|window| window == b"\xe2\x79\x2a\xca\0\0\0\x03").unwrap();
    bytes[format] = 0x01;
    std::fs::write(&overlay, bytes).unwrap();
    let said = run(diskwright().arg("convert").arg(&overlay).arg(&out).arg("--allow-backing"));
    assert!(complaint(&said, 1).contains(what), "{name}: {}", said.error());
    std::fs::remove_file(&overlay).unwrap();
    assert!(!out.exists());
    // `--from raw` accepts its bytes.
    must(diskwright().arg("convert").arg(&path).arg(&out).args(["--from", "raw"]));
    assert!(std::fs::read(&out).unwrap() == std::fs::read(&path).unwrap(), "{name}");
    must(diskwright().arg("inspect").arg(&path).args(["--from", "raw"]));
    std::fs::remove_file(&out).unwrap();
    assert_eq!(digest(&path), before, "{name}");
}

#[test]
fn files_of_other_programs_are_named() {
    let folder = scratch();
    let at = folder.path();
    raw(&usual().image(), at);
    std::fs::write(at.join("empty"), b"").unwrap();
    std::fs::write(at.join("names"), b"disk.raw\n").unwrap();
    std::fs::write(at.join("key"), b"secret").unwrap();
    for (out, program, arguments) in [
        ("a.xz", "xz", &["-0", "-c", "disk.raw"][..]),
        ("a.gz", "gzip", &["-c", "disk.raw"]),
        ("a.lzma", "xz", &["-0", "-c", "--format=lzma", "disk.raw"]),
        ("empty.lzma", "xz", &["-c", "--format=lzma", "empty"]),
        ("a.zst", "zstd", &["-q", "-c", "disk.raw"]),
        ("a.bz2", "bzip2", &["-c", "disk.raw"]),
        ("empty.bz2", "bzip2", &["-c", "empty"]),
        ("a.lz4", "lz4", &["-q", "-c", "disk.raw"]),
        ("legacy.lz4", "lz4", &["-q", "-l", "-c", "disk.raw"]),
        ("gnu.tar", "tar", &["-c", "--format=gnu", "disk.raw"]),
        ("pax.tar", "tar", &["-c", "--format=pax", "disk.raw"]),
        ("ustar.ova", "tar", &["-c", "--format=ustar", "disk.raw"]),
        ("old.tar", "tar", &["-c", "--format=v7", "disk.raw"]),
        ("a.zip", "zip", &["-q", "-0", "-", "disk.raw"]),
    ] {
        made(at, out, program, arguments);
    }
    must(command("7zz").args(["a", "-bso0", "a.7z", "disk.raw"]).current_dir(at));
    cpio(at, "newc.cpio", "newc");
    cpio(at, "crc.cpio", "crc");
    cpio(at, "odc.cpio", "odc");
    for kind in ["luks1", "luks2"] {
        std::fs::write(at.join(kind), vec![0; 20 << 20]).unwrap();
        let mut format = command("cryptsetup");
        format.args([
            "luksFormat",
            "-q",
            "--type",
            kind,
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
        ]);
        must(format.args([kind, "key"]).current_dir(at));
    }
    qemu_img(&[&"create", &"-q", &"-f", &"qed", &at.join("a.qed"), &"1M"]);
    qemu_img(&[&"create", &"-q", &"-f", &"parallels", &at.join("a.hdd"), &"1M"]);
    for (name, what, remedy) in [
        ("a.xz", "an xz file", "xz -d"),
        ("a.gz", "a gzip file", "gzip -d"),
        ("a.lzma", "an lzma file", "xz -d"),
        ("empty.lzma", "an lzma file", "xz -d"),
        ("a.zst", "a zstd file", "zstd -d"),
        ("a.bz2", "a bzip2 file", "bzip2 -d"),
        ("empty.bz2", "a bzip2 file", "bzip2 -d"),
        ("a.lz4", "an lz4 file", "lz4 -d"),
        ("legacy.lz4", "an lz4 file", "lz4 -d"),
        ("gnu.tar", "a tar archive", "tar -x"),
        ("pax.tar", "a tar archive", "tar -x"),
        ("ustar.ova", "a tar archive", "the disk of an OVA is a .vmdk"),
        ("old.tar", "a tar archive", "tar -x"),
        ("a.zip", "a zip archive", "unzip"),
        ("a.7z", "a 7-Zip archive", "7zz x"),
        ("newc.cpio", "a cpio archive", "cpio -i"),
        ("crc.cpio", "a cpio archive", "cpio -i"),
        ("odc.cpio", "a cpio archive", "cpio -i"),
        ("luks1", "a LUKS container", "cryptsetup open"),
        ("luks2", "a LUKS container", "cryptsetup open"),
        ("a.qed", "a QED image", "qemu-img convert"),
        ("a.hdd", "a Parallels image", "qemu-img convert"),
    ] {
        named(at, name, what, remedy);
    }
}

/// Marks with noise after them, for formats that no tool here can make.
#[test]
fn marks_of_programs_that_are_not_here() {
    let folder = scratch();
    let behind = noise(9, 20_000);
    let mut koly = vec![0; 512];
    koly[..8].copy_from_slice(b"koly\0\0\0\x04");
    let wide = |unit: fn(u16) -> [u8; 2], text: &str| -> Vec<u8> {
        ["\u{feff}", text].concat().encode_utf16().flat_map(unit).collect()
    };
    let descriptor = "# Disk DescriptorFile\r\nversion=1\r\n";
    for (name, head, tail, what, remedy) in [
        ("a.img", b"Bochs Virtual HD Image".to_vec(), &[][..], "a Bochs image", "qemu-img"),
        ("a.img", b"WithoutFreeSpace".to_vec(), &[], "a Parallels image", "qemu-img"),
        ("a.img", b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop".to_vec(), &[], "a cloop image", "qemu-img"),
        ("a.img", b"#!/bin/sh\n#V1.0 Format\n".to_vec(), &[], "a cloop image", "extract_compressed_fs"),
        ("a.img", b"#!/bin/sh\n#V3.0 Format\n".to_vec(), &[], "a cloop image", "extract_compressed_fs"),
        ("a.img", b"OOOM\0\0\0\x02".to_vec(), &[], "an overlay of User Mode Linux", "uml_moo"),
        ("a.img", b"\xed\xab\xee\xdb\x03\0".to_vec(), &[], "an RPM package", "rpm2archive"),
        ("a.img", b"\xeb\x58\x90-FVE-FS-\0\x02".to_vec(), &[], "a volume of BitLocker", "cryptsetup"),
        ("a.img", b"Salted__01234567".to_vec(), &[], "a file encrypted by OpenSSL", "openssl enc"),
        ("a.img", b"-----BEGIN PGP MESSAGE-----\n\n".to_vec(), &[], "a text of OpenPGP", "gpg"),
        ("a.img", b"\x27\x05\x19\x56\0\0\0\0".to_vec(), &[], "a uImage of U-Boot", "dumpimage"),
        ("a.img", b"\x3a\xff\x26\xed\x01\0\0\0".to_vec(), &[], "an Android sparse image", "simg2img"),
        ("a.img", b"EVF\x09\x0d\x0a\xff\0\x01".to_vec(), &[], "an EnCase image", "ewfexport"),
        ("a.img", b"MSWIM\0\0\0".to_vec(), &[], "a WIM archive", "wimapply"),
        ("a.img", b"LZIP\x01".to_vec(), &[], "an lzip file", "lzip -d"),
        ("a.img", b"\x89LZO\0\x0d\x0a\x1a\x0a".to_vec(), &[], "an lzop file", "lzop -d"),
        ("a.img", b"Rar!\x1a\x07\x01\0".to_vec(), &[], "a RAR archive", "unpack"),
        ("a.img", b"\x5e\x2a\x4d\x18\x04\0\0\0".to_vec(), &[], "a zstd or lz4 file", "zstd -d"),
        ("a.img", b"!<arch>\ndebian-binary".to_vec(), &[], "an ar archive", "ar x"),
        ("a.img", b"AFF10\r\n\0".to_vec(), &[], "an AFF image", "affconvert"),
        ("a.img", b"shdw\0\0\0\x01".to_vec(), &[], "an Apple sparse image (ASIF)", "diskutil image"),
        ("a.img", b"\x7fELF\x02\x01\x01".to_vec(), &[], "a program", "another file"),
        ("a.img", b"%PDF-1.7\n".to_vec(), &[], "a PDF", "another file"),
        ("a.img", b"\x1f\x9d\x90\x1e".to_vec(), &[], "a file packed by compress (.Z)", "uncompress"),
        ("a.img", b"\x1f\xa0\0\0".to_vec(), &[], "a file packed by compress -H", "gzip -d"),
        ("a.img", b"\x1f\x1e\0\0".to_vec(), &[], "a file packed by pack", "gzip -d"),
        ("a.img", b"PK\x05\x06\0\0".to_vec(), &[], "an empty zip archive", "another file"),
        ("a.img", b"PK\x07\x08PK\x03\x04".to_vec(), &[], "a part of a zip archive", "unzip"),
        ("a.img", b"MSCF\0\0\0\0".to_vec(), &[], "a CAB archive", "cabextract"),
        ("a.img", b"xar!\0\x1c".to_vec(), &[], "a xar archive", "bsdtar"),
        ("a.img", b"#!/usr/bin/env python3\n".to_vec(), &[], "a script", "another file"),
        ("a.img", b"\x89PNG\x0d\x0a\x1a\x0a\0\0\0\x0dIHDR".to_vec(), &[], "a PNG picture", "another file"),
        ("a.img", b"\xff\xd8\xff\xe0\0\x10JFIF".to_vec(), &[], "a JPEG picture", "another file"),
        ("a.img", b"GIF89a".to_vec(), &[], "a GIF picture", "another file"),
        ("a.img", b"SQLite format 3\0".to_vec(), &[], "a database of SQLite", "another file"),
        ("a.img", "\u{feff}<?xml version=\"1.0\"?>\n".into(), &[], "an XML text", "the .vmdk that it names"),
        ("a.img", "\u{feff}<!doctype html>".into(), &[], "an HTML page", "a download may have failed"),
        ("a.img", wide(u16::to_le_bytes, "<?xml version"), &[], "an XML text", "the .vmdk that it names"),
        ("a.img", wide(u16::to_be_bytes, "<?xml version"), &[], "an XML text", "the .vmdk that it names"),
        (
            "a.img",
            b"<?xml version=\"1.0\"?>\n<Envelope".to_vec(),
            &[],
            "an XML text",
            "the .vmdk that it names",
        ),
        (
            "a.img",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:".to_vec(),
            &[],
            "a pointer of Git LFS",
            "git lfs pull",
        ),
        ("a.img", b"<!doctype HTML><title>404".to_vec(), &[], "an HTML page", "a download may have failed"),
        ("a.img", b"<HTML>".to_vec(), &[], "an HTML page", "a download may have failed"),
        ("a.img", behind.clone(), &koly[..], "an Apple disk image", "qemu-img"),
        ("a.img", wide(u16::to_le_bytes, descriptor), &[], "a VMDK descriptor in UTF-16", "UTF-8"),
        ("a.img", wide(u16::to_be_bytes, descriptor), &[], "a VMDK descriptor in UTF-16", "UTF-8"),
    ] {
        let bytes = [&head, &behind[..], tail].concat();
        std::fs::write(folder.path().join(name), bytes).unwrap();
        named(folder.path(), name, what, remedy);
    }
    for manifest in [
        "version = 1\n[disk]\n",
        "# A disk.\n\nversion=1 # of this format\n",
        "{\"version\": 1, \"partition\": []}\n",
    ] {
        std::fs::write(folder.path().join("a.img"), manifest).unwrap();
        named(folder.path(), "a.img", "a manifest", "the command build");
    }
    let text = "a text of a page that someone gave this name, grüße\n".repeat(20);
    std::fs::write(folder.path().join("a.VMDK"), &text).unwrap();
    named(folder.path(), "a.VMDK", "no descriptor of a VMDK", "createType");
    std::fs::write(folder.path().join("a.img"), &text).unwrap();
    must(diskwright().arg("inspect").arg(folder.path().join("a.img")));
}

/// A file that is named after a container and is none is damaged, cut, or another file: no disk of its bytes is made unless
/// they are meant.
#[test]
fn a_container_without_its_mark_is_no_raw_disk() {
    let folder = scratch();
    for (name, what) in [
        ("a.qcow2", "called a qcow2"),
        ("a.vhdx", "called a VHDX"),
        ("a.VHD", "called a VHD"),
        ("a.vdi", "called a VDI"),
        ("a.vmdk", "called a VMDK"),
        ("a-b.vmdk", "called a VMDK"),
        ("a-f.vmdk", "called a VMDK"),
    ] {
        std::fs::write(folder.path().join(name), noise(3, 4096)).unwrap();
        named(folder.path(), name, what, "damaged or cut short");
        std::fs::write(folder.path().join(name), "").unwrap();
        named(folder.path(), name, what, "damaged or cut short");
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    // The files with the data of a flat VMDK have names of their own.
    for name in ["a-flat.vmdk", "a-f001.vmdk", "a.raw", "a"] {
        std::fs::write(folder.path().join(name), noise(3, 4096)).unwrap();
        let text = must(diskwright().arg("inspect").arg(folder.path().join(name))).text();
        assert!(text.starts_with("format         raw\n"), "{name}: {text}");
    }
}

/// Files that only begin like a mark, and disks with a bare filesystem, are raw.
#[test]
fn disks_stay_disks() {
    let folder = scratch();
    let path = folder.path().join("a-flat.vmdk");
    let mut tar = vec![0; 1024];
    tar[..8].copy_from_slice(b"disk.raw");
    tar[148..156].copy_from_slice(b"000001\0 ");
    tar[257..263].copy_from_slice(b"ustar\0");
    for head in [
        b"".to_vec(),
        b"BZh9".to_vec(),
        b"BZh9123456".to_vec(),
        b"BZh0\x31\x41\x59\x26\x53\x59".to_vec(),
        b"\x1f\x8b\x07".to_vec(),
        b"\x60\x2a\x4d\x18".to_vec(),
        b"07070".to_vec(),
        b"\xff\xfea text".to_vec(),
        // No dictionary of LZMA, and no start of its range coder.
        b"\x5d\0\0\0\x05\xff\xff\xff\xff\xff\xff\xff\xff\0".to_vec(),
        b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\x01".to_vec(),
        b"version = 12\n".to_vec(),
        b"version = 1.5\n".to_vec(),
        // An archive with a wrong checksum, which tar refuses.
        tar,
        vec![0; 4096],
        // The data of a flat VMDK is named so.
        noise(3, 4096),
    ] {
        std::fs::write(&path, [&head[..], &[0; 20]].concat()).unwrap();
        let text = must(diskwright().arg("inspect").arg(&path)).text();
        assert!(text.starts_with("format         raw\n"), "{head:02x?}: {text}");
    }
    std::fs::create_dir(folder.path().join("tree")).unwrap();
    std::fs::write(folder.path().join("tree/file"), noise(5, 9000)).unwrap();
    for (program, arguments) in
        [("mksquashfs", &["tree", "a.img", "-quiet"][..]), ("mkfs.erofs", &["a.img", "tree"])]
    {
        must(command(program).args(arguments).current_dir(folder.path()));
        let text = must(diskwright().arg("inspect").arg(folder.path().join("a.img"))).text();
        assert!(text.starts_with("format         raw\n"), "{program}: {text}");
        std::fs::remove_file(folder.path().join("a.img")).unwrap();
    }
}

/// A descriptor with a byte order mark, as an editor leaves it, or without its title, is still one.
#[test]
fn descriptors_that_an_editor_changed_are_read() {
    let folder = scratch();
    let path = folder.path().join("disk.vmdk");
    let below = raw(&usual().image(), folder.path());
    qemu_img(&[&"convert", &"-f", &"raw", &"-O", &"vmdk", &"-o", &"subformat=monolithicFlat", &below, &path]);
    let text = std::fs::read_to_string(&path).unwrap();
    let target = folder.path().join("out.img");
    for changed in [
        format!("\u{feff}{text}"),
        text.replacen("# Disk DescriptorFile\n", "", 1),
        text.replacen("# Disk DescriptorFile", "# disk descriptorfile", 1),
        format!("\u{feff}{}", text.replacen("# Disk DescriptorFile\n", "\n# another\n", 1)),
    ] {
        assert_ne!(changed, text);
        std::fs::write(&path, &changed).unwrap();
        let said = run(diskwright().arg("convert").arg(&path).arg(&target));
        assert!(complaint(&said, 2).contains("--allow-backing"), "{}", said.error());
        must(diskwright().arg("convert").arg(&path).arg(&target).arg("--allow-backing"));
        compare(&below, "raw", &target).unwrap();
    }
    // A place in it is that in the file.
    std::fs::write(&path, format!("\u{feff}{}", text.replace("FLAT", "STRANGE"))).unwrap();
    let said = run(diskwright().arg("convert").arg(&path).arg(&target).arg("--allow-backing"));
    let at = 3 + text.find("RW ").unwrap();
    assert!(complaint(&said, 1).contains(&format!("byte {at}\n")), "{}", said.error());
}

/// Every format can be read from standard input, because the input is stored before it is read.
#[test]
fn standard_input_is_any_image() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    let below = raw(&usual().image(), folder.path());
    for row in ROWS {
        row.write(&usual().image(), &path("disk"), 2).unwrap();
        for arguments in [&[][..], &["--from", row.format.name()]] {
            let mut cat = command("cat");
            let mut cat = cat.arg(path("disk")).stdout(Stdio::piped()).spawn().unwrap();
            let mut program = diskwright();
            program.args(["convert", "-"]).arg(path("out.img")).args(arguments);
            let said = must(program.stdin(cat.stdout.take().unwrap()));
            assert!(cat.wait().unwrap().success());
            assert_eq!(said.error(), "", "{}", row.name);
            compare(&below, "raw", &path("out.img")).unwrap_or_else(|error| panic!("{}: {error}", row.name));
        }
    }
    std::fs::remove_file(path("out.img")).unwrap();
    // What it names lies elsewhere.
    must(
        diskwright()
            .arg("create")
            .arg(path("over"))
            .args(["-b", "disk.raw", "-F", "raw", "--format", "qcow2"]),
    );
    let mut program = diskwright();
    program.args(["convert", "-"]).arg(path("out.img")).stdin(std::fs::File::open(path("over")).unwrap());
    let message = complaint(&run(&mut program), 2);
    assert!(message.contains("backing file") && message.contains("standard input"), "{message}");
    assert_eq!(names_in(folder.path()), ["disk", "disk.raw", "over"]);
    assert!(std::fs::metadata(path("disk")).unwrap().len() > MIB);
}

/// The image of a partition is a filesystem, and no container, archive or compressed file: those would be copied as they
/// are. Encrypted volumes, and what firmware starts from a bare partition, stay allowed.
#[test]
fn partitions_hold_no_container_by_accident() {
    let folder = scratch();
    let at = folder.path();
    raw(&usual().image(), at);
    let manifest = at.join("disk.toml");
    let build = |name: &str, more: &str| {
        std::fs::write(&manifest, format!("version = 1\n[[partition]]\nimage = \"{name}\"\n{more}")).unwrap();
        let mut build = diskwright();
        build.args(["build", "--dry-run"]).arg(&manifest);
        run(&mut build)
    };
    let mut koly = noise(4, 4096);
    koly[3584..3592].copy_from_slice(b"koly\0\0\0\x04");
    std::fs::write(at.join("a.dmg"), koly).unwrap();
    made(at, "a.xz", "xz", &["-0", "-c", "disk.raw"]);
    made(at, "a.tar", "tar", &["-c", "disk.raw"]);
    let mut refused = vec![
        ("a.dmg".to_owned(), "an Apple disk image"),
        ("a.xz".to_owned(), "an xz file"),
        ("a.tar".to_owned(), "a tar archive"),
    ];
    for format in ["qcow2", "vdi", "vmdk", "vhdx", "vpc"] {
        let name = format!("a.{format}");
        must(
            diskwright()
                .arg("convert")
                .arg(at.join("disk.raw"))
                .arg(at.join(&name))
                .args(["--format", format]),
        );
        refused.push((name, format));
    }
    for (name, what) in refused {
        let message = complaint(&build(&name, ""), 1);
        for part in [what, "disk.toml:3: image = ", "image_format = \"raw\""] {
            assert!(message.contains(part), "{name}: `{part}` is not in: {message}");
        }
        assert_eq!(build(&name, "image_format = \"raw\"\n").code, 0, "{name}");
    }
    for head in
        [&b"LUKS\xba\xbe\0\x02"[..], b"\xeb\x58\x90-FVE-FS-", b"\x7fELF\x01\x02\x01", b"\x27\x05\x19\x56"]
    {
        std::fs::write(at.join("volume"), [head, &noise(7, 4096)].concat()).unwrap();
        assert_eq!(build("volume", "").code, 0, "{head:02x?}");
    }
}
