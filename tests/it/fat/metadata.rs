//! The metadata of a volume, and the warnings when something is not kept.

use std::sync::Arc;

use diskwright::filesystem::fat::{FatType, Times};
use diskwright::tree::{Builder, Content, Hardlinks, Meta, Time, Tree, Xattr};
use diskwright::units::{GIB, MIB, Sectors};
use hadris_fat::{FatDateTime, FatVolume};

use super::support::*;
use super::whole as fat;

fn warnings(tree: &Arc<Tree>) -> Vec<String> {
    let built = fat::build(tree, &fixed(4 * MIB)).unwrap();
    built.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn blkid_and_minfo_see_label_and_serial_number() {
    for (fat, size) in [(FatType::Fat12, MIB), (FatType::Fat16, 20 * MIB), (FatType::Fat32, 40 * MIB)] {
        let options = fat::Options {
            fat: Some(fat),
            label: Some("NIX BOOT 1".into()),
            volume_id: 0x0012_abcd,
            hidden_sectors: Sectors::new(2048),
            ..fixed(size)
        };
        let built = fat::build(&texts(&listing([("/a", vec![1])])), &options).unwrap();
        assert_eq!((built.facts.kind, built.facts.label.as_str()), ("vfat", "NIX BOOT 1"));
        assert_eq!(built.facts.uuid, "0012-ABCD");
        let volume = poured(&built, 1);
        let (good, said) = run(tool("blkid").args(["-p", "-o", "export"]).arg(volume.path()));
        assert!(good, "{said}");
        for line in ["TYPE=vfat", "LABEL=NIX\\ BOOT\\ 1", "LABEL_FATBOOT=NIX\\ BOOT\\ 1", "UUID=0012-ABCD"] {
            assert!(said.lines().any(|found| found == line), "{line}: {said}");
        }
        let (good, said) = run(tool("minfo").arg("-i").arg(volume.path()));
        assert!(good, "{said}");
        let kind = format!("disk type=\"{:<8}\"", format!("FAT{}", fat.bits()));
        for line in
            ["hidden sectors: 2048", "serial number: 0012ABCD", "disk label=\"NIX BOOT 1 \"", kind.as_str()]
        {
            assert!(said.lines().any(|found| found == line), "{line}: {said}");
        }
    }
}

#[test]
fn no_label_is_no_name_without_an_entry() {
    for label in [None, Some(""), Some("   "), Some("NO NAME")] {
        let options = fat::Options { label: label.map(Into::into), ..fixed(MIB) };
        let built = fat::build(&nothing(), &options).unwrap();
        assert_eq!(built.facts.label, "");
        let volume = poured(&built, 1);
        judge(&volume, &Listing::new()).unwrap();
        let (_, said) = run(tool("blkid").args(["-p", "-o", "export"]).arg(volume.path()));
        assert!(said.contains("TYPE=vfat") && !said.contains("LABEL="), "{said}");
    }
}

#[test]
fn a_lower_case_label_is_kept_and_said() {
    let options = fat::Options { label: Some("Nixos".into()), ..fixed(MIB) };
    let built = fat::build(&nothing(), &options).unwrap();
    assert_eq!(built.facts.label, "Nixos");
    assert_eq!(
        built.warnings[0].to_string(),
        "the FAT label `Nixos` has lower-case letters, which some systems do not read"
    );
    judge(&poured(&built, 1), &Listing::new()).unwrap();
}

/// The date of every entry is that of the options, not that of the files or of today.
#[test]
fn dates_are_those_of_the_options() {
    let listing = listing([("/d/file", vec![1]), ("/d/e/x", vec![2])]);
    for (seconds, expected) in [
        (0, FatDateTime::new(1980, 1, 1, 0, 0, 0)),
        (1_000_000_001, FatDateTime::new(2001, 9, 9, 1, 46, 40)),
        (4_102_444_799, FatDateTime::new(2099, 12, 31, 23, 59, 58)),
        (9_999_999_999, FatDateTime::new(2107, 12, 31, 23, 59, 58)),
    ] {
        let host = tempfile::tempdir().unwrap();
        let options = fat::Options { time: Time::seconds(seconds), label: Some("L".into()), ..fixed(MIB) };
        let built = fat::build(&files(&listing, host.path()), &options).unwrap();
        let volume = poured(&built, 1);
        judge(&volume, &listing).unwrap();
        let read = FatVolume::open(std::fs::File::open(volume.path()).unwrap()).unwrap();
        let mut directories = vec![read.root_dir()];
        let mut seen = 0;
        while let Some(directory) = directories.pop() {
            let mut entries = directory.entries();
            while let Some(entry) = entries.next_entry() {
                let entry = entry.unwrap();
                let entry = entry.as_entry().unwrap();
                for date in [entry.modified(), entry.created()] {
                    assert_eq!(date.to_raw(), expected.to_raw(), "{}", entry.name());
                }
                seen += 1;
                if entry.is_directory() && !entry.name().starts_with('.') {
                    directories.push(directory.open_entry(entry).unwrap());
                }
            }
        }
        // d, file, e, x, and `.` and `..` of two directories.
        assert_eq!(seen, 8);
        // The label's own entry, the first: no reader shows its date.
        let root = u64::from(u16::from_le_bytes([volume.bytes()[22], volume.bytes()[23]])) * 2 * 512 + 512;
        let entry = &volume.bytes()[usize::try_from(root).unwrap()..][..32];
        assert_eq!((&entry[..11], entry[11]), (b"L          ".as_slice(), 8));
        let (day, time, _) = expected.to_raw();
        assert_eq!((&entry[24..26], &entry[22..24]), (&day.to_le_bytes()[..], &time.to_le_bytes()[..]));
        assert_eq!(
            (&entry[16..18], &entry[18..20], &entry[14..16]),
            (&entry[24..26], &entry[24..26], &entry[22..24])
        );
    }
}

/// A source with times, each with the second that FAT has for it and the minute that mtools show.
const TIMES: [(&str, (i64, u32), i64, &str); 7] = [
    ("folder/below", (1_426_325_213, 0), 1_426_325_212, "2015-03-14   9:26"),
    ("folder", (1_000_000_001, 0), 1_000_000_000, "2001-09-09   1:46"),
    ("odd", (951_782_399, 999_999_999), 951_782_398, "2000-02-28  23:59"),
    ("leap", (951_782_400, 0), 951_782_400, "2000-02-29   0:00"),
    // A further name of the one before it.
    ("link", (951_782_400, 0), 951_782_400, "2000-02-29   0:00"),
    ("early", (-5, 0), 315_532_800, "1980-01-01   0:00"),
    ("late", (9_999_999_999, 7), 4_354_819_198, "2107-12-31  23:59"),
];

fn timed(host: &std::path::Path) -> Arc<Tree> {
    std::fs::create_dir(host.join("folder")).unwrap();
    for (name, ..) in TIMES.iter().filter(|(name, ..)| !matches!(*name, "folder" | "link")) {
        std::fs::write(host.join(name), b"1").unwrap();
    }
    std::fs::hard_link(host.join("leap"), host.join("link")).unwrap();
    for (name, (seconds, nanoseconds), ..) in TIMES {
        let time = format!("@{seconds}.{nanoseconds:09}");
        let (good, said) = run(tool("touch").args(["-d", &time]).arg(host.join(name)));
        assert!(good, "{said}");
    }
    scanned(host, Hardlinks::Preserve)
}

/// The dates of what the source has, as mtools and our own reader show them: even seconds from 1980 to 2107, in UTC.
#[test]
fn dates_are_those_of_the_source_if_that_is_asked_for() {
    let host = tempfile::tempdir().unwrap();
    let tree = timed(host.path());
    let made = Time::seconds(1_700_000_000);
    let options = fat::Options { times: Some(Times::Source), time: made, ..fixed(MIB) };
    let built = fat::build(&tree, &options).unwrap();
    let said: Vec<_> = built.warnings.iter().map(ToString::to_string).collect();
    let clamped = "times outside 1980 to 2107 became the nearest that FAT can hold: 2 of them, first /early";
    assert!(said.contains(&clamped.to_owned()), "{said:?}");
    let volume = poured(&built, 1);
    let (good, said) = run(tool("fsck.fat").arg("-n").arg(volume.path()));
    assert!(good, "{said}");
    let mdir = |path| run(tool("mdir").env("TZ", "UTC").arg("-i").arg(volume.path()).arg(path)).1;
    let [top, dots] = ["::/", "::/folder"].map(mdir);
    let read = diskwright::filesystem::open(&built.image.whole()).unwrap().unwrap();
    for (name, _, seconds, shown) in TIMES {
        let last = name.rsplit('/').next().unwrap();
        let mut lines = top.lines().chain(dots.lines());
        let line = lines.find(|line| line.ends_with(&format!("  {last}"))).unwrap_or_default();
        assert!(line.contains(shown), "{name} {shown}: {top}{dots}");
        let inode =
            name.split('/').fold(read.root(), |at, part| read.lookup(at, part.as_bytes()).unwrap().unwrap());
        assert_eq!(read.node(inode).unwrap().meta.mtime, Time::seconds(seconds), "{name}");
    }
    let of_dots: Vec<_> = dots.lines().filter(|line| line.starts_with('.')).collect();
    assert!(of_dots.len() == 2 && of_dots.iter().all(|line| line.contains("2001-09-09")), "{dots}");
    // Each was made when the disk was.
    let disk = FatVolume::open(std::fs::File::open(volume.path()).unwrap()).unwrap();
    let root = disk.root_dir();
    let mut entries = root.entries();
    while let Some(entry) = entries.next_entry() {
        let entry = entry.unwrap();
        let created = entry.as_entry().unwrap().created().to_raw();
        assert_eq!(created, FatDateTime::new(2023, 11, 14, 22, 13, 20).to_raw());
    }
}

/// Otherwise no time of the source is in the volume, and none is told of.
#[test]
fn dates_of_the_source_are_left_out_unless_they_are_asked_for() {
    let host = tempfile::tempdir().unwrap();
    let tree = timed(host.path());
    let made = |times| fat::build(&tree, &fat::Options { times, ..fixed(MIB) }).unwrap();
    let [default, disk, source] = [None, Some(Times::Disk), Some(Times::Source)].map(made);
    assert!(poured(&default, 1).bytes() == poured(&disk, 1).bytes());
    assert!(poured(&default, 1).bytes() != poured(&source, 1).bytes());
    assert!(disk.warnings.iter().all(|warning| !warning.to_string().contains("times")));
}

/// FSInfo has the number of free clusters, and the first of them.
#[test]
fn free_clusters_are_told() {
    let field = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let listing = listing([("/a", vec![1; 3000]), ("/b/c", vec![1; 512])]);
    for size in [40 * MIB, 60 * MIB] {
        let options = fat::Options { fat: Some(FatType::Fat32), ..fixed(size) };
        let volume = poured(&fat::build(&texts(&listing), &options).unwrap(), 1);
        judge(&volume, &listing).unwrap();
        for sector in [1, 7] {
            let info = &volume.bytes()[sector * 512..][..512];
            // Clusters of 512 bytes: the root, b, six of a, one of c.
            assert_eq!(u64::from(field(info, 488)), volume.facts.blocks - 9);
            assert_eq!(field(info, 492), 2 + 9);
        }
    }
    // A full volume has no first free cluster.
    let options = fat::Options { fat: Some(FatType::Fat32), ..fixed(40 * MIB) };
    let free = fat::build(&texts(&listing), &options).unwrap().facts.free_blocks;
    let mut full = listing;
    full.insert("/b/d".into(), Some(noise(1, usize::try_from(free * 512).unwrap())));
    let volume = poured(&fat::build(&texts(&full), &options).unwrap(), 1);
    judge(&volume, &full).unwrap();
    assert_eq!((volume.facts.free_blocks, field(&volume.bytes()[512..], 488)), (0, 0));
    assert_eq!(field(&volume.bytes()[512..], 492), u32::MAX);
}

#[test]
fn hard_links_become_files_and_are_counted() {
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("a"), noise(1, 5000)).unwrap();
    for name in ["b", "c"] {
        std::fs::hard_link(host.path().join("a"), host.path().join(name)).unwrap();
    }
    let tree = scanned(host.path(), Hardlinks::Preserve);
    let built = fat::build(&tree, &fixed(MIB)).unwrap();
    assert_eq!(
        built.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["FAT has no hard links: 2 further names are files of their own, 9.7 KiB in all, first /b"]
    );
    let expected = listing(["/a", "/b", "/c"].map(|name| (name, noise(1, 5000))));
    judge(&poured(&built, 1), &expected).unwrap();
    // The same bytes as without links.
    let dissolved = fat::build(&scanned(host.path(), Hardlinks::Dissolve), &fixed(MIB)).unwrap();
    assert_eq!(dissolved.warnings, []);
    assert!(poured(&dissolved, 1).bytes() == poured(&built, 1).bytes());
}

