//! Faults that are planted by the declarations of all structures: in each field, one at a time. Whatever the tool of a
//! format reports, `check` reports. docs/faults.md has the table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use diskwright::container::OpenOptions;
use diskwright::look::Medium;
use diskwright::look::check::{check, unopened};
use diskwright::look::report::{report, text};
use diskwright::progress::Progress;
use diskwright::structures;
use diskwright::wire::{Order, Structure};

use crate::support::debugfs::debugfs;
use crate::support::program::{build, mkfs_erofs, mkfs_ext4, mkfs_squashfs, mkfs_vfat, project};
use crate::support::tools::{command, must, run, scratch};
use crate::support::{ext4, table, tree};

/// Says whether the tool of a format reports something.
type Judge = fn(&Path) -> bool;

/// An image, its judge, and where structures lie in it.
struct Subject {
    name: &'static str,
    tool: &'static str,
    image: PathBuf,
    judge: Judge,
    places: Vec<(&'static str, u64)>,
}

/// What `check` reports. `report` must bear the same image.
fn ours(image: &Path) -> Vec<String> {
    let mut found = Vec::new();
    match Medium::open(image, &OpenOptions::default()) {
        Ok(medium) => {
            check(&medium, None, &mut |finding| {
                if !finding.unjudged {
                    found.push(finding.to_string());
                }
                Ok(())
            })
            .unwrap();
            let _ = text(&report((&medium, None), None, &Progress::default()).unwrap(), 80);
        }
        Err(error) => found.push(unopened(error).unwrap().to_string()),
    }
    found
}

fn qemu(image: &Path) -> bool {
    run(command("qemu-img").arg("check").arg(image)).code != 0
}

/// QEMU does not check a VHD; it opens it.
fn qemu_opens(image: &Path) -> bool {
    run(command("qemu-img").args(["info", "-f", "vpc"]).arg(image)).code != 0
}

fn e2fsck(image: &Path) -> bool {
    !ext4::remarks(image).is_empty()
}

fn fsck_fat(image: &Path) -> bool {
    let said = run(command("fsck.fat").arg("-n").arg(image));
    // Its own name, and the sum of files and clusters.
    let lines = said
        .text()
        .lines()
        .filter(|line| !line.starts_with("fsck.fat 4") && !line.contains(" files, "))
        .count();
    said.code != 0 || lines > 0
}

fn fsck_erofs(image: &Path) -> bool {
    run(command("fsck.erofs").arg(image)).code != 0
}

fn unsquashfs(image: &Path) -> bool {
    let said = run(command("unsquashfs").arg("-lls").arg(image));
    said.code != 0 || !said.err.is_empty()
}

fn tables(image: &Path) -> bool {
    !table::remarks(image).is_empty()
}

fn little(image: &Path, at: u64, length: usize) -> u64 {
    let mut bytes = [0; 8];
    File::open(image).unwrap().read_exact_at(&mut bytes[..length], at).unwrap();
    u64::from_le_bytes(bytes)
}

fn length(image: &Path) -> u64 {
    std::fs::metadata(image).unwrap().len()
}

/// The number that debugfs prints behind `words`.
fn number(image: &Path, command: &str, words: &str) -> u64 {
    let text = debugfs(image, &format!("{command}\n")).text();
    let behind = text.rsplit(words).next().unwrap().trim_start();
    behind
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap()
        .parse()
        .unwrap_or_else(|_| panic!("{command}: {text}"))
}

/// The structures of an ext4 with blocks of 4 KiB, in the files of [`crate::list::source`].
fn places_of_ext4(image: &Path) -> Vec<(&'static str, u64)> {
    let inode = |path: &str| {
        let number = number(image, &format!("stat {path}"), "Inode: ");
        let table = little(image, 4096 + 8, 4);
        table * 4096 + (number - 1) * 256
    };
    let block = |path: &str| number(image, &format!("bmap {path} 0"), &format!("bmap {path} 0\n")) * 4096;
    let (file, directory) = (inode("/etc/a.conf"), block("/etc"));
    vec![
        ("ext4 superblock", 1024),
        ("ext4 group descriptor", 4096),
        ("jbd2 superblock", block("<8>")),
        ("ext4 inode", file),
        ("ext4 extent header", file + 40),
        ("ext4 extent", file + 52),
        ("ext4 attribute header in an inode", file + 160),
        ("ext4 attribute entry", file + 164),
        ("ext4 directory entry", directory + 24),
    ]
}

fn fat32(folder: &Path) -> Subject {
    let fat = folder.join("fat32.img");
    let names = folder.join("names");
    tree::Maker::new(&names).file("A.TXT", "a").file("a long name.text", "b").directory("SUB").finish();
    mkfs_vfat(&names, &fat, &["--size", "40MiB", "--fat", "32"]);
    let (reserved, copies, each) = (little(&fat, 14, 2), little(&fat, 16, 1), little(&fat, 36, 4));
    let root = (reserved + copies * each) * 512;
    let of = |long: bool| {
        let entries = (0..16).map(|number| root + number * 32);
        let mut found =
            entries.filter(|at| little(&fat, *at, 1) != 0 && (little(&fat, *at + 11, 1) == 0x0f) == long);
        found.find(|at| long || little(&fat, *at + 11, 1) & 8 == 0).unwrap()
    };
    let places = vec![
        ("FAT BIOS parameter block", 11),
        ("FAT extended boot record", 64),
        ("FAT32 FSInfo sector", 512),
        ("FAT directory entry", of(false)),
        ("FAT long name entry", of(true)),
    ];
    Subject { name: "FAT32", tool: "fsck.fat -n", image: fat, judge: fsck_fat, places }
}

fn filesystems(folder: &Path, subjects: &mut Vec<Subject>) {
    let source = crate::list::source(folder);
    let ours = folder.join("ours.ext4");
    mkfs_ext4(&source, &ours, &["--owner", "preserve", "--size", "24MiB"]);
    let mut places = places_of_ext4(&ours);
    let directory =
        places.iter().find(|(title, _)| *title == "ext4 directory entry").unwrap().1 / 4096 * 4096;
    places.push(("ext4 directory tail", directory + 4084));
    subjects.push(Subject { name: "ext4", tool: "e2fsck -fn", image: ours, judge: e2fsck, places });
    // Without checksums, what a field says is all there is. It was made long ago, so that no change of a time leads to the
    // future.
    let plain = folder.join("plain.ext4");
    must(
        command("mke2fs")
            .env("E2FSPROGS_FAKE_TIME", "1000000000")
            .args(["-q", "-t", "ext4", "-O", "^metadata_csum", "-b", "4096"])
            .args(["-U", "0867da16-f251-457d-a9e8-c31f9a3c220b"])
            .args(["-E", "hash_seed=0867da16-f251-457d-a9e8-c31f9a3c220b", "-d"])
            .arg(&source)
            .arg(&plain)
            .arg("24M"),
    );
    let places = places_of_ext4(&plain);
    subjects.push(Subject {
        name: "ext4 without checksums, by mke2fs",
        tool: "e2fsck -fn",
        image: plain,
        judge: e2fsck,
        places,
    });

    subjects.push(fat32(folder));
    let erofs = folder.join("image.erofs");
    mkfs_erofs(&source, &erofs, &["--owner", "preserve"]);
    subjects.push(Subject {
        name: "EROFS",
        tool: "fsck.erofs",
        image: erofs,
        judge: fsck_erofs,
        places: vec![("erofs superblock", 1024)],
    });
    subjects.push(erofs_of_attributes(folder, &source));
    let squashfs = folder.join("image.squashfs");
    mkfs_squashfs(&source, &squashfs, &["--owner", "preserve"]);
    subjects.push(Subject {
        name: "SquashFS",
        tool: "unsquashfs -lls",
        image: squashfs,
        judge: unsquashfs,
        places: vec![("squashfs superblock", 0)],
    });
    let plain = folder.join("plain.squashfs");
    mkfs_squashfs(&source, &plain, &["--owner", "preserve", "--compress", "none"]);
    let places = places_of_squashfs(&plain);
    subjects.push(Subject {
        name: "SquashFS, not compressed",
        tool: "unsquashfs",
        image: plain,
        judge: unsquashed,
        places,
    });
}

/// Unpacks everything.
fn unsquashed(image: &Path) -> bool {
    let folder = scratch();
    let mut unsquashfs = command("unsquashfs");
    unsquashfs.args(["-q", "-n", "-f", "-d"]).arg(folder.path().join("out")).arg(image);
    let said = run(&mut unsquashfs);
    said.code != 0 || !said.err.is_empty()
}

fn extracted(image: &Path) -> bool {
    run(command("fsck.erofs").arg("--extract").arg(image)).code != 0
}

/// Structures behind the superblock: the root's inode and its second entry, and the attributes of a file.
fn erofs_of_attributes(folder: &Path, source: &Path) -> Subject {
    // The checksum of the superblock is over the first inodes, which would hide the faults. So the root's entries are too long
    // to stand beside it, and files fill what is left there before the one with attributes.
    let more = folder.join("more");
    let mut maker = tree::Maker::new(&more);
    for number in 0..60 {
        maker.file(format!("{number:02}-{}", "n".repeat(45)), tree::noise(number, 40));
    }
    maker.finish();
    let image = folder.join("attributes.erofs");
    let manifest = folder.join("attributes.toml");
    let text = format!(
        "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nfilesystem = {{ type = \"erofs\" }}\ncontents = [\n\
         {{ source = \"{}\", target = \"/\", owner = \"preserve\" }},\n{{ source = \"{}\", target = \"/zz\", owner = \"preserve\" }} ]\n",
        more.display(),
        source.display()
    );
    std::fs::write(&manifest, text).unwrap();
    build(&manifest, &image);
    let bytes = std::fs::read(&image).unwrap();
    let of = |text: &[u8]| {
        u64::try_from(bytes.windows(text.len()).position(|window| window == text).unwrap()).unwrap()
    };
    let root = little(&image, 1024 + 40, 4) * 4096 + 32 * little(&image, 1024 + 14, 2);
    assert!(root >= 4096, "the root is beside the superblock");
    let (title, length) = match little(&image, root, 2) & 1 {
        0 => ("erofs compact inode", 32),
        _ => ("erofs extended inode", 64),
    };
    // The attributes of the file begin with this one, by its name.
    let entry = of(b"bytes\x01\x02") - 4;
    assert!(entry >= 4096, "the attributes are beside the superblock");
    let places = vec![
        (title, root),
        ("erofs directory entry", root + length + 12),
        ("erofs xattr header", entry - 12),
        ("erofs xattr entry", entry),
    ];
    Subject { name: "EROFS, behind it", tool: "fsck.erofs --extract", image, judge: extracted, places }
}

/// The structures of a SquashFS whose tables are not compressed: the first of each kind.
fn places_of_squashfs(image: &Path) -> Vec<(&'static str, u64)> {
    let word = |at: u64| little(image, at, 8);
    let (mut at, mut places) = (word(64) + 2, vec![("squashfs inode head", word(64) + 2)]);
    let block = little(image, 12, 4);
    let end = word(72).min(at + 8192);
    while at + 16 < end {
        let kind = little(image, at, 2);
        let data = |size: u64, fragment: u64| match fragment {
            0xffff_ffff => 4 * size.div_ceil(block),
            _ => 4 * (size / block),
        };
        let (title, length) = match kind {
            1 => ("squashfs directory inode", 32),
            2 => ("squashfs file inode", 32 + data(little(image, at + 28, 4), little(image, at + 20, 4))),
            3 => ("squashfs symbolic link inode", 24 + little(image, at + 20, 4)),
            4 | 5 => ("squashfs device inode", 24),
            6 | 7 => ("squashfs pipe or socket inode", 20),
            9 => ("squashfs long file inode", 56 + data(word(at + 24), little(image, at + 44, 4))),
            // A long directory without an index.
            8 => ("squashfs long directory inode", 40),
            _ => break,
        };
        // Only root makes devices.
        if kind != 4 && kind != 5 && places.iter().all(|(own, _)| *own != title) {
            places.push((title, at));
        }
        at += length;
    }
    let (directories, fragments, attributes) = (word(72) + 2, word(80), word(56));
    places.extend([
        ("squashfs directory header", directories),
        ("squashfs directory entry", directories + 12),
        ("squashfs fragment entry", word(fragments) + 2),
        ("squashfs xattr table", attributes),
        ("squashfs xattr id", word(attributes + 16) + 2),
        ("squashfs xattr entry", word(attributes) + 2),
    ]);
    places
}

fn disks(folder: &Path, subjects: &mut Vec<Subject>) {
    let [gpt, mbr] = project(folder);
    let disk = |manifest: &Path, name: &str| {
        let disk = folder.join(name);
        build(manifest, &disk);
        disk
    };
    let image = disk(&gpt, "gpt.img");
    let end = length(&image);
    let places = vec![
        ("MBR partition record", 446),
        ("GPT header", 512),
        ("GPT entry", 1024),
        ("GPT header", end - 512),
        ("GPT entry", end - 33 * 512),
    ];
    subjects.push(Subject { name: "GPT", tool: "sgdisk -v, sfdisk --verify", image, judge: tables, places });
    let containers: [(_, _, Judge, _); 5] = [
        ("qcow2", "qcow2", qemu, "qemu-img check"),
        ("VDI", "vdi", qemu, "qemu-img check"),
        ("VMDK", "vmdk", qemu, "qemu-img check"),
        ("VHDX", "vhdx", qemu, "qemu-img check"),
        ("VHD", "vhd", qemu_opens, "qemu-img info"),
    ];
    for (name, suffix, judge, tool) in containers {
        let image = disk(&mbr, &format!("disk.{suffix}"));
        let kib = 1 << 10;
        let places = match suffix {
            "qcow2" => vec![("qcow2 header", 0)],
            "vdi" => vec![("VDI header", 0)],
            "vmdk" => vec![("VMDK header", 0)],
            "vhd" => {
                vec![("VHD footer", 0), ("VHD dynamic header", 512), ("VHD footer", length(&image) - 512)]
            }
            _ => {
                // The second region is that of the metadata.
                let metadata = little(&image, 192 * kib + 16 + 32 + 16, 8);
                vec![
                    ("VHDX metadata table header", metadata),
                    ("VHDX metadata table entry", metadata + 32),
                    ("VHDX file parameters", metadata + 64 * kib),
                    ("VHDX header", 64 * kib),
                    ("VHDX header", 128 * kib),
                    ("VHDX region table header", 192 * kib),
                    ("VHDX region table entry", 192 * kib + 16),
                    ("VHDX region table header", 256 * kib),
                ]
            }
        };
        subjects.push(Subject { name, tool, image, judge, places });
    }
}

fn subjects(folder: &Path) -> Vec<Subject> {
    let mut subjects = Vec::new();
    filesystems(folder, &mut subjects);
    disks(folder, &mut subjects);
    subjects
}

/// What became of the faults in one structure: the fields that the tool reports, and those that `check` reports.
#[derive(Default)]
struct Outcome {
    judged: Vec<String>,
    found: Vec<String>,
    neither: Vec<String>,
}

/// Changes the lowest byte of each field, one at a time.
fn plant(subject: &Subject, structure: &Structure, at: u64, missed: &mut Vec<String>) -> Outcome {
    let image = File::options().read(true).write(true).open(&subject.image).unwrap();
    let mut outcome = Outcome::default();
    for field in structure.fields {
        let last = u64::try_from(field.length - 1).unwrap();
        let byte = if structure.order == Order::Big { last } else { 0 };
        let place = at + u64::try_from(field.offset).unwrap() + byte;
        let mut before = [0];
        image.read_exact_at(&mut before, place).unwrap();
        image.write_all_at(&[before[0] ^ 0xff], place).unwrap();
        let (judged, found) = ((subject.judge)(&subject.image), !ours(&subject.image).is_empty());
        image.write_all_at(&before, place).unwrap();
        if judged && !found {
            missed.push(format!("{}: {}, {} at {place}", subject.name, structure.title, field.name));
        }
        let name = field.name.to_owned();
        if judged {
            outcome.judged.push(name.clone());
        }
        match (judged, found) {
            (_, true) => outcome.found.push(name),
            (_, false) => outcome.neither.push(name),
        }
    }
    outcome
}

/// The table of docs/faults.md.
fn page(subjects: &[Subject], outcomes: &BTreeMap<(usize, usize), Outcome>) -> String {
    let mut out = String::from(
        "# Planted faults\n\nA test changes the lowest byte of each field of the structures below, one at a time, in a small image. \
         Whatever the tool\nof the format reports, `check` reports too (tests/look/planted.rs). This page is written by that test.\n\n\
         | image | structure | faults | by `check` | by the tool | tool |\n|---|---|---|---|---|---|\n",
    );
    let mut quiet = String::new();
    let mut sums = [0; 3];
    for ((subject, place), outcome) in outcomes {
        let subject = &subjects[*subject];
        let (title, _) = subject.places[*place];
        let faults = outcome.found.len() + outcome.neither.len();
        let row = [faults, outcome.found.len(), outcome.judged.len()];
        sums.iter_mut().zip(row).for_each(|(sum, own)| *sum += own);
        let [faults, found, judged] = row;
        writeln!(out, "| {} | {title} | {faults} | {found} | {judged} | {} |", subject.name, subject.tool)
            .unwrap();
        if !outcome.neither.is_empty() {
            writeln!(quiet, "- {}, {title}: {}", subject.name, outcome.neither.join(", ")).unwrap();
        }
    }
    let [faults, found, judged] = sums;
    writeln!(out, "| all | | {faults} | {found} | {judged} | |").unwrap();
    out + "\nNeither reports these fields: every value of them is allowed, or nobody reads them.\n\n" + &quiet
}

/// The page without what another version of a tool may report.
fn without_tools(page: &str) -> Vec<String> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').collect();
        if cells.len() == 8 { cells[..5].join("|") } else { line.to_owned() }
    };
    page.lines().map(row).collect()
}

