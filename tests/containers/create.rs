//! `create` beside `qemu-img create`.

use diskwright::units::{GIB, MIB, TIB};

use crate::hostile::complaint;
use crate::judge::{check, qemu_img, virtual_size};
use crate::rows::ROWS;
use crate::tools::{digest, must, run, scratch};

pub(crate) use crate::support::program::diskwright;

#[test]
fn empty_disks_are_as_large_as_those_of_qemu() {
    for row in ROWS {
        let Some(options) = row.qemu else { continue };
        let format = row.format.qemu_name();
        let options = if options.is_empty() { Vec::new() } else { vec!["-o", options] };
        for size in [0, 512, 513, MIB, 5 * GIB + 512, 127 * GIB, 2000 * GIB, 3 * TIB] {
            if size > row.largest || size < row.smallest {
                continue;
            }
            let folder = scratch();
            let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
            let text = size.to_string();
            must(diskwright().arg("create").arg(&ours).args(["--size", &text]).args(row.arguments()));
            let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"create", &"-q", &"-f", &format];
            arguments.extend(options.iter().map(|option| -> &dyn AsRef<std::ffi::OsStr> { option }));
            // QEMU counts in sectors. If our format rounds otherwise, QEMU gets the rounded size.
            let text = (row.rounds)(size).to_string();
            arguments.extend::<[&dyn AsRef<std::ffi::OsStr>; 2]>([&theirs, &text]);
            qemu_img(&arguments);
            let name = format!("{}, {size} bytes", row.name);
            assert_eq!(virtual_size(format, &ours), virtual_size(format, &theirs), "{name}");
            if row.checks {
                check(format, &ours).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            assert!(row.open(&ours).unwrap().image.segments().is_empty(), "{name}");
        }
    }
}

/// A file further down the chain is not lost either.
#[test]
fn no_file_of_its_own_chain_is_replaced() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    qemu_img(&[&"create", &"-q", &"-f", &"qcow2", &path("a.qcow2"), &"10M"]);
    for (below, name) in [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")] {
        let arguments = ["-b", &format!("{below}.qcow2"), "-F", "qcow2"];
        must(diskwright().arg("create").arg(path(&format!("{name}.qcow2"))).args(arguments));
    }
    let before = digest(&path("a.qcow2"));
    for name in ["a", "b", "c", "d", "e"] {
        let mut create = diskwright();
        create.arg("create").arg(path(&format!("{name}.qcow2"))).args(["-b", "e.qcow2", "-F", "qcow2"]);
        assert!(complaint(&run(&mut create), 2).contains("its own backing file"), "{name}");
    }
    assert_eq!(digest(&path("a.qcow2")), before);
    assert_eq!(virtual_size("qcow2", &path("e.qcow2")), 10 * MIB);
}

/// VDI ends where QEMU's limit is; a larger one is refused with the exact numbers and the path.
#[test]
fn the_largest_vdi_is_one_to_qemu() {
    let folder = scratch();
    let path = folder.path().join("disk.vdi");
    must(diskwright().arg("create").arg(&path).args(["--size", "536870784MiB"]));
    assert_eq!(virtual_size("vdi", &path), 536_870_784 * MIB);
    std::fs::remove_file(&path).unwrap();
    let message = complaint(&run(diskwright().arg("create").arg(&path).args(["--size", "536870785MiB"])), 1);
    assert!(message.contains("536870784MiB") && message.contains("found: 536870785MiB"), "{message}");
}
