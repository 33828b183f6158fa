//! Pools that OpenZFS makes or fills in a helper VM, before zdb, a guest and the program's own reader.

use std::path::Path;

use super::reader;
use crate::read;
use crate::support::compare::assert_same;
use crate::support::guest::{Guest, turn};
use crate::support::program::diskwright;
use crate::support::snapshot::Snapshot;
use crate::support::tools::{Said, run, scratch};
use crate::support::{judges, tree};

/// A build of a manifest whose pool a helper VM makes. Machines take turns with those of other tests.
fn build(folder: &Path, name: &str, text: &str) -> Said {
    let _turn = turn();
    let manifest = folder.join(format!("{name}.toml"));
    std::fs::write(&manifest, text).unwrap();
    run(diskwright().arg("build").arg(&manifest).arg("-o").arg(folder.join(format!("{name}.img"))))
}

/// The helper VM of the tests: this host's QEMU without KVM, and the kernel and modules of the judges.
fn machine() -> String {
    let (kernel, modules) = (judges::kernel().0, judges::zfs_modules());
    let (zpool, _) = judges::binary("zpool");
    let tools = zpool.parent().unwrap();
    format!(
        "accel = \"tcg\", kernel = {kernel:?}, modules = {modules:?}, tools = {tools:?}, qemu = {:?}",
        judges::find("qemu-system-x86_64")
    )
}

/// A pool with these options.
fn manifest(size: &str, options: &str) -> String {
    format!(
        "version = 1\n[disk]\ntable = \"none\"\nsize = \"{size}\"\n[[partition]]\n\
         contents = [ {{ source = \"source\", target = \"/\", owner = \"preserve\" }} ]\n\
         [partition.filesystem]\ntype = \"zfs\"\n{options}"
    )
}

/// Properties, datasets, snapshots and a volume that the writer in process knows.
const KNOWN: &str = r#"
pool_properties = { autoexpand = "on", bootfs = "root", comment = "both ways" }
properties = { acltype = "posix", atime = "off", mountpoint = "legacy", xattr = "sa" }
[partition.filesystem.datasets.root]
mount = "/"
empty_snapshots = [ "blank" ]
snapshots = [ "installed" ]
[partition.filesystem.datasets."root/data"]
mount = "/data"
properties = { compression = "zstd-3", recordsize = "1M", checksum = "sha256", copies = "2", readonly = "on" }
[partition.filesystem.datasets.disk]
type = "volume"
volsize = "8MiB"
file = "/disk.img"
snapshots = [ "installed" ]
[partition.filesystem.datasets.guest]
type = "volume"
volsize = "24MiB"
mount = "/srv/guest"
filesystem = { type = "ext4", label = "guest", uuid = "6d1d3f6e-9a1b-4b5e-8c7d-2f0e1a3b5c7d" }
"#;

/// What only OpenZFS does: a raidz, a log, encryption, deduplication, a property that is not written in process.
const FOREIGN: &str = r#"
vdevs = "raidz a b c log d"
vdev_sizes = { d = "64MiB" }
pool_properties = { bootfs = "root", "feature@edonr" = "disabled" }
properties = { acltype = "posix", atime = "off", xattr = "sa", dedup = "on", sharenfs = "off" }
keys = { "tank/secret" = "key" }
[partition.filesystem.datasets.root]
mount = "/"
empty_snapshots = [ "blank" ]
snapshots = [ "installed" ]
[partition.filesystem.datasets.secret]
mount = "/data"
properties = { encryption = "on", keyformat = "passphrase", "com.example:note" = "a b" }
[partition.filesystem.datasets.disk]
type = "volume"
volsize = "8MiB"
file = "/disk.img"
[partition.filesystem.datasets.guest]
type = "volume"
volsize = "24MiB"
mount = "/srv/guest"
filesystem = { type = "ext4", label = "guest", uuid = "6d1d3f6e-9a1b-4b5e-8c7d-2f0e1a3b5c7d" }
"#;

