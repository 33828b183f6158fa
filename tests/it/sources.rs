//! Odd sources: attributes of every size, holes in every pattern, more names than an inode counts, more names in one
//! directory than one level of an index holds.

use std::path::Path;
use std::sync::Arc;

use diskwright::filesystem::{Placement, ext4};
use diskwright::pour::{PourOptions, pour};
use diskwright::progress::Progress;
use diskwright::tree::{Builder, Content, Meta, Time};
use uuid::Uuid;

use crate::support::compare::assert_same;
use crate::support::ext4::{assert_clean, judge};
use crate::support::program::{diskwright, mkfs_ext4};
use crate::support::snapshot::Snapshot;
use crate::support::tools::{command, must, quick_scratch, run, scratch};
use crate::support::tree::{Maker, noise};
use crate::support::{debugfs, kernel, left_out};

/// What the image of `source` is to show.
fn expected(source: &Path) -> Snapshot {
    Snapshot::of(source).links_as_in_ext4().owned_by(0, 0)
}

/// Attributes of every length around the limits of inode and block, alone and together with others that push
/// them from one to the other; on each host as many as it accepts.
#[test]
fn attributes_of_every_length() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    let mut maker = Maker::new(&source);
    let mut taken = 0;
    let mut set = |maker: &mut Maker, name: &str, values: &[(&str, u64)]| {
        maker.file(name, "");
        for (attribute, length) in values {
            let value = noise(*length, *length);
            let flags = rustix::fs::XattrFlags::empty();
            // Attributes that the host's ext4 cannot hold are left out.
            if rustix::fs::lsetxattr(maker.path(name), *attribute, &value, flags).is_ok() {
                taken += 1;
            }
        }
    };
    // An entry of 20 bytes and a value of 68 fill the inode; one of 4040 fills the block.
    for length in (0..100).chain(4000..=4041) {
        set(&mut maker, &format!("one-{length}"), &[("user.abcd", length)]);
    }
    for length in (0..80).chain(3900..4041) {
        let name = format!("three-{length}");
        set(&mut maker, &name, &[("user.a", 36), ("user.bb", length), ("user.ccc", 9)]);
    }
    // In the order of names the inode takes the first, and then the others are too much for the block; this order,
    // which the host keeps, leaves the second for the inode.
    set(&mut maker, "tight", &[("user.b", 68), ("user.a", 40), ("user.c", 3980)]);
    maker.finish();
    assert!(taken > 500, "the host takes only {taken} attributes");
    mkfs_ext4(&source, &image, &[]);
    judge(&image, &expected(&source));
    kernel::judge(&image, &expected(&source));
}

#[test]
fn attributes_that_are_too_much_are_told_with_their_file() {
    let folder = if kernel::can_judge() {
        // Of the available hosts only XFS accepts more than ext4.
        Host::Xfs(xfs())
    } else {
        Host::Folder(quick_scratch())
    };
    let source = folder.path().join("source");
    let mut maker = Maker::new(&source);
    maker.directory("d").file("d/much", "");
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::lsetxattr(maker.path("d/much"), "user.large", &noise(1, 5000), flags).is_err() {
        kernel::need();
        panic!("XFS takes 64 KiB");
    }
    maker.finish();
    let image = folder.path().join("out.img");
    let said = run(diskwright().args(["mkfs", "ext4"]).arg(&source).arg("-o").arg(&image));
    assert!(said.code == 1 && !image.exists(), "{}", said.error());
    for word in ["/d/much", "at most 4060 bytes", "`user.large` with 5000 bytes"] {
        assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
    }
    // Left out by pattern, they are no hindrance.
    mkfs_ext4(&source, &image, &["--xattrs", "security.*"]);
    assert_clean(&image);
}

/// Where a source lies.
enum Host {
    Xfs((kernel::Mount, tempfile::TempDir)),
    Folder(tempfile::TempDir),
}

impl Host {
    fn path(&self) -> &Path {
        match self {
            Self::Xfs((mount, _)) => mount.path(),
            Self::Folder(folder) => folder.path(),
        }
    }
}

/// A mounted XFS, and the folder that holds it.
fn xfs() -> (kernel::Mount, tempfile::TempDir) {
    use crate::support::tools::command;
    let folder = scratch();
    let file = folder.path().join("xfs");
    // The least that mkfs.xfs makes.
    must(command("truncate").args(["-s", "300M"]).arg(&file));
    must(command("mkfs.xfs").arg("-q").arg(&file));
    (kernel::Mount::new(&file, "rw"), folder)
}

