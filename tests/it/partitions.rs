//! Disks with odd partitions: slots out of order, sectors of 4096 bytes, logical partitions far from the
//! start, existing images with holes, a partition that takes the rest. The table goes to its judges, and each
//! partition is cut out and goes to its own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use diskwright::units::{GIB, MIB};

use crate::support::program::build;
use crate::support::snapshot::Snapshot;
use crate::support::table::Extent;
use crate::support::tools::{command, must, scratch};
use crate::support::tree::{self, noise};
use crate::support::{ext4, fat, kernel, table};

/// A manifest and its disk in a folder that also has the plain tree, as `tree`.
fn disk(folder: &Path, manifest: &str) -> PathBuf {
    if !folder.join("tree").exists() {
        tree::plain(&folder.join("tree"));
    }
    let (path, out) = (folder.join("disk.toml"), folder.join("disk.img"));
    std::fs::write(&path, manifest).unwrap();
    build(&path, &out);
    out
}

/// Cuts a partition out of a disk.
fn cut(disk: &Path, extent: Extent) -> PathBuf {
    let file = disk.with_extension(format!("at{}", extent.0));
    table::extract(disk, extent, &file);
    file
}

/// Little-endian numbers of a file.
fn numbers<const N: usize>(file: &Path, places: [(u64, usize); N]) -> [u64; N] {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(file).unwrap();
    places.map(|(at, length)| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes[..length], at).unwrap();
        u64::from_le_bytes(bytes)
    })
}

/// Sectors before the volume and bytes in a sector, as the FAT records them.
fn fat_place(volume: &Path) -> [u64; 2] {
    numbers(volume, [(28, 4), (11, 2)])
}

#[test]
fn slots_out_of_order_and_what_is_left() {
    let folder = scratch();
    let disk = disk(
        folder.path(),
        r#"
        version = 1
        [disk]
        size = "300MiB"
        [[partition]]
        number = 9
        start = "128MiB"
        size = "fill"
        filesystem = { type = "ext4", grow_to = "1GiB" }
        contents = [{ source = "tree", target = "/" }]
        [[partition]]
        number = 2
        start = "1MiB"
        type = "esp"
        size = "40MiB"
        filesystem = { type = "vfat", fat = 32 }
        contents = [{ source = "tree/bin", target = "/" }]
        [[partition]]
        number = 1
        start = "41MiB"
        size = "fill"
        type = "swap"
        filesystem = { type = "swap" }
        "#,
    );
    table::assert_clean(&disk);
    // Listed by sfdisk in the order of their slots.
    let extents = table::partitions(&disk);
    let mib = |start: u64, end: u64| (start * 2048, (end - start) * 2048);
    // The last MiB of the disk contains the backup of the table.
    assert_eq!(extents, [mib(41, 128), mib(1, 41), mib(128, 299)]);
    let esp = cut(&disk, extents[1]);
    fat::assert_clean(&esp);
    assert_eq!(fat::view(&esp), fat::files(&folder.path().join("tree/bin")));
    assert_eq!(fat_place(&esp), [2048, 512]);
    let root = cut(&disk, extents[2]);
    let expected = Snapshot::of(&folder.path().join("tree")).owned_by(0, 0).links_as_in_ext4();
    ext4::judge(&root, &expected);
    kernel::judge(&root, &expected);
    assert_eq!(ext4::count(&root, "Block count"), 171 * MIB / 4096);
}

/// sgdisk and sfdisk take the sectors of a file for 512 bytes, so the crate reads this table.
#[test]
fn sectors_of_4096_bytes_reach_into_the_filesystems() {
    let folder = scratch();
    let path = disk(
        folder.path(),
        r#"
        version = 1
        [disk]
        sector_size = 4096
        [[partition]]
        type = "esp"
        size = "300MiB"
        filesystem = { type = "vfat", label = "ESP" }
        contents = [{ source = "tree/bin", target = "/" }]
        [[partition]]
        filesystem = { type = "ext4" }
        contents = [{ source = "tree", target = "/" }]
        "#,
    );
    let config = gpt::GptConfig::new().logical_block_size(gpt::disk::LogicalBlockSize::Lb4096);
    let found = config.only_valid_headers(true).open(&path).unwrap();
    let parts = found.partitions();
    let extents: Vec<Extent> =
        parts.values().map(|part| (part.first_lba * 8, (part.last_lba + 1 - part.first_lba) * 8)).collect();
    let esp = cut(&path, extents[0]);
    fat::assert_clean(&esp);
    assert_eq!(fat::view(&esp), fat::files(&folder.path().join("tree/bin")));
    // From 1 MiB on, in sectors of the disk.
    assert_eq!(fat_place(&esp), [256, 4096]);
    let root = cut(&path, extents[1]);
    let expected = Snapshot::of(&folder.path().join("tree")).owned_by(0, 0).links_as_in_ext4();
    ext4::judge(&root, &expected);
}

