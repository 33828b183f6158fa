//! Correct manifests: their meaning, which must not depend on their spelling.

use super::*;

use crate::disk::{Body, Disk, Payload, Size, Work};
use crate::filesystem::Spec;
use crate::front::Dates;
use crate::table::{Attribute, Scheme, Type};
use crate::tree::xattr::Patterns;
use crate::tree::{Content, Hardlinks, Meta, Owner, Time};
use crate::units::{Bytes, MIB};

fn manifest(text: &str) -> Manifest {
    Manifest::parse(text.to_owned(), Path::new("folder/disk.toml"), Path::new("folder")).unwrap()
}

fn disk(text: &str) -> Disk {
    manifest(text).describe(None, &Work::default()).unwrap().disk
}

/// The meaning of the entries of the one partition with these `contents`.
fn entries(contents: &str) -> Vec<Payload> {
    let text = format!(
        "version = 1\n[[partition]]\nfilesystem = {{ type = \"ext4\" }}\ncontents = [\n{contents}\n]\n"
    );
    disk(&text).partitions[0].entries().iter().map(|entry| entry.payload.clone()).collect()
}

#[test]
fn what_is_not_written_has_a_default() {
    let disk = disk("version = 1\n[[partition]]\nsize = \"1MiB\"\n");
    assert_eq!((disk.scheme, disk.size, disk.sector_size), (Scheme::Gpt, None, 512));
    assert_eq!((disk.guid, disk.signature, disk.first_lba, disk.time), (None, None, None, Time::seconds(0)));
    let [partition] = disk.partitions.as_slice() else { panic!() };
    assert_eq!(partition.kind, Type::parse("linux", None).unwrap());
    assert_eq!((partition.label.as_str(), partition.number, partition.start), ("", None, None));
    assert_eq!(partition.size, Size::Fixed(Bytes::new(MIB)));
    assert!(matches!(partition.body, Body::Empty));
}

#[test]
fn a_type_follows_from_swap_and_names_from_the_architecture() {
    let text = "version = 1\n[disk]\narchitecture = \"arm64\"\n[[partition]]\nsize = \"1MiB\"\nfilesystem = { type = \
                \"swap\" }\n[[partition]]\ntype = \"root\"\nfilesystem = { type = \"ext4\" }\n";
    let disk = disk(text);
    assert_eq!(disk.partitions[0].kind, Type::parse("swap", None).unwrap());
    assert_eq!(disk.partitions[1].kind, Type::parse("root-arm64", None).unwrap());
    assert_eq!(disk.partitions[1].size, Size::Auto);
}

#[test]
fn without_a_table_the_partition_is_as_large_as_a_disk_of_given_size() {
    let text = |size: &str| {
        format!(
            "version = 1\n[disk]\ntable = \"none\"\nsize = \"{size}\"\n[[partition]]\nfilesystem = {{ type = \"ext4\" }}\n"
        )
    };
    assert_eq!(disk(&text("64MiB")).partitions[0].size, Size::Fill);
    assert_eq!(disk(&text("auto")).partitions[0].size, Size::Auto);
}

#[test]
fn the_time_is_the_manifest_s_then_the_epoch_s_then_zero() {
    let given = manifest("version = 1\n[disk]\ntime = 7\n[[partition]]\nsize = 512\n");
    let silent = manifest("version = 1\n[[partition]]\nsize = 512\n");
    for (manifest, epoch, time, latest) in [
        (&given, None, 7, None),
        (&given, Some(5), 7, Some(7)),
        (&silent, None, 0, None),
        (&silent, Some(5), 5, Some(5)),
    ] {
        let dates = Dates::new(manifest.written.disk.time, epoch);
        assert_eq!((dates.time, dates.latest), (Time::seconds(time), latest.map(Time::seconds)));
    }
}

