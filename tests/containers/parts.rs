//! VMDK in several files, its controller and hardware, and qcow2 of version 2, as QEMU and others read them.

use std::path::Path;

use crate::create::diskwright;
use crate::hostile::complaint;
use crate::judge::{compare, qemu_img};
use crate::samples::usual;
use crate::tools::{command, digest, must, names_in, run, scratch};
use crate::written::raw;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        names_in(folder).into_iter().map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_vmdk_in_several_files_is_the_disk() {
    let folder = scratch();
    let file = raw(&usual().image(), folder.path());
    for (subformat, others) in [
        ("monolithicFlat", &["disk-flat.vmdk"][..]),
        ("twoGbMaxExtentSparse", &["disk-s001.vmdk"]),
        ("twoGbMaxExtentFlat", &["disk-f001.vmdk"]),
    ] {
        let out = folder.path().join(subformat);
        std::fs::create_dir(&out).unwrap();
        let disk = out.join("disk.vmdk");
        let mut convert = diskwright();
        convert.arg("convert").arg(&file).arg(&disk).args(["--subformat", subformat]);
        must(convert.args(["--adapter", "lsilogic", "--hardware-version", "13"]));
        let mut expected: Vec<String> = others.iter().map(|name| (*name).to_owned()).collect();
        expected.push("disk.vmdk".to_owned());
        expected.sort();
        assert_eq!(names(&out), expected);
        compare(&file, "vmdk", &disk).unwrap();
        let said = must(command("qemu-img").args(["info", "--output=json"]).arg(&disk));
        let facts: serde_json::Value = serde_json::from_slice(&said.out).unwrap();
        assert_eq!(facts["format-specific"]["data"]["create-type"], subformat);
        let text = std::fs::read_to_string(&disk).unwrap();
        for line in ["ddb.adapterType = \"lsilogic\"", "ddb.virtualHWVersion = \"13\""] {
            assert!(text.lines().any(|own| own == line), "{text}");
        }
        // It is read back by the names in it, if that is allowed.
        let back = folder.path().join("back.img");
        must(diskwright().arg("convert").arg(&disk).arg(&back).arg("--allow-backing"));
        assert_eq!(digest(&back), digest(&file), "{subformat}");
        // QEMU writes to it, and finds what it wrote.
        let mut io = command("qemu-io");
        must(io.args(["-f", "vmdk", "-c", "write -P 7 1M 64k", "-c", "read -P 7 1M 64k"]).arg(&disk));
        // The same again is the same, and all files are replaced together.
        let mut convert = diskwright();
        must(convert.arg("convert").arg(&file).arg(&disk).args(["--subformat", subformat]));
        compare(&file, "vmdk", &disk).unwrap();
    }
}

/// A disk of more than two parts, mostly holes, whose data crosses the cuts.
#[test]
fn parts_are_cut_where_their_descriptor_says() {
    let folder = scratch();
    let file = folder.path().join("large.img");
    let script = "truncate -s 5000000512 \"$0\"
        for at in 0 2146435000 2146436000 4292870144 4999999000; do
            printf 'here %s' $at | dd of=\"$0\" bs=1 seek=$at conv=notrunc status=none
        done";
    must(command("sh").args(["-ec", script]).arg(&file));
    for (subformat, letter) in [("twoGbMaxExtentSparse", 's'), ("twoGbMaxExtentFlat", 'f')] {
        let disk = folder.path().join("disk.vmdk");
        must(diskwright().arg("convert").arg(&file).arg(&disk).args(["--subformat", subformat]));
        compare(&file, "vmdk", &disk).unwrap();
        let parts: Vec<String> =
            names(folder.path()).into_iter().filter(|name| name.contains("disk-")).collect();
        let expected: Vec<String> = (1..=3).map(|number| format!("disk-{letter}00{number}.vmdk")).collect();
        assert_eq!(parts, expected);
        for part in parts {
            let length = std::fs::metadata(folder.path().join(&part)).unwrap().len();
            assert!(length < 1 << 31, "{part}: {length}");
            std::fs::remove_file(folder.path().join(part)).unwrap();
        }
    }
}

#[test]
fn what_several_files_cannot_be_is_refused() {
    let folder = scratch();
    let file = raw(&usual().image(), folder.path());
    for (name, arguments, words) in [
        ("a\"b.vmdk", &["--subformat", "monolithicFlat"][..], "cannot name files"),
        ("a:b.vmdk", &["--subformat", "monolithicFlat"], "cannot name files"),
        ("a.vmdk", &["--hardware-version", "2"], "3 to 99"),
        ("a.vmdk", &["--adapter", "nvme"], "legacyESX"),
        ("a.qcow2", &["--adapter", "ide"], "qcow2 does not have a controller"),
        ("a.vmdk", &["--qcow2-compat", "0.10"], "vmdk does not have"),
        ("a.qcow2", &["--qcow2-compat", "0.9"], "0.10 (version 2)"),
        ("a.qcow2", &["--qcow2-compat", "0.10", "--compress", "zstd"], "version 2 of qcow2 has no zstd"),
    ] {
        let said = run(diskwright().arg("convert").arg(&file).arg(folder.path().join(name)).args(arguments));
        let message = said.error();
        assert!(said.code == 2 && message.contains(words), "no `{words}` in\n{message}");
    }
    let said = run(diskwright().arg("convert").arg(&file).args([
        "-",
        "--format",
        "vmdk",
        "--subformat",
        "monolithicFlat",
    ]));
    assert!(complaint(&said, 2).contains("cannot be streamed"));
}

#[test]
fn a_qcow2_of_version_2_is_one() {
    let folder = scratch();
    let file = raw(&usual().image(), folder.path());
    let disk = folder.path().join("disk.qcow2");
    for arguments in [&[][..], &["--compress", "zlib"], &["--cluster-size", "512"]] {
        must(
            diskwright()
                .arg("convert")
                .arg(&file)
                .arg(&disk)
                .args(["--qcow2-compat", "0.10"])
                .args(arguments),
        );
        let bytes = std::fs::read(&disk).unwrap();
        assert_eq!(bytes[4..8], 2_u32.to_be_bytes());
        let said = must(command("qemu-img").args(["info", "--output=json"]).arg(&disk));
        let facts: serde_json::Value = serde_json::from_slice(&said.out).unwrap();
        assert_eq!(facts["format-specific"]["data"]["compat"], "0.10");
        must(command("qemu-img").args(["check", "-q"]).arg(&disk));
        compare(&file, "qcow2", &disk).unwrap();
        let back = folder.path().join("back.img");
        must(diskwright().arg("convert").arg(&disk).arg(&back));
        assert_eq!(digest(&back), digest(&file), "{arguments:?}");
    }
    // An overlay, and growth by QEMU.
    let over = folder.path().join("over.qcow2");
    must(diskwright().arg("create").arg(&over).args([
        "--qcow2-compat",
        "0.10",
        "-b",
        "disk.qcow2",
        "-F",
        "qcow2",
    ]));
    compare(&file, "qcow2", &over).unwrap();
    qemu_img(&[&"resize", &"-q", &disk, &"1G"]);
    must(command("qemu-img").args(["check", "-q"]).arg(&disk));
}
