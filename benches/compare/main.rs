//! Whole commands side by side: `cargo bench --bench compare [-- GROUP …]`.
//!
//! Every group runs its commands in turn, at least five rounds after one to warm up. It prints the median of
//! each command with its ratio to the first, the ratio of the smallest times, which a busy machine disturbs
//! less, and the processor time. Only ratios within one run mean something, because machines and their load
//! differ. It needs e2fsprogs, tar, coreutils, qemu-utils, and for `nixos` dosfstools, mtools, gdisk and
//! systemd-boot-efi; `target/tmp/compare` takes about 20 GB.
//!
//! `soak` compares nothing: it reads a served disk at random for ten minutes.
//!
//! `release` compares the program with an older one (`DISKWRIGHT_BASELINE`, or `DISKWRIGHT_REVISION`, which
//! is built). With `DISKWRIGHT_SID` the newest mke2fs and qemu-img are compared too;
//! `readonly` compares only with the newest programs.

#![expect(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure stops and says why")]

mod archives;
mod floor;
mod look;
mod nixos;
mod others;
mod readonly;
mod run;
mod serve;
mod soak;
mod trees;
mod vm;
mod zfs;

use std::path::{Path, PathBuf};

use others::Newest;
use run::{Case, Group, program};

/// The group that compares nothing, and runs only where it is named.
const SOAK: &str = "soak";

/// A group: makes its trees in the given folder, and runs.
type Run = fn(&Path);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    // The floor is timed as a process, like all others, so this program is one of the commands.
    if let [first, list, out, jobs] = arguments.as_slice()
        && first == "floor"
    {
        return floor::copy(Path::new(list), Path::new(out), jobs.parse().expect("jobs is a number"));
    }
    if let [first, list, jobs] = arguments.as_slice()
        && first == "records"
    {
        return zfs::records(Path::new(list), jobs.parse().expect("jobs is a number"));
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compare");
    std::fs::create_dir_all(&folder).expect("the folder for the trees can be made");
    let known: &[(&str, Run)] = &[
        ("release", release),
        ("ext4", ext4),
        ("million", million),
        ("small", small),
        ("containers", containers),
        ("convert", convert),
        ("compression", compression),
        ("nixos", nixos::run),
        ("serve", serve::run),
        ("vm", vm::run),
        (SOAK, soak::run),
        ("zfs", zfs::run),
        ("look", look::run),
        ("readonly", readonly::run),
        ("archives", archives::run),
    ];
    for name in &arguments {
        assert!(known.iter().any(|(known, _)| known == name), "no group {name}");
    }
    for (name, group) in known {
        if (arguments.is_empty() && *name != SOAK) || arguments.iter().any(|argument| argument == name) {
            group(&folder);
        }
    }
}

/// The number of threads for every command that takes one.
fn jobs() -> String {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).to_string()
}

/// The older program and the present one: trees of small files, and a store, each into a raw file and as a
/// stream.
fn release(folder: &Path) {
    let baseline = others::baseline(folder);
    let image = folder.join("out.img");
    for (title, tree, rounds) in [
        ("release: 10,000 small files", trees::many(folder, 10_000), 15),
        ("release: 100,000 small files", trees::many(folder, 100_000), 9),
        ("release: a store of 47,000 files or more", trees::store(folder), 9),
        ("release: 1,000,000 small files", trees::many(folder, 1_000_000), 5),
    ] {
        let case = |name: &str, program: &Path| {
            let arguments = [Path::new("mkfs"), Path::new("ext4"), &tree, Path::new("-o"), &image];
            Case::new(name, program).args(arguments).makes(&image)
        };
        let cases = vec![
            case("as it was", &baseline),
            case("as it is", Path::new(program())),
            floor_of(&tree, folder),
        ];
        Group { title, cases }.run_rounds(rounds);
    }
}

/// The floor for the files of a tree.
fn floor_of(tree: &Path, folder: &Path) -> Case {
    let (list, floor) = (trees::list(tree, folder), folder.join("floor.img"));
    let own = std::env::current_exe().expect("this program has a path");
    Case::new("floor: the same bytes into one sparse file", &own)
        .args([Path::new("floor"), &list, &floor, Path::new(&jobs())])
        .makes(&floor)
}