#[test]
fn ids_and_attributes_are_those_of_the_table() {
    let mbr = disk(
        "version = 1\n[disk]\ntable = \"mbr\"\nguid = \"0x2178694e\"\n[[partition]]\nsize = 512\ntype = \"0x0c\"\n\
         attributes = [\"active\"]\n",
    );
    assert_eq!((mbr.guid, mbr.signature), (None, Some(0x2178_694e)));
    assert_eq!(mbr.partitions[0].attributes, [Attribute::Active]);
    assert_eq!(mbr.partitions[0].kind, Type::Mbr(0x0c));
    let gpt = disk("version = 1\n[[partition]]\nsize = 512\nattributes = [\"read-only\", 2]\n");
    assert_eq!(gpt.partitions[0].attributes, [Attribute::Bit(60), Attribute::Bit(2)]);
}

#[test]
fn entries_mean_what_they_say() {
    let made = entries(
        "{ text = \"x\", target = \"/a\" },
         { text = \"x\", target = \"/b\", mode = \"4755\", owner = \"5:6\", mtime = -9 },
         { symlink = \"to\", target = \"/c\" },
         { directory = true, target = \"/d\" },
         { device = \"b 8 1\", target = \"/e\", mode = \"0660\" },",
    );
    let root = |mode| Meta::root(mode, Time::seconds(0));
    let mut odd = Meta::root(0o4755, Time::seconds(-9));
    (odd.uid, odd.gid) = (5, 6);
    assert!(matches!(&made[0], Payload::Text { text, meta } if **text == *b"x" && *meta == root(0o644)));
    assert!(matches!(&made[1], Payload::Text { meta, .. } if *meta == odd));
    assert!(matches!(&made[2], Payload::Symlink { to, meta } if to == "to" && *meta == root(0o777)));
    assert!(matches!(&made[3], Payload::Node { content: Content::Directory, meta } if *meta == root(0o755)));
    assert!(matches!(
        &made[4],
        Payload::Node { content: Content::BlockDevice { device: (8, 1) }, meta } if *meta == root(0o660)
    ));
}

#[test]
fn sources_begin_at_the_manifest_and_have_their_rules() {
    let found = entries(
        "{ source = \"etc\", target = \"/\" },
         { source = \"/abs/x\", target = \"/x\", owner = \"preserve\", hardlinks = \"dedupe\", mode = \"0700\", xattrs = [] },
         { source = \"a/*.conf\", target = \"/etc\" },
         { source = \"*\", target = \"/\" },
         { source = \"/*\", target = \"/\" },
         { closure = \"info\", target = \"/\" },
         { closure = \"info\", target = \"/\", hardlinks = \"preserve\" },",
    );
    let Payload::Source { path, rules, xattrs } = &found[0] else { panic!() };
    assert_eq!(path, Path::new("folder/etc"));
    assert_eq!(
        (rules.owner, rules.hardlinks, rules.mode, rules.store),
        (Owner::Root, Hardlinks::Preserve, None, false)
    );
    assert!(xattrs.keep(b"user.x") && !xattrs.keep(b"security.selinux"));
    let Payload::Source { path, rules, xattrs } = &found[1] else { panic!() };
    assert_eq!(path, Path::new("/abs/x"));
    assert_eq!((rules.owner, rules.hardlinks, rules.mode), (Owner::Preserve, Hardlinks::Dedupe, Some(0o700)));
    assert!(xattrs.is_empty());
    let globs: Vec<_> = found[2..5]
        .iter()
        .map(|what| match what {
            Payload::Glob { folder, pattern, .. } => (folder.to_str().unwrap(), pattern.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(globs, [("folder/a", "*.conf"), ("folder", "*"), ("/", "*")]);
    let closures: Vec<_> = found[5..]
        .iter()
        .map(|what| match what {
            Payload::Closure { rules, .. } => (rules.store, rules.hardlinks),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(closures, [(true, Hardlinks::Dissolve), (true, Hardlinks::Preserve)]);
}

#[test]
fn vfat_asks_for_what_it_is_going_to_lose() {
    let disk = disk(
        "version = 1\n[[partition]]\nfilesystem = { type = \"vfat\", uuid = \"1234-ABCD\" }\ncontents = [ { source = \
         \"esp\", target = \"/\", owner = \"root\" } ]\n",
    );
    let Body::Filesystem(Spec::Vfat(vfat), _) = &disk.partitions[0].body else { panic!() };
    assert_eq!(vfat.volume_id.map(|id| id.0), Some(0x1234_abcd));
    assert!(matches!(
        &disk.partitions[0].entries()[0].payload,
        Payload::Source { rules, xattrs, .. } if rules.hardlinks == Hardlinks::Preserve && *xattrs == Patterns::default()
    ));
}

const SPELLED: &str = "
version = 1 # a comment
[disk]
size = \"1GiB\"
[[partition]]
size = \"auto\"
filesystem = { type = \"ext4\", journal = true, free = 1048576 }
contents = [ { text = \"ü\\n\", target = \"/x\", mode = \"644\" } ]
";

#[test]
fn the_canonical_form_does_not_depend_on_the_spelling() {
    let one = manifest(SPELLED).canonical();
    assert_eq!(
        one,
        "{\"disk\":{\"size\":\"1GiB\"},\"partition\":[{\"contents\":[{\"mode\":\"0644\",\"target\":\"/x\",\"text\":\
         \"ü\\n\"}],\"filesystem\":{\"free\":\"1MiB\",\"journal\":\"true\",\"type\":\"ext4\"},\"size\":\"auto\"}],\
         \"version\":1}"
    );
    let json =
        "{\"partition\":[{\"contents\":[{\"target\":\"/x\",\"text\":\"\\u00fc\\n\",\"mode\":\"0644\"}],
        \"filesystem\":{\"journal\":\"auto\",\"free\":\"1MiB\",\"type\":\"ext4\"},\"size\":\"auto\"}],
        \"disk\":{\"size\":1073741824,\"format\":\"raw\"},\"version\":1}";
    assert_eq!(manifest(json).canonical(), one);
    assert_ne!(manifest(&SPELLED.replace("1GiB", "2GiB")).canonical(), one);
    // The canonical form reads back as the same manifest.
    assert_eq!(manifest(&one).written, manifest(SPELLED).written);
}

#[test]
fn a_key_of_the_schema_is_a_key_of_the_parser() {
    let schema: serde_json::Value = serde_json::from_str(&schema::json()).unwrap();
    let entry = &schema["$defs"]["Entry"];
    assert_eq!(entry["additionalProperties"], false);
    for (table, line) in [
        ("Disk", "[disk]\nx = 1"),
        ("Partition", "[[partition]]\nx = 1"),
        ("Entry", "[[partition]]\ncontents = [ { x = 1 } ]"),
    ] {
        let text = format!("version = 1\n{line}\n");
        let error = Manifest::parse(text, Path::new("x.toml"), Path::new(".")).unwrap_err().to_string();
        let listed = error.lines().find_map(|line| line.strip_prefix("  expected: one of ")).unwrap();
        let mut listed: Vec<&str> = listed.split(", ").collect();
        listed.sort_unstable();
        let mut known: Vec<&str> =
            schema["$defs"][table]["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        known.sort_unstable();
        assert_eq!(listed, known, "{table}");
    }
}

#[test]
fn a_mark_of_the_byte_order_and_line_ends_of_windows_are_no_part_of_it() {
    let plain = manifest(SPELLED).canonical();
    assert_eq!(manifest(&format!("\u{feff}{SPELLED}")).canonical(), plain);
    assert_eq!(manifest(&SPELLED.replace('\n', "\r\n")).canonical(), plain);
    // The first character still tells JSON from TOML.
    assert_eq!(manifest(&format!("\u{feff}{plain}")).canonical(), plain);
    let read = |bytes: &[u8]| Manifest::read(bytes, Path::new("x.json"), Path::new("."));
    assert_eq!(read(format!("\u{feff}{plain}").as_bytes()).unwrap().canonical(), plain);
}

#[test]
fn in_json_null_is_what_is_not_written() {
    let nulls = "{\"version\":1,\"disk\":{\"table\":null},\"partition\":[{\"size\":null,\"filesystem\":null,\"contents\":null},
        {\"filesystem\":{\"type\":\"ext4\",\"label\":null},\"contents\":[{\"text\":\"x\",\"source\":null,\"target\":\"/x\"}]}]}";
    assert_eq!(
        manifest(nulls).canonical(),
        "{\"disk\":{},\"partition\":[{},{\"contents\":[{\"target\":\"/x\",\"text\":\"x\"}],\"filesystem\":{\"type\":\
         \"ext4\"}}],\"version\":1}"
    );
}