#[test]
fn what_the_tools_report_of_any_field_check_reports() {
    let folder = scratch();
    let subjects = subjects(folder.path());
    let all = structures::all();
    let (mut outcomes, mut missed) = (BTreeMap::new(), Vec::new());
    for (number, subject) in subjects.iter().enumerate() {
        assert!(!(subject.judge)(&subject.image), "{}: {} reports something", subject.name, subject.tool);
        assert_eq!(ours(&subject.image), Vec::<String>::new(), "{}", subject.name);
        for (place, (title, at)) in subject.places.iter().enumerate() {
            let (_, structure) =
                all.iter().find(|(_, own)| own.title == *title).unwrap_or_else(|| panic!("{title}"));
            outcomes.insert((number, place), plant(subject, structure, *at, &mut missed));
        }
    }
    assert!(missed.is_empty(), "{} are not reported:\n{}", missed.len(), missed.join("\n"));
    let faults: usize = outcomes.values().map(|own| own.found.len() + own.neither.len()).sum();
    assert!(faults >= 300, "{faults}");
    let page = page(&subjects, &outcomes);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md");
    if std::env::var_os("DISKWRIGHT_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        without_tools(&written),
        without_tools(&page),
        "DISKWRIGHT_BLESS=1 writes docs/faults.md anew"
    );
}