/// Every pattern of data and hole over eight blocks, with the last one whole, cut short by a byte, or by all but one.
#[test]
fn holes_in_every_pattern() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    let mut maker = Maker::new(&source);
    for pattern in 0..256_u64 {
        let ranges: Vec<(u64, u64)> =
            (0..8).filter(|block| pattern >> block & 1 == 1).map(|block| (block * 4096, 4096)).collect();
        for size in [8 * 4096, 8 * 4096 - 1, 7 * 4096 + 1] {
            let cut = |(start, length): &(u64, u64)| (*start, (*length).min(size - start));
            let ranges: Vec<_> = ranges.iter().map(cut).collect();
            maker.sparse(format!("{pattern:08b}-{size}"), size, &ranges);
        }
    }
    maker.finish();
    mkfs_ext4(&source, &image, &[]);
    judge(&image, &expected(&source));
    kernel::judge(&image, &expected(&source));
}

/// A host in memory counts more names of a file than ext4 does.
#[test]
fn seventy_thousand_names_of_one_file() {
    let (folder, quick) = (scratch(), quick_scratch());
    let (source, image) = (quick.path().join("source"), folder.path().join("out.img"));
    let mut maker = Maker::new(&source);
    maker.file("0", "one inode");
    let names = (1..70_000)
        .take_while(|number| std::fs::hard_link(maker.path("0"), maker.path(number.to_string())).is_ok())
        .count();
    maker.finish();
    let said = mkfs_ext4(&source, &image, &[]);
    assert_clean(&image);
    let links = |name: &str| {
        let stat = debugfs::debugfs(&image, &format!("stat /{name}\n")).text();
        let rest = stat.split_once("Links: ").unwrap_or_else(|| panic!("{stat}")).1;
        rest.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let first = (names + 1).min(65_000);
    assert_eq!(links("0"), first);
    if names + 1 > first {
        // The last in the order of the tree, and all of those after it.
        assert_eq!(links("9999") + first, names + 1);
        assert!(said.error().contains("/0 has more names than the 65000"), "{}", said.error());
        assert_eq!(said.error().lines().count(), 1, "{}", said.error());
    }
}

/// An index of two levels, without a host that has so many names.
#[test]
fn a_million_names_in_one_directory() {
    let mut builder = Builder::new(Time::default());
    let origin = builder.origin("test");
    for number in 0..1_000_000 {
        let target = format!("/many/{number:032x}-package");
        builder.put(target.as_bytes(), Meta::root(0o644, Time::default()), Content::Fifo, origin).unwrap();
    }
    let tree = Arc::new(builder.finish(1).unwrap());
    let built = ext4::build(&tree, &ext4::Options::default(), &Placement::alone(Uuid::from_u128(1))).unwrap();
    let folder = scratch();
    let image = folder.path().join("out.img");
    pour(&built.image, &image, &PourOptions::new(2, &Progress::default())).unwrap();
    assert_clean(&image);
    let name = format!("{:032x}-package", 777_777);
    let said = debugfs::debugfs(&image, &format!("stat /many/{name}\n")).text();
    assert!(said.contains("Type: FIFO"), "{said}");
    if kernel::can_judge() {
        // Each by the index: some hundred have a hash that another has too, and a few of those begin another leaf.
        let mount = kernel::Mount::new(&image, "ro");
        let many = mount.path().join("many");
        for number in 0..1_000_000 {
            let name = format!("{number:032x}-package");
            assert!(std::fs::symlink_metadata(many.join(&name)).is_ok(), "{name} is not found");
        }
        assert!(std::fs::symlink_metadata(many.join("another")).is_err());
    }
}

/// A file that needs more extents than two levels of small files: 20,000, in 59 leaves below one node.
#[test]
fn a_file_in_twenty_thousand_pieces() {
    let (folder, quick) = (scratch(), quick_scratch());
    let (source, image) = (quick.path().join("source"), folder.path().join("out.img"));
    let ranges: Vec<(u64, u64)> = (0..20_000).map(|number| (number * 8192, 4096)).collect();
    let mut maker = Maker::new(&source);
    maker.sparse("pieces", 20_000 * 8192, &ranges).finish();
    mkfs_ext4(&source, &image, &[]);
    assert_clean(&image);
    let found = debugfs::debugfs(&image, "stat /pieces\n").text();
    assert!(found.contains("Size: 163840000"), "{found}");
    if kernel::can_judge() {
        kernel::reads(&image, &expected(&source));
    } else {
        let seen = debugfs::view(&image).without_lost_and_found();
        assert_same("debugfs", &expected(&source), &seen, &debugfs::VIEW);
    }
}

/// Block numbers of a file have 32 bits, and the last one is reserved: 16 TiB less a block.
#[test]
fn the_largest_file_and_one_byte_more() {
    let (folder, quick) = (scratch(), quick_scratch());
    let (source, image) = (quick.path().join("source"), folder.path().join("out.img"));
    let most = (1_u64 << 44) - 4096;
    let mut maker = Maker::new(&source);
    maker.directory("d").file("d/large", "");
    let file = std::fs::OpenOptions::new().write(true).open(maker.path("d/large")).unwrap();
    if file.set_len(most + 1).is_err() {
        // A host whose files end before.
        return;
    }
    let said = run(diskwright().args(["mkfs", "ext4"]).arg(&source).arg("-o").arg(&image));
    assert!(said.code == 1 && !image.exists(), "{}", said.error());
    for word in ["/d/large", "at most 15.9 TiB (17592186040320 bytes)", "17592186040321 bytes"] {
        assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
    }
    file.set_len(most).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", most - 3).unwrap();
    maker.finish();
    mkfs_ext4(&source, &image, &[]);
    assert_clean(&image);
    if kernel::can_judge() {
        use std::os::unix::fs::FileExt;
        let mount = kernel::Mount::new(&image, "ro");
        let mut end = [0; 3];
        std::fs::File::open(mount.path().join("d/large")).unwrap().read_exact_at(&mut end, most - 3).unwrap();
        assert_eq!(&end, b"end");
    }
}

/// Nothing in a host's `/dev` is opened, and everything is kept.
#[test]
fn special_files_are_looked_at_and_not_opened() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    let mut maker = Maker::new(&source);
    // Opening this pipe would wait forever; its attribute must be read without that.
    maker.special("pipe", rustix::fs::FileType::Fifo, (0, 0));
    maker.special("socket", rustix::fs::FileType::Socket, (0, 0));
    if left_out::as_root("a device that its opening would change") {
        // A tape that rewinds when it is closed.
        maker.special("tape", rustix::fs::FileType::CharacterDevice, (9, 0));
        maker.xattr("pipe", "trusted.t", "t");
    }
    maker.finish();
    mkfs_ext4(&source, &image, &["--xattrs", "*", "--owner", "preserve"]);
    assert_clean(&image);
    let expected = Snapshot::of(&source).links_as_in_ext4();
    assert_same("debugfs", &expected, &debugfs::view(&image).without_lost_and_found(), &debugfs::VIEW);
}