#[test]
fn twelve_logical_partitions_behind_4_gib() {
    let folder = scratch();
    let mut manifest = String::from(
        "version = 1\n[disk]\ntable = \"mbr\"\n\
         [[partition]]\nsize = \"5GiB\"\nattributes = [\"active\"]\nfilesystem = { type = \"ext4\", grow_to = \"5GiB\" }\n",
    );
    for number in 0..12 {
        let _ = write!(
            manifest,
            "[[partition]]\nlogical = true\nfilesystem = {{ type = \"ext4\", label = \"logical-{number}\", free = \"1MiB\" }}\n\
             contents = [{{ text = \"{number}\", target = \"/number\" }}]\n"
        );
    }
    let disk = disk(folder.path(), &manifest);
    table::assert_clean(&disk);
    let extents = table::partitions(&disk);
    // The primary one, the extended one, and twelve in it.
    assert_eq!(extents.len(), 14);
    for (number, extent) in extents[2..].iter().enumerate() {
        assert!(extent.0 * 512 > 5 * GIB);
        let volume = cut(&disk, *extent);
        ext4::assert_clean(&volume);
        assert_eq!(ext4::superblock(&volume, "Filesystem volume name"), format!("logical-{number}"));
        std::fs::remove_file(volume).unwrap();
    }
}

#[test]
fn ready_images_keep_their_bytes_and_holes() {
    use std::os::unix::fs::MetadataExt;
    let folder = scratch();
    let ready = folder.path().join("ready");
    let mut maker = tree::Maker::new(&ready);
    // A hole in the middle and one at the end; a length that is no whole sector.
    maker.sparse("holes", 90 * MIB, &[(0, 5 * MIB), (70 * MIB, 3 * MIB + 17)]);
    maker.file("odd", noise(3, 3 * MIB + 1000)).finish();
    let disk = disk(
        folder.path(),
        r#"
        version = 1
        [[partition]]
        image = "ready/holes"
        [[partition]]
        size = "10MiB"
        image = "ready/odd"
        "#,
    );
    table::assert_clean(&disk);
    let extents = table::partitions(&disk);
    assert_eq!(extents.iter().map(|extent| extent.1 * 512).collect::<Vec<_>>(), [90 * MIB, 10 * MIB]);
    for (name, extent) in ["holes", "odd"].into_iter().zip(extents) {
        let mut wanted = std::fs::read(ready.join(name)).unwrap();
        // After a shorter image the partition is empty.
        wanted.resize(usize::try_from(extent.1 * 512).unwrap(), 0);
        assert!(std::fs::read(cut(&disk, extent)).unwrap() == wanted, "{name}");
    }
    let taken = std::fs::metadata(&disk).unwrap().blocks() * 512;
    assert!(taken < 13 * MIB, "{taken} bytes of the host for 11 MiB");
}

/// One filesystem in all three kinds of whole disk has one content.
#[test]
fn no_table_and_a_table_hold_the_same_filesystem() {
    let folder = scratch();
    let of = |table: &str| {
        let part = "filesystem = { type = \"ext4\", uuid = \"0867da16-f251-457d-a9e8-c31f9a3c220b\", free = \"3MiB\" }";
        format!(
            "version = 1\n[disk]\ntable = \"{table}\"\n[[partition]]\n{part}\n\
             contents = [{{ source = \"tree\", target = \"/\" }}]\n"
        )
    };
    let bare = std::fs::read(disk(folder.path(), &of("none"))).unwrap();
    for table in ["gpt", "mbr"] {
        let disk = disk(folder.path(), &of(table));
        table::assert_clean(&disk);
        let mut cut = std::fs::read(cut(&disk, table::partitions(&disk)[0])).unwrap();
        // The partition is whole MiB.
        assert!(cut.len() >= bare.len() && cut[bare.len()..].iter().all(|byte| *byte == 0));
        cut.truncate(bare.len());
        assert!(cut == bare, "{table}");
    }
}

/// If the host's filesystem can share blocks, a disk beside its sources takes no space for shared data.
#[test]
fn blocks_are_shared_where_the_host_can() {
    if !kernel::can_judge() {
        return;
    }
    let folder = scratch();
    for program in ["mkfs.xfs", "mkfs.btrfs"] {
        let file = folder.path().join("host.img");
        must(command("truncate").args(["-s", "600M"]).arg(&file));
        must(command(program).arg("-q").arg(&file));
        let host = kernel::Mount::new(&file, "rw");
        let source = host.path().join("tree");
        let mut maker = tree::Maker::new(&source);
        // What is shared, what is too short for that, and what has an end that fills no block.
        maker
            .file("large", noise(1, 60 * MIB))
            .file("odd", noise(2, 9 * MIB + 4095))
            .file("short", noise(3, 65_535));
        maker.sparse("holes", 90 * MIB, &[(MIB, MIB), (50 * MIB + 8192, 70_001)]).finish();
        must(command("sync").arg("-f").arg(host.path()));
        let free = || rustix::fs::statvfs(host.path()).map(|stat| stat.f_bfree * stat.f_frsize).unwrap();
        let before = free();
        let shared = host.path().join("out.img");
        crate::support::program::mkfs_ext4(&source, &shared, &[]);
        must(command("sync").arg("-f").arg(host.path()));
        let taken = before.saturating_sub(free());
        assert!(taken < 8 * MIB, "{program}: {taken} bytes for 70 MiB");
        ext4::assert_clean(&shared);
        let copied = folder.path().join("copied.img");
        crate::support::program::mkfs_ext4(&source, &copied, &[]);
        assert!(std::fs::read(&shared).unwrap() == std::fs::read(&copied).unwrap(), "{program}");
        host.unmount();
        std::fs::remove_file(&file).unwrap();
    }
}
