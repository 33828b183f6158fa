//! Images by foreign writers: our reader sees the disk that they were given.

use diskwright::container::{Format, OpenOptions, open};

use crate::judge::{qemu_img, same, virtual_size};
use crate::samples::{Fill, Sample, sized, usual};
use crate::tools::scratch;
use crate::written::raw;
use diskwright::units::{GIB, MIB, TIB};

/// A format of `qemu-img convert` with options.
pub(crate) struct Foreign {
    pub(crate) format: Format,
    /// The value of `-o`.
    pub(crate) options: &'static str,
    /// Other arguments, as `-c`.
    pub(crate) arguments: &'static [&'static str],
    /// The smallest and the largest disk.
    pub(crate) smallest: u64,
    pub(crate) largest: u64,
}

const fn qcow2(options: &'static str) -> Foreign {
    Foreign { format: Format::Qcow2, options, arguments: &[], smallest: 0, largest: u64::MAX }
}

const fn compressed(options: &'static str) -> Foreign {
    Foreign { arguments: &["-c"], ..qcow2(options) }
}

const fn vpc(options: &'static str) -> Foreign {
    Foreign { format: Format::Vhd, options, arguments: &[], smallest: 0, largest: 2040 * GIB }
}

const fn vdi(options: &'static str) -> Foreign {
    Foreign { format: Format::Vdi, options, arguments: &[], smallest: 0, largest: u64::MAX }
}

/// QEMU takes the footer of a fixed disk without data for the copy of a dynamic disk's footer, even in its
/// own files.
const fn vpc_fixed(options: &'static str) -> Foreign {
    Foreign { smallest: 512, ..vpc(options) }
}

const fn vmdk(options: &'static str) -> Foreign {
    Foreign { format: Format::Vmdk, smallest: 512, ..qcow2(options) }
}

const fn vhdx(options: &'static str) -> Foreign {
    Foreign { format: Format::Vhdx, largest: 64 * TIB, smallest: 512, ..qcow2(options) }
}

/// All of them.
pub(crate) const FOREIGN: &[Foreign] = &[
    qcow2("compat=0.10"),
    qcow2("compat=1.1"),
    Foreign { largest: TIB / 8, ..qcow2("cluster_size=512") },
    qcow2("cluster_size=4k"),
    qcow2("cluster_size=2M"),
    Foreign { largest: TIB / 8, ..qcow2("compat=0.10,cluster_size=512") },
    qcow2("extended_l2=on,cluster_size=128k"),
    qcow2("extended_l2=on,cluster_size=16k"),
    qcow2("extended_l2=on,cluster_size=2M"),
    qcow2("refcount_bits=1"),
    qcow2("refcount_bits=2"),
    qcow2("refcount_bits=4"),
    qcow2("refcount_bits=8"),
    qcow2("refcount_bits=32"),
    qcow2("refcount_bits=64"),
    qcow2("lazy_refcounts=on"),
    compressed("compat=0.10"),
    compressed("compression_type=zlib"),
    compressed("compression_type=zstd"),
    compressed("compression_type=zlib,cluster_size=4k"),
    compressed("compression_type=zstd,cluster_size=2M"),
    compressed("extended_l2=on,compression_type=zstd"),
    vpc("subformat=dynamic"),
    vpc("subformat=dynamic,force_size=on"),
    vpc_fixed("subformat=fixed"),
    vpc_fixed("subformat=fixed,force_size=on"),
    vdi(""),
    vdi("static=on"),
    vmdk(""),
    vmdk("subformat=monolithicSparse,adapter_type=lsilogic"),
    vmdk("adapter_type=buslogic,compat6=on"),
    vmdk("adapter_type=legacyESX,hwversion=11,toolsversion=10000"),
    vmdk("zeroed_grain=on"),
    vmdk("subformat=streamOptimized"),
    vmdk("subformat=streamOptimized,adapter_type=lsilogic"),
    vhdx(""),
    vhdx("subformat=dynamic,block_size=1M,log_size=2M"),
    vhdx("subformat=dynamic,block_size=256M,block_state_zero=off"),
    vhdx("subformat=dynamic,block_size=4M,block_state_zero=on"),
    vhdx("subformat=fixed"),
    vhdx("subformat=fixed,block_size=1M"),
];

/// The disks that are written.
fn samples() -> Vec<Sample> {
    let far =
        Sample::new("far", 2 * TIB + 512, &[(0, 5000, Fill::Noise), (2 * TIB - 5000, 5512, Fill::Text)]);
    vec![
        sized(0, 65_536),
        sized(512, 65_536),
        sized(65_536 * 3 + 512, 65_536),
        usual(),
        Sample::new("hole", GIB, &[]),
        sized(9 * MIB + 512, 2 * MIB),
        far,
    ]
}

#[test]
fn what_qemu_writes_reads_as_it_was() {
    for sample in samples() {
        let folder = scratch();
        let image = sample.image();
        let raw = raw(&image, folder.path());
        let fits = |foreign: &&Foreign| (foreign.smallest..=foreign.largest).contains(&sample.length);
        for foreign in FOREIGN.iter().filter(fits) {
            let name = format!("{} -o {} {}", foreign.format, foreign.options, sample.name);
            let path = folder.path().join("disk.out");
            let format = foreign.format.qemu_name();
            let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
                vec![&"convert", &"-f", &"raw", &"-O", &format];
            if !foreign.options.is_empty() {
                arguments.extend::<[&dyn AsRef<std::ffi::OsStr>; 2]>([&"-o", &foreign.options]);
            }
            arguments
                .extend(foreign.arguments.iter().map(|argument| -> &dyn AsRef<std::ffi::OsStr> { argument }));
            arguments.extend::<[&dyn AsRef<std::ffi::OsStr>; 2]>([&raw, &path]);
            qemu_img(&arguments);
            let opened =
                open(&path, &OpenOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(opened.format, foreign.format, "{name}");
            assert_eq!(opened.image.length().get(), virtual_size(format, &path), "{name}");
            same(&image, &opened.image).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

/// Preallocated clusters are there and zero.
#[test]
fn preallocation_of_every_kind_reads_as_zeros() {
    for kind in ["off", "metadata", "falloc", "full"] {
        let folder = scratch();
        let path = folder.path().join("disk.out");
        let option = format!("preallocation={kind}");
        qemu_img(&[&"create", &"-q", &"-f", &"qcow2", &"-o", &option, &path, &"3M"]);
        let opened = open(&path, &OpenOptions::default()).unwrap();
        same(&Sample::new("hole", 3 * MIB, &[]).image(), &opened.image).unwrap();
    }
}