/// GRUB cannot read a file of ext4 that begins with a hole: below /boot none does, elsewhere holes stay what they are.
#[test]
fn grub_reads_what_is_below_boot() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    let mut maker = Maker::new(&source);
    maker.directory("boot").directory("boot/grub").directory("data");
    let files =
        [("empty", 40_960, 0), ("short", 100, 0), ("second", 40_960, 4096), ("late", 1 << 20, 1 << 19)];
    for (name, size, start) in files {
        let data: &[(u64, u64)] = if start == 0 { &[] } else { &[(start, 5000)] };
        for path in ["boot", "boot/grub", "data"] {
            maker.sparse(format!("{path}/{name}"), size, data);
        }
    }
    maker.finish();
    mkfs_ext4(&source, &image, &[]);
    judge(&image, &expected(&source));
    let grub = |path: &str| run(command("grub-fstest").arg(&image).arg("cat").arg(format!("(loop0)/{path}")));
    for (name, ..) in files {
        for path in [format!("boot/{name}"), format!("boot/grub/{name}")] {
            let said = grub(&path);
            assert_eq!(said.code, 0, "{path}: {}", said.error());
            assert!(said.out == std::fs::read(source.join(&path)).unwrap(), "{path}");
        }
    }
    let said = grub("data/late");
    assert!(
        said.code != 0 || said.out.len() != 1 << 20,
        "GRUB reads what begins with a hole: this is needed no more"
    );
}

