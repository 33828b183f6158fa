//! Pools made by the program, before OpenZFS itself: imported, read back, scrubbed, written to and grown by the kernel.

use std::path::Path;

use diskwright::filesystem::Fault;
use diskwright::tree::Xattr;

use super::reader;
use crate::read;
use crate::support::guest::Guest;
use crate::support::program::{build, mkfs_ext4};
use crate::support::tools::{command, must, scratch};
use crate::support::zfs::assert_clean;
use crate::support::{judges, table, tree};

/// Lists everything of the directory that it runs in, sorted: types, modes, owners, links, sizes, times, targets; bytes;
/// devices; attributes. It runs on the host and in the guest with the same programs: the paths keep busybox from taking its
/// own.
const LIST: &str = r#"
export LC_ALL=C
/bin/find . -type d -printf '%P|%y|%m|%U|%G|%T@\n' -o -printf '%P|%y|%m|%U|%G|%n|%s|%T@|%l\n' | sort
/bin/find . -type f -print0 | sort -z | xargs -0 /bin/sha256sum
/bin/find . '(' -type b -o -type c ')' -print0 | sort -z | xargs -0 -r /bin/stat -c '%n %t %T'
/bin/find . -print0 | sort -z | xargs -0 getfattr -h -d -e hex -m '^(user|security.capability|system.posix)' --
"#;

/// A guest with the listing and its programs. The listing of `source` is what it is to find.
fn guest(source: &Path) -> Guest {
    let path = std::env::join_paths(judges::folders()).unwrap();
    let expected = must(command("sh").args(["-c", LIST]).env("PATH", path).current_dir(source)).out;
    let programs = ["find", "sha256sum", "stat", "getfattr", "setfattr"];
    let guest = Guest::new().zfs().file("list", LIST).file("expected", expected);
    programs.into_iter().fold(guest, Guest::program)
}

/// A disk as `zpool create` makes it, with datasets.
const DISK: &str = r#"version = 1
[disk]
size = "2GiB"
[[partition]]
size = "fill"
label = "zfs-0123456789abcdef"
contents = [
  { source = "source", target = "/", owner = "preserve" },
  { metadata = true, target = "/home/ReadMe", set_xattrs = { "user.long" = "0xLONG", "user.short" = "s" } },
]
[partition.filesystem]
type = "zfs"
whole_disk = true
pool_properties = { autoexpand = "on", comment = "for a test" }
properties = { acltype = "posix", atime = "off", mountpoint = "legacy", xattr = "sa" }
[partition.filesystem.datasets.root]
mount = "/"
empty_snapshots = [ "blank" ]
snapshots = [ "installed" ]
[partition.filesystem.datasets."root/data"]
mount = "/data"
properties = { compression = "zstd-3", recordsize = "1M", checksum = "sha256", copies = "2", xattr = "dir" }
[partition.filesystem.datasets.home]
mount = "/home"
empty_snapshots = [ "blank", "second" ]
properties = { reservation = "100M", refquota = "200M", casesensitivity = "insensitive", normalization = "formD" }
[partition.filesystem.datasets.disk]
type = "volume"
volsize = "64MiB"
file = "/disk.img"
[[partition]]
number = 9
type = "solaris-reserved"
size = "8MiB"
"#;

/// Everything that a system does with its pool. Each line that must be there later is printed by a command that succeeded.
const SCRIPT: &str = r"
zpool import -d /dev tank
zpool status tank
zfs get -H -o property,value -s local all tank/root/data
mount -t zfs tank/root /mnt; mount -t zfs tank/root/data /mnt/data
mount -t zfs tank/home /mnt/home
echo long $(getfattr --only-values -n user.long /mnt/home/README | wc -c) $(getfattr --only-values -n user.short /mnt/home/README)
setfattr -x user.long /mnt/home/README; echo left $(getfattr -d /mnt/home/README | grep -c =); setfattr -x user.short /mnt/home/README
cd /mnt; sh /list > /tmp/found; diff /expected /tmp/found; echo 'equal: as written'
cat /mnt/home/README; cd /; umount /mnt/home
mount -t ext4 -o ro /dev/zd0 /tmp; cat /tmp/etc/motd; umount /tmp; cd /mnt
zpool scrub -w tank; zpool status tank | grep -E '(scan|errors):'

