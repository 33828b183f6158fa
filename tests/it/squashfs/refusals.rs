//! What a SquashFS cannot hold is refused, with what it is about and what may be done.

use std::path::Path;
use std::sync::Arc;

use diskwright::error::{Error, Kind};
use diskwright::filesystem::squashfs::{Options, build};
use diskwright::filesystem::{Placement, Size};
use diskwright::pour::Packer;
use diskwright::tree::{Builder, Content, Meta, Time, Tree, Xattr};
use diskwright::units::Bytes;
use uuid::Uuid;

use crate::support::program::diskwright;
use crate::support::tools::{run, scratch};
use crate::support::tree::Maker;

fn tree(fill: impl FnOnce(&mut Builder)) -> Arc<Tree> {
    let mut builder = Builder::new(Time::default());
    fill(&mut builder);
    Arc::new(builder.finish(1).unwrap())
}

fn built(tree: &Arc<Tree>, options: &Options) -> Result<u64, Error> {
    let at = Placement { size: Size::Auto, ..Placement::alone(Uuid::nil()) };
    build(tree, options, &at, &Packer::default()).map(|built| built.image.length().get())
}

fn refused(tree: &Arc<Tree>) -> Error {
    let error = built(tree, &Options::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Capacity, "{error}");
    error
}

/// Each file with an owner and a group that no other has.
fn owners(count: u32) -> Arc<Tree> {
    tree(|builder| {
        let origin = builder.origin("the test");
        for id in 0..count {
            let meta = Meta { uid: id * 2 + 1, gid: id * 2 + 2, ..Meta::root(0o644, Time::default()) };
            let target = format!("/{}/{id}", id / 500);
            builder.put(target.as_bytes(), meta, Content::Fifo, origin).unwrap();
        }
    })
}

#[test]
fn more_owners_than_a_field_counts() {
    // Root, and two for each file: 65,535 fit.
    built(&owners(32_767), &Options::default()).unwrap();
    let error = refused(&owners(32_768));
    let text = error.to_string();
    assert!(text.contains("at most 65535") && text.contains("65537") && text.contains("`owner`"), "{text}");
}

#[test]
fn devices_and_attributes_that_linux_has_not() {
    let one = |content: Content, meta: Meta| {
        tree(|builder| {
            let origin = builder.origin("the test");
            builder.put(b"/thing", meta, content, origin).unwrap();
        })
    };
    let meta = Meta::root(0o644, Time::default());
    for device in [(4096, 0), (0, 1 << 20)] {
        let error = refused(&one(Content::BlockDevice { device }, meta));
        assert!(error.to_string().contains("/thing"), "{error}");
    }
    built(&one(Content::CharacterDevice { device: (4095, (1 << 20) - 1) }, meta), &Options::default())
        .unwrap();
    for (name, length, what) in [("user.n", 65_537, "65537 bytes"), (&"user.".repeat(52), 1, "260 bytes")] {
        let tree = tree(|builder| {
            let origin = builder.origin("the test");
            let set = builder.xattr_set(&[Xattr { name: name.into(), value: vec![1; length] }]);
            builder.put(b"/thing", Meta { xattrs: set, ..meta }, Content::Fifo, origin).unwrap();
        });
        let text = refused(&tree).to_string();
        assert!(text.contains(what) && text.contains("/thing"), "{text}");
    }
}

/// Before anything is read: these files are nowhere.
#[test]
fn files_whose_lists_of_blocks_have_no_end() {
    let meta = Meta::root(0o644, Time::default());
    let large = |size| {
        tree(|builder| {
            let origin = builder.origin("the test");
            builder.file(b"/large", Path::new("/nowhere"), (size, 0), meta, origin).unwrap();
        })
    };
    for chunk in [1 << 12, 1 << 20] {
        let options = Options { chunk: Some(Bytes::new(chunk)), ..Options::default() };
        let error = built(&large(i64::MAX.unsigned_abs()), &options).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), Kind::Capacity);
        assert!(text.contains("/large") && text.contains("`chunk`"), "{text}");
    }
}

#[test]
fn options_that_there_are_not() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("out.img"));
    Maker::new(&source).finish();
    for (arguments, parts) in [
        (&["--level", "20"][..], &["--level", "1 to 19 with zstd"][..]),
        (&["--level", "0"], &["--level"]),
        (&["--compress", "gzip", "--level", "10"], &["--level", "1 to 9 with gzip"]),
        (&["--compress", "lz4", "--level", "1"], &["--level", "no level with lz4"]),
        (&["--compress", "none", "--level", "1"], &["--level", "no level with none"]),
        (&["--compress", "lzo"], &["zstd, gzip, xz, lz4, none"]),
        (&["--chunk", "2KiB"], &["--chunk", "4KiB to 1MiB", "2KiB"]),
        (&["--chunk", "2MiB"], &["--chunk", "4KiB to 1MiB"]),
        (&["--chunk", "96KiB"], &["--chunk", "a power of two"]),
        (&["--label", "x"], &["--label"]),
        (&["--free", "1MiB", "--size", "1MiB"], &["free"]),
    ] {
        let mut command = diskwright();
        let said = run(command.args(["mkfs", "squashfs"]).arg(&source).arg("-o").arg(&image).args(arguments));
        assert_eq!(said.code, 2, "{arguments:?}: {}", said.error());
        for part in parts {
            assert!(said.error().contains(part), "{arguments:?}: no `{part}` in\n{}", said.error());
        }
        assert!(!image.exists());
    }
}