/// What OpenZFS says of both pools, one after the other: they have one GUID, and OpenZFS imports such pools once.
const SCRIPT: &str = r"
guest() {
    until [ $(ls /dev/zd* 2> /dev/null | wc -l) = 2 ]; do sleep 1; done
    for volume in /sys/block/zd*; do [ $(cat $volume/size) != 49152 ] || sha256sum < /dev/${volume##*/}; done
}
for pool in aaaa bbbb; do
    disk=/dev/vda; [ $pool = aaaa ] || disk=/dev/vdb
    zpool import -N -d $disk tank $pool
    zfs get -H -r -o name,property,value,source all $pool | grep -v -E '	(guid|createtxg|objsetid|creation|.*used.*|available|.*referenced|written|.*ratio|snapshots_changed)	' | sed s/$pool/tank/g > /tmp/$pool
    zpool get -H -o property,value,source all $pool | grep -v -E '^(name|guid|load_guid|allocated|free|capacity|fragmentation|freeing)	' | sed 's/active/enabled/; s/'$pool/tank/ >> /tmp/$pool
    guest > /tmp/$pool.guest; cat /dev/zd* | sha256sum > /tmp/$pool.volume; zpool export $pool
done
wc -l < /tmp/aaaa; diff /tmp/aaaa /tmp/bbbb; echo 'properties: equal'
cmp /tmp/aaaa.volume /tmp/bbbb.volume; echo 'volumes: equal'
zpool import -d /dev/vdc -d /dev/vdd -d /dev/vde -d /dev/vdf -N tank
guest > /tmp/many.guest; wc -l < /tmp/many.guest; cmp /tmp/aaaa.guest /tmp/many.guest; echo 'guests: equal'
zpool status tank; zpool scrub -w tank; zpool status tank | grep -E '(scan|errors):'
zfs get -H -o property,value dedup,encryption,keylocation,com.example:note tank/secret
echo 'a secret of ours' | zfs load-key tank/secret; zpool get -H -o value bootfs tank; zfs list -H -o name -t all
mount -t zfs tank/root /mnt; mount -t zfs -o zfsutil tank/secret /mnt/data
cat /mnt/etc/motd; sha256sum /mnt/data/noise /noise; umount /mnt/data; umount /mnt; zpool export tank; echo 'exported'
";

/// A tree with everything, and with what goes to a dataset and a volume of their own. Its noise is returned.
fn source(folder: &Path) -> Vec<u8> {
    let source = folder.join("source");
    tree::strange(&source, 200, tree::Host::Linux);
    let noise = tree::noise(1, 3_000_000);
    let mut maker = tree::Maker::new(&source);
    maker.directory("data").file("data/noise", &noise).file("disk.img", tree::noise(2, 5_000_000));
    maker.directory("etc").file("etc/motd", "hello\n").sparse("data/sparse", 300 << 20, &[(250 << 20, 8192)]);
    maker.directory("srv").directory("srv/guest").file("srv/guest/noise", tree::noise(3, 2_000_000));
    maker.sparse("srv/guest/sparse", 9 << 20, &[(8 << 20, 4096)]);
    maker.finish();
    noise
}

#[test]
fn a_pool_made_in_process_and_one_that_openzfs_filled_are_equal() {
    let folder = scratch();
    let noise = source(folder.path());
    std::fs::write(folder.path().join("key"), "a secret of ours").unwrap();
    let vm = format!("via = \"vm\"\nvm = {{ {} }}\n", machine());
    for (name, options) in
        [("one", KNOWN.to_owned()), ("two", format!("{vm}{KNOWN}")), ("many", format!("{vm}{FOREIGN}"))]
    {
        let said = build(folder.path(), name, &manifest("512MiB", &options));
        assert_eq!(said.code, 0, "{name}: {}", said.error());
        assert!(!said.error().contains("lost"), "{}", said.error());
    }
    // Nothing but the disks is there.
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.retain(|name| name.contains("many"));
    assert_eq!(names, ["many.b.img", "many.c.img", "many.d.img", "many.img", "many.toml"]);
    let view = |name: &str| read::view(&*read::opened(&folder.path().join(format!("{name}.img")))).unwrap();
    let (one, two) = (view("one"), view("two"));
    // Inodes may have other numbers.
    let bare = |snapshot: &Snapshot| snapshot.0.keys().cloned().collect::<Vec<_>>();
    assert_eq!(bare(&one), bare(&two));
    assert_same("the helper VM", &one, &two, &reader::ASPECTS);
    let disks = ["one", "two", "many", "many.b", "many.c", "many.d"]
        .map(|name| folder.path().join(format!("{name}.img")));
    let guest = disks.iter().fold(Guest::new().zfs(), |guest, disk| guest.disk(disk));
    let said = guest.program("sha256sum").file("noise", noise).run(SCRIPT);
    for line in [
        "properties: equal",
        "volumes: equal",
        "1\nguests: equal",
        " state: ONLINE",
        "raidz1-0",
        "logs",
        "dedup\ton",
        "encryption\taes-256-gcm",
        "keylocation\tprompt",
        "com.example:note\ta b",
        "tank/root\n",
        "tank/root@blank\ntank/root@installed",
        "with 0 errors on ",
        "errors: No known data errors",
        "\nhello\n",
        "exported",
    ] {
        assert!(said.contains(line), "no `{line}` in\n{said}");
    }
    let sums: Vec<&str> = said
        .lines()
        .filter(|line| line.ends_with("noise"))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(matches!(sums.as_slice(), [one, other] if one == other), "{said}");
}

#[test]
fn what_is_encrypted_is_not_judged_and_no_fault() {
    let folder = scratch();
    tree::plain(&folder.path().join("source"));
    std::fs::write(folder.path().join("key"), "a secret of ours").unwrap();
    let options = format!(
        "via = \"vm\"\nvm = {{ {} }}\nkeys = {{ \"tank/secret\" = \"key\" }}\n{}",
        machine(),
        "[partition.filesystem.datasets.secret]\nmount = \"/secret\"\n\
         properties = { encryption = \"on\", keyformat = \"passphrase\" }\n"
    );
    let said = build(folder.path(), "disk", &manifest("128MiB", &options));
    assert_eq!(said.code, 0, "{}", said.error());
    let checked = run(diskwright().arg("check").arg(folder.path().join("disk.img")));
    let text = checked.text();
    assert_eq!(checked.code, 0, "{text}{}", checked.error());
    assert!(text.contains("tank/secret: what it holds is not read here: it is encrypted"), "{text}");
    assert!(text.contains("space maps: what is taken was not compared"), "{text}");
}

#[test]
fn what_a_helper_vm_lacks_and_says_is_told() {
    let folder = scratch();
    tree::plain(&folder.path().join("source"));
    let parts = |changed: &str| {
        let mut parts: Vec<String> = machine().split(", ").map(str::to_owned).collect();
        let key = changed.split(' ').next().unwrap();
        parts.retain(|part| !part.starts_with(&format!("{key} ")));
        parts.push(changed.to_owned());
        format!("via = \"vm\"\nvm = {{ {} }}\n", parts.join(", "))
    };
    for (options, words) in [
        (parts("kernel = \"/nonexistent\""), ["disk.toml", "linux-image-cloud-amd64 of Debian"]),
        (parts("modules = \"/nonexistent\""), ["zfs among them", "zfs-dkms of Debian"]),
        (parts("tools = \"/nonexistent\""), ["zpool and zfs", "zfsutils-linux of Debian"]),
        (parts("qemu = \"/nonexistent\""), ["no QEMU", "qemu-system-x86"]),
        (parts("time_limit = 1"), ["takes too long", "within 1 s"]),
        (
            format!("{}properties = {{ relatime = \"perhaps\" }}\n", parts("accel = \"tcg\"")),
            ["the helper VM failed: zpool create", "relatime"],
        ),
        ("vdevs = \"mirror a b\"\n".to_owned(), ["`vdevs` is for pools", "via"]),
        ("via = \"vm\"\npool = \"mirror\"\n".to_owned(), ["no ZFS pool can have this name", "pool"]),
    ] {
        let said = build(folder.path(), "disk", &manifest("128MiB", &options));
        assert_ne!(said.code, 0, "{options}");
        for word in words {
            assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
        }
        assert!(!folder.path().join("disk.img").exists());
    }
}
