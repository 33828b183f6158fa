//! `create` beside `qemu-img create`.

use std::process::Command;

use diskwright::units::{GIB, MIB, TIB};

use crate::judge::{check, qemu_img, virtual_size};
use crate::rows::ROWS;
use crate::tools::{must, quiet, scratch};

/// The program, with a bare environment.
pub(crate) fn diskwright() -> Command {
    quiet(Command::new(env!("CARGO_BIN_EXE_diskwright")))
}

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
            // QEMU counts in sectors; a format that we count otherwise has the size that it is to have.
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