#[test]
fn one_hard_link_is_one() {
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("a"), b"1").unwrap();
    std::fs::hard_link(host.path().join("a"), host.path().join("b")).unwrap();
    assert_eq!(
        warnings(&scanned(host.path(), Hardlinks::Preserve)),
        ["FAT has no hard links: a further name is a file of its own, 1 bytes in all, first /b"]
    );
}

#[test]
fn owners_attributes_and_special_bits_are_counted_and_modes_are_not() {
    let build = |metas: &[Meta], xattr: bool| {
        let mut builder = Builder::new(Time::default());
        let origin = builder.origin("test");
        let set = builder.xattr_set(&[Xattr { name: b"user.x".to_vec(), value: b"1".to_vec() }]);
        for (number, meta) in metas.iter().enumerate() {
            let xattrs = if xattr { set } else { 0 };
            builder.text(format!("/f{number}").as_bytes(), *b"", Meta { xattrs, ..*meta }, origin).unwrap();
        }
        Arc::new(builder.finish(1).unwrap())
    };
    assert_eq!(warnings(&build(&[meta(0o777), meta(0o400), meta(0)], false)), Vec::<String>::new());
    let prefix = "FAT keeps no owner, extended attribute or special mode bit: lost for";
    assert_eq!(
        warnings(&build(
            &[meta(0o644), Meta { uid: 7, ..meta(0o644) }, Meta { gid: 7, ..meta(0o4755) }],
            false
        )),
        [format!("{prefix} 2 of 4 names (owners of 2, setuid, setgid or sticky bits of 1), first /f1")]
    );
    assert_eq!(
        warnings(&build(&[meta(0o644)], true)),
        [format!("{prefix} 1 of 2 names (extended attributes of 1), first /f0")]
    );
    let mut builder = Builder::new(Time::default());
    let origin = builder.origin("test");
    builder.put(b"/", Meta { uid: 1, ..meta(0o1777) }, Content::Directory, origin).unwrap();
    let tree = Arc::new(builder.finish(1).unwrap());
    assert_eq!(
        warnings(&tree),
        [format!("{prefix} 1 of 1 names (owners of 1, setuid, setgid or sticky bits of 1), first /")]
    );
}

/// The table of a large volume is rendered when it is read, so the image costs nothing.
#[test]
fn a_volume_of_two_tib_is_small_until_it_is_poured() {
    let built = fat::build(&texts(&listing([("/a", vec![1])])), &fixed(2048 * GIB)).unwrap();
    assert!(built.image.covered().get() < 4096, "{}", built.image.covered());
    assert_eq!(built.facts.block_size, 32_768);
}