/// A store of at least 45,000 files and 1.7 GB into one ext4 filesystem.
fn ext4(folder: &Path) {
    let tree = trees::store(folder);
    let image = folder.join("out.img");
    let copy = folder.join("copy");
    let size = format!("{}K", trees::bytes(&tree) / 1024 * 5 / 4 + 262_144);
    let shell = format!("tar -cf - -C {} . | cat > /dev/null", tree.display());
    let mke2fs = |case: Case| {
        case.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-d"])
            .args([&tree, &image])
            .args([&size])
            .makes(&image)
    };
    let mut cases = vec![
        floor_of(&tree, folder),
        Case::new("diskwright mkfs ext4", program())
            .args([Path::new("mkfs"), Path::new("ext4"), &tree, Path::new("-o"), &image])
            .makes(&image),
        mke2fs(Case::new("mke2fs -d", "mke2fs")),
        Case::new("cp -a", "cp").args([Path::new("-a"), &tree, &copy]).makes(&copy),
        Case::new("tar | cat", "sh").args(["-c", &shell]),
    ];
    if let Some(newest) = Newest::find() {
        cases.push(mke2fs(newest.case("mke2fs -d", "sbin/mke2fs")));
    }
    Group { title: "ext4: a store of small files into one image", cases }.run();
}

/// Time and memory for each file at 100,000 and at 1,000,000 files. A million files make 6.4 GB, which is
/// more than a host accepts before it begins to write to its disk. So a stream shows how much of the time is
/// the program's.
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

/// A small tree, where the time to start counts most.
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
    let shell = |mke2fs: &str, qemu_img: &str| {
        let (tree, image) = (tree.display(), image.display());
        format!(
            "{mke2fs} -q -F -t ext4 -b 4096 -d {tree} {image}.raw {size} && \
             {qemu_img} convert -f raw -O qcow2 {image}.raw {image}; rm {image}.raw"
        )
    };
    let mut cases = Vec::new();
    for format in ["raw", "qcow2", "vpc", "vdi", "vmdk", "vhdx"] {
        cases.push(
            Case::new(&format!("diskwright mkfs ext4 --format {format}"), program())
                .args([Path::new("mkfs"), Path::new("ext4"), &tree, Path::new("-o"), &image])
                .args(["--format", format])
                .makes(&image),
        );
    }
    let theirs = |name: &str, shell: String| Case::new(name, "sh").args(["-c", &shell]).makes(&image);
    cases.push(theirs("mke2fs -d, qemu-img convert to qcow2", shell("mke2fs", "qemu-img")));
    if let Some(newest) = Newest::find() {
        let shell = shell(&newest.words("sbin/mke2fs"), &newest.words("bin/qemu-img"));
        cases.push(theirs("the same, of Debian sid", shell));
    }
    Group { title: "containers: from files to each plain format", cases }.run();
}

/// One raw file into each plain format.
fn convert(folder: &Path) {
    let tree = trees::store(folder);
    let raw = trees::raw(folder, &tree);
    let image = folder.join("out.img");
    let newest = Newest::find();
    for format in ["raw", "qcow2", "vpc", "vdi", "vmdk", "vhdx"] {
        let ours = Case::new(&format!("diskwright convert --format {format}"), program())
            .args([Path::new("convert"), &raw, &image])
            .args(["--format", format])
            .makes(&image);
        let convert =
            |case: Case| case.args(["convert", "-f", "raw", "-O", format]).args([&raw, &image]).makes(&image);
        let name = format!("qemu-img convert -O {format}");
        let mut cases = vec![convert(Case::new(&name, "qemu-img")), ours];
        cases.extend(newest.iter().map(|newest| convert(newest.case(&name, "bin/qemu-img"))));
        Group { title: "convert: one raw file into another format", cases }.run();
    }
}

/// Compression alone, on one raw file.
fn compression(folder: &Path) {
    let tree = trees::store(folder);
    let raw = trees::raw(folder, &tree);
    let image = folder.join("out.qcow2");
    let newest = Newest::find();
    for codec in ["zlib", "zstd"] {
        let option = format!("compression_type={codec}");
        let convert = |case: Case| {
            case.args(["convert", "-f", "raw", "-O", "qcow2", "-c", "-m", "8", "-W", "-o", &option])
                .args([&raw, &image])
                .makes(&image)
        };
        let name = format!("qemu-img convert -c -m 8 -W, {codec}");
        let ours = Case::new(&format!("diskwright convert --compress {codec}"), program())
            .args([Path::new("convert"), &raw, &image])
            .args(["--compress", codec])
            .makes(&image);
        let mut cases = vec![convert(Case::new(&name, "qemu-img")), ours];
        cases.extend(newest.iter().map(|newest| convert(newest.case(&name, "bin/qemu-img"))));
        Group { title: "compression: one raw file into compressed qcow2", cases }.run();
    }
}
