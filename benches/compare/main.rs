//! Whole commands side by side: `cargo bench --bench compare [-- GROUP …]`.
//!
//! Every group runs its commands in turn, five rounds after one to warm up, and prints the median of each with its
//! ratio to the first. Only ratios of one run mean something: machines differ, and so do their moods. Needs e2fsprogs,
//! tar, coreutils, qemu-utils, and for `nixos` dosfstools, mtools, gdisk and systemd-boot-efi; `target/bench` takes about
//! 12 GB.

#![expect(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure stops and says why")]

mod floor;
mod nixos;
mod run;
mod trees;

use std::path::{Path, PathBuf};

use run::{Case, Group, program};

/// A group: makes its trees in the folder it is given, and runs.
type Run = fn(&Path);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    // The floor is timed as a process, like all others, so this program is one of the commands.
    if let [first, list, out, jobs] = arguments.as_slice()
        && first == "floor"
    {
        return floor::copy(Path::new(list), Path::new(out), jobs.parse().expect("jobs is a number"));
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compare");
    std::fs::create_dir_all(&folder).expect("the folder for the trees can be made");
    let known: [(&str, Run); 7] = [
        ("ext4", ext4),
        ("million", million),
        ("small", small),
        ("containers", containers),
        ("convert", convert),
        ("compression", compression),
        ("nixos", nixos::run),
    ];
    for name in &arguments {
        assert!(known.iter().any(|(known, _)| known == name), "no group {name}");
    }
    for (name, group) in known {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == name) {
            group(&folder);
        }
    }
}

/// How many threads everything gets that takes a number.
fn jobs() -> String {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).to_string()
}

/// A store of at least 45,000 files and 1.7 GB into one ext4 filesystem.
fn ext4(folder: &Path) {
    let tree = trees::store(folder);
    let list = trees::list(&tree, folder);
    let image = folder.join("out.img");
    let floor = folder.join("floor.img");
    let copy = folder.join("copy");
    let size = format!("{}K", trees::bytes(&tree) / 1024 * 5 / 4 + 262_144);
    let own = std::env::current_exe().expect("this program has a path");
    let shell = format!("tar -cf - -C {} . | cat > /dev/null", tree.display());
    Group {
        title: "ext4: a store of small files into one image",
        cases: vec![
            Case::new("floor: the same bytes into one sparse file", &own)
                .args([Path::new("floor"), &list, &floor, Path::new(&jobs())])
                .makes(&floor),
            Case::new("diskwright mkfs ext4", program())
                .args([Path::new("mkfs"), Path::new("ext4"), &tree, Path::new("-o"), &image])
                .makes(&image),
            Case::new("mke2fs -d", "mke2fs")
                .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-d"])
                .args([&tree, &image])
                .args([&size])
                .makes(&image),
            Case::new("cp -a", "cp").args([Path::new("-a"), &tree, &copy]).makes(&copy),
            Case::new("tar | cat", "sh").args(["-c", &shell]),
        ],
    }
    .run();
}

/// Time and memory per file at 100,000 and at 1,000,000 files. A million make 6.4 GB: into a file, that is more than a
/// host takes before it begins to write to its disk, so the same as a stream shows what of the time is the program's.
fn million(folder: &Path) {
    let image = folder.join("out.img");
    let counts = [100_000, 1_000_000];
    for (title, out) in [
        ("ext4: time and memory by the number of files, into a file", image.as_path()),
        ("ext4: time and memory by the number of files, as a stream", Path::new("-")),
    ] {
        let case = |count| {
            let tree = trees::many(folder, count);
            let case = Case::new(&format!("diskwright mkfs ext4, {count} files"), program())
                .args([Path::new("mkfs"), Path::new("ext4"), &tree, Path::new("-o"), out])
                .per(count);
            if out == image { case.makes(&image) } else { case }
        };
        Group { title, cases: counts.map(case).into() }.run();
    }
}

/// A small tree, where what counts is starting.
fn small(folder: &Path) {
    let tree = trees::small(folder);
    let image = folder.join("out.img");
    let command = [Path::new("mkfs"), Path::new("ext4"), &tree, Path::new("-o"), &image];
    Group {
        title: "ext4: a tree of 10 MiB",
        cases: vec![Case::new("diskwright mkfs ext4", program()).args(command).makes(&image)],
    }
    .run();
}

/// The whole way from files to an image in each plain format.
fn containers(folder: &Path) {
    let tree = trees::store(folder);
    let image = folder.join("out.img");
    let size = format!("{}K", trees::bytes(&tree) / 1024 * 5 / 4 + 262_144);
    let shell = format!(
        "mke2fs -q -F -t ext4 -b 4096 -d {0} {1}.raw {size} && qemu-img convert -f raw -O qcow2 {1}.raw {1}; rm {1}.raw",
        tree.display(),
        image.display()
    );
    let mut cases = Vec::new();
    for format in ["raw", "qcow2", "vpc", "vdi", "vmdk", "vhdx"] {
        cases.push(
            Case::new(&format!("diskwright mkfs ext4 --format {format}"), program())
                .args([Path::new("mkfs"), Path::new("ext4"), &tree, Path::new("-o"), &image])
                .args(["--format", format])
                .makes(&image),
        );
    }
    cases.push(Case::new("mke2fs -d, qemu-img convert to qcow2", "sh").args(["-c", &shell]).makes(&image));
    Group { title: "containers: from files to each plain format", cases }.run();
}

/// One raw file into each plain format.
fn convert(folder: &Path) {
    let tree = trees::store(folder);
    let raw = trees::raw(folder, &tree);
    let image = folder.join("out.img");
    for format in ["raw", "qcow2", "vpc", "vdi", "vmdk", "vhdx"] {
        let ours = Case::new(&format!("diskwright convert --format {format}"), program())
            .args([Path::new("convert"), &raw, &image])
            .args(["--format", format])
            .makes(&image);
        let theirs = Case::new(&format!("qemu-img convert -O {format}"), "qemu-img")
            .args(["convert", "-f", "raw", "-O", format])
            .args([&raw, &image])
            .makes(&image);
        Group { title: "convert: one raw file into another format", cases: vec![theirs, ours] }.run();
    }
}

/// Compression alone, on one raw file.
fn compression(folder: &Path) {
    let tree = trees::store(folder);
    let raw = trees::raw(folder, &tree);
    let image = folder.join("out.qcow2");
    for codec in ["zlib", "zstd"] {
        let option = format!("compression_type={codec}");
        let theirs = Case::new(&format!("qemu-img convert -c -m 8 -W, {codec}"), "qemu-img")
            .args(["convert", "-f", "raw", "-O", "qcow2", "-c", "-m", "8", "-W", "-o", &option])
            .args([&raw, &image])
            .makes(&image);
        let ours = Case::new(&format!("diskwright convert --compress {codec}"), program())
            .args([Path::new("convert"), &raw, &image])
            .args(["--compress", codec])
            .makes(&image);
        Group { title: "compression: one raw file into compressed qcow2", cases: vec![theirs, ours] }.run();
    }
}
