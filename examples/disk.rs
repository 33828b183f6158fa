//! A disk with an EFI system partition and an ext4 root, from Rust: `cargo run --example disk -- ROOTFS OUT.qcow2`.

use std::path::{Path, PathBuf};

use diskwright::container::{Container, Format};
use diskwright::disk::{Contents, Disk, Partition, Work};
use diskwright::error::Result;
use diskwright::filesystem::{ext4, fat};
use diskwright::identity::Seed;
use diskwright::table::Type;
use diskwright::units::Bytes;
use diskwright::uuid::uuid;

fn write(rootfs: &Path, out: &Path) -> Result<()> {
    let esp = Contents::new().file("/loader/loader.conf", *b"timeout 3\n");
    let root = Contents::new().folder(rootfs, "/").directory("/tmp", 0o1777);
    let disk = Disk::gpt(Seed::new(uuid!("0867da16-f251-457d-a9e8-c31f9a3c220b")))
        .partition(
            Partition::new(Type::ESP)
                .label("ESP")
                .size(Bytes::mib(64))
                .filesystem(fat::Options::default(), esp),
        )
        .partition(Partition::new(Type::LINUX).label("root").filesystem(ext4::Options::default(), root));
    let work = Work { container: Container::of(Format::Qcow2), ..Work::default() };
    disk.build(&work)?.write(out, &work)
}

fn main() -> std::process::ExitCode {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [rootfs, out] = paths.as_slice() else {
        eprintln!("usage: disk ROOTFS OUT.qcow2");
        return std::process::ExitCode::from(2);
    };
    match write(rootfs, out) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}