cp data/noise data/copy; rm data/text; mkdir -p new/deep; mv data/many data/fewer; chmod 0700 new
for name in $(seq 1 300); do echo $name > new/a-name-that-is-too-long-for-the-small-form-of-a-table-$name; done
rm new/*7; ln data/noise data/second; setfattr -n user.new -v value new/deep; setfattr -n user.other -v file data/copy
dd if=/dev/zero of=data/noise bs=4096 seek=3 count=5 conv=notrunc 2>/dev/null; sync; echo 'written'
zfs snapshot -r tank@now; zfs list -H -o name -t snapshot
zfs rollback -r tank/root@installed; zfs destroy -r tank/root/data@now
zfs create -o mountpoint=legacy tank/fresh; zfs destroy -r tank/home; zfs destroy -r tank/disk
cd /; umount /mnt/data; cd /mnt; sh /list > /tmp/before; cd /; umount /mnt
zfs send tank/root@blank | zfs receive tank/received
zfs send -i @blank tank/root@installed | zfs receive tank/received
mount -t zfs tank/received /mnt; cd /mnt; sh /list > /tmp/after; cd /; umount /mnt
diff /tmp/before /tmp/after; echo 'equal: received'
zfs clone tank/root@installed tank/clone; zfs promote tank/clone; zfs destroy -r tank/received; echo 'promoted'
mount -t zfs tank/clone@blank /mnt; ls -A /mnt | wc -l; umount /mnt; zfs destroy tank/clone@blank; echo 'forgotten'

echo before $(zpool get -H -p -o value size tank)
zpool online -e tank vda; zpool export tank; zpool import -d /dev tank
echo after $(zpool get -H -p -o value size tank); zpool scrub -w tank; zpool status tank | grep -E '(scan|errors):'
zpool export tank; echo 'exported'
";

#[test]
fn openzfs_imports_reads_writes_and_grows_a_pool() {
    let folder = scratch();
    let source = folder.path().join("source");
    tree::strange(&source, 300, tree::Host::Linux);
    let mut maker = tree::Maker::new(&source);
    maker.directory("home").file("home/ReadMe", "read me\n");
    maker.directory("data").directory("data/many").file("data/noise", tree::noise(1, 9_000_000));
    maker.file("data/text", "some text ".repeat(400_000)).sparse(
        "data/sparse",
        300 << 20,
        &[(250 << 20, 8192)],
    );
    for number in 0..100 {
        maker.file(format!("data/many/{number}"), number.to_string());
    }
    maker.finish();
    let (manifest, disk) = (folder.path().join("disk.toml"), folder.path().join("disk.img"));
    // One that the list in the inode does not take, and one beside it.
    std::fs::write(&manifest, DISK.replace("LONG", &"61".repeat(40_000))).unwrap();
    // What it holds is in a volume, and no file of a filesystem.
    let (inside, image) = (folder.path().join("inside"), folder.path().join("disk-in-disk.img"));
    tree::plain(&inside);
    mkfs_ext4(&inside, &image, &["--size", "48MiB"]);
    let guest = guest(&source);
    std::fs::rename(&image, source.join("disk.img")).unwrap();
    tree::date(&source, tree::USUAL);
    build(&manifest, &disk);
    // The disk is larger than the pool, as if it had grown.
    must(command("truncate").args(["-s", "3G"]).arg(&disk));
    let said = guest.disk(&disk).module("ext4").run(SCRIPT);
    assert!(!said.contains("action:") && !said.contains("status:"), "{said}");
    for line in [
        " state: ONLINE",
        "recordsize\t1M\n",
        "checksum\tsha256\n",
        "compression\tzstd-3\n",
        "copies\t2\n",
        "equal: as written",
        "equal: received",
        "written\n",
        "long 40000 s\n",
        "left 1\n",
        "\nread me\nhello\n",
        "promoted\n0\nforgotten",
        "exported",
    ] {
        assert!(said.contains(line), "no `{line}` in\n{said}");
    }
    assert_eq!(said.matches("scrub repaired 0B in ").count(), 2, "{said}");
    assert_eq!(said.matches("with 0 errors on ").count(), 2, "{said}");
    let size = |when: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(when)).expect("a line with a size");
        line.trim().parse::<u64>().unwrap()
    };
    assert!(size("after") > size("before") + (900 << 20), "{said}");
    // What the kernel left is clean too.
    table::assert_clean(&disk);
    let pool = folder.path().join("pool");
    std::fs::create_dir(&pool).unwrap();
    table::extract(&disk, table::partitions(&disk)[0], &pool.join("image"));
    assert_clean(&pool.join("image"), "tank");
    // The reader has nothing to say of it either, but that the log of space maps is not read.
    let volume = read::opened(&pool.join("image"));
    let remarks = read::remarks(&*volume);
    assert!(remarks.iter().all(|remark| remark.fault == Fault::Unjudged), "{remarks:?}");
    assert_eq!(reader::names(&*volume, "/"), ["clone", "fresh", "root"]);
    assert_eq!(reader::names(&*volume, "/clone@installed"), reader::names(&*volume, "/clone"));
    // Attributes as files of a directory of their own, as the kernel wrote them.
    let copy = volume.node(reader::find(&*volume, "root/data/copy")).unwrap().meta;
    let other = Xattr { name: b"user.other".to_vec(), value: b"file".to_vec() };
    assert_eq!((copy.links, copy.xattrs), (1, vec![other]));
    assert_eq!(volume.node(reader::find(&*volume, "root/data/second")).unwrap().meta.links, 2);
}