/// The same where the boot partition is an ext4 of its own, and in the root of a NixOS system.
#[test]
fn grub_reads_what_a_boot_partition_holds() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    let mut maker = Maker::new(&source);
    maker.directory("grub").sparse("late", 1 << 20, &[(1 << 19, 5000)]).sparse("grub/empty", 40_960, &[]);
    maker.finish();
    let reads = |kind: &str, top: &str, expected: bool| {
        let manifest = folder.path().join("disk.toml");
        let text = format!(
            "version = 1\n[[partition]]\ntype = \"{kind}\"\nfilesystem = {{ type = \"ext4\" }}\n\
             contents = [ {{ source = \"source\", target = \"{top}\" }} ]\n"
        );
        std::fs::write(&manifest, text).unwrap();
        must(diskwright().arg("build").arg(&manifest).arg("-o").arg(&image));
        for name in ["late", "grub/empty"] {
            let path = format!("(loop0,gpt1){top}/{name}").replace("//", "/");
            let said = run(command("grub-fstest").arg(&image).arg("cat").arg(&path));
            let same = said.out == std::fs::read(source.join(name)).unwrap();
            assert_eq!(same, expected, "{kind} {path}: {}", said.error());
        }
    };
    reads("linux", "/", true);
    reads("xbootldr", "/other", true);
    // The comparison is one.
    reads("linux", "/other", false);
}

/// A file of size 0 with content keeps its content in the image.
#[test]
fn a_file_without_a_length() {
    let folder = scratch();
    let image = folder.path().join("out.img");
    let manifest = folder.path().join("disk.toml");
    std::fs::write(
        &manifest,
        "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nfilesystem = { type = \"ext4\" }\ncontents = [\n\
         { source = \"/proc/version\", target = \"/one\" },\n\
         { source = \"/proc/sys/kernel/random\", target = \"/several\", xattrs = [] },\n]\n",
    )
    .unwrap();
    must(diskwright().arg("build").arg(&manifest).arg("-o").arg(&image));
    assert_clean(&image);
    let said = debugfs::debugfs(&image, "cat /one\n");
    let version = std::fs::read_to_string("/proc/version").unwrap();
    assert!(said.text().contains(version.trim()), "{}", said.text());
    let said = debugfs::debugfs(&image, "cat /several/poolsize\n");
    let size = std::fs::read_to_string("/proc/sys/kernel/random/poolsize").unwrap();
    assert!(said.text().contains(size.trim()), "{}", said.text());
}

/// Equal ones are found to be equal.
#[test]
fn files_without_a_length_are_deduped() {
    let folder = scratch();
    let (manifest, image) = (folder.path().join("disk.toml"), folder.path().join("out.img"));
    let entry = |target: &str| {
        format!("{{ source = \"/proc/version\", target = \"/{target}\", hardlinks = \"dedupe\" }}")
    };
    let text = format!(
        "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nfilesystem = {{ type = \"ext4\" }}\ncontents = [ {}, {} ]\n",
        entry("a"),
        entry("b")
    );
    std::fs::write(&manifest, text).unwrap();
    must(diskwright().arg("build").arg(&manifest).arg("-o").arg(&image));
    assert_clean(&image);
    let said = debugfs::debugfs(&image, "cat /b\n");
    let version = std::fs::read_to_string("/proc/version").unwrap();
    assert!(said.text().contains(version.trim()), "{}", said.text());
    assert!(debugfs::debugfs(&image, "stat /a\n").text().contains("Links: 2"));
}

/// What cannot have its content is an error that says why: never an empty file, and never another reason.
#[test]
fn files_that_do_not_know_their_length_are_told() {
    let folder = scratch();
    let (manifest, image) = (folder.path().join("disk.toml"), folder.path().join("out.img"));
    let refused = |partition: &str, words: &[&str]| {
        std::fs::write(&manifest, format!("version = 1\n[[partition]]\n{partition}\n")).unwrap();
        let said = run(diskwright().arg("build").arg(&manifest).arg("-o").arg(&image));
        assert!(said.code == 1 && !image.exists(), "{partition}: {}", said.error());
        for word in words {
            assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
        }
    };
    refused(
        "image = \"/proc/version\"",
        &["a file that says it is empty, and has content", "copy it to a file that has a length"],
    );
    // An attribute of the kernel says that it is as long as a page.
    let attribute = Path::new("/sys/kernel/mm/transparent_hugepage/enabled");
    if std::fs::metadata(attribute).is_ok_and(|meta| meta.len() == 4096) {
        refused(
            &format!(
                "filesystem = {{ type = \"ext4\" }}\ncontents = [ {{ source = \"{}\", target = \"/x\", xattrs = [] }} ]",
                attribute.display()
            ),
            &["the source has less content than it says", "expected: 4096 bytes", "copy it to a file"],
        );
    }
}
