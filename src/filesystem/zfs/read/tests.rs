//! Pools that are hostile: what is in blocks is changed behind their checksums. The result is an answer or an error for people,
//! soon and with little memory.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::block::Pointer;
use super::*;
use crate::error::Kind;
use crate::filesystem::{Placement, Size, zfs};
use crate::image::{Builder, Image};
use crate::pour::Packer;
use crate::tree::{self, Meta, Tree};
use crate::units::{low8, u64_of, usize_of};
use crate::values::Property;
use zfs::{DatasetKind, DatasetOptions, Options};

thread_local! {
    /// What the blocks of pools that this thread opens are changed by; nothing changes them otherwise.
    pub(super) static TAMPER: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A number that is as good as random.
fn scrambled(number: u64) -> u64 {
    let number = (number ^ number >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (number ^ number >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ number >> 32
}

/// A block. A few words of some blocks are changed, the same ones each time.
pub(super) fn tampered(by: Option<u64>, pointer: &Pointer, mut bytes: Vec<u8>) -> Vec<u8> {
    let Some(by) = by else { return bytes };
    let own = scrambled(by ^ pointer.place().unwrap_or(pointer.logical()));
    if !own.is_multiple_of(6) || bytes.is_empty() {
        return bytes;
    }
    for change in 0..1 + own % 3 {
        let random = scrambled(own.wrapping_add(change));
        let at = usize_of((random >> 8) % u64_of(bytes.len()));
        // Near what is there, where structures are, since most blocks are mostly zeros.
        let at = bytes[at..].iter().position(|byte| *byte != 0).map_or(at / 64, |found| at + found);
        bytes[at] = match random & 3 {
            0 => 0xff,
            1 => 0,
            2 => bytes[at].wrapping_add(1),
            _ => low8(random >> 40),
        };
    }
    bytes
}

/// A pool with everything that there is: small and large tables, holes, several levels, spilled attributes, snapshots, volumes.
fn sample() -> Image {
    let mut builder = tree::Builder::new(Time::default());
    let origin = builder.origin("test");
    let file = || Meta::root(0o644, Time::seconds(1));
    let mut put = |name: &str, bytes: Vec<u8>| builder.text(name.as_bytes(), bytes, file(), origin).unwrap();
    for number in 0..70 {
        put(&format!("/many/a-name-that-is-too-long-for-the-small-form-of-a-table-{number}"), Vec::new());
        put(&format!("/few/{number}"), vec![1; 10 * number]);
    }
    let noise = |count: u64| (0..count).flat_map(|at| scrambled(at).to_le_bytes()).collect::<Vec<u8>>();
    put("/noise", noise(80_000));
    put("/disk", noise(3000));
    let holes = [vec![7; 4096], vec![0; 400_000], noise(600)].concat();
    put("/holes", holes);
    builder.symlink(b"/long", "t".repeat(600).as_bytes(), file(), origin).unwrap();
    let tree: Arc<Tree> = Arc::new(builder.finish(1).unwrap());
    let disk = DatasetOptions {
        kind: Some(DatasetKind::Volume),
        volsize: Some(Bytes::new(1 << 20)),
        file: Some("/disk".to_owned()),
        ..DatasetOptions::default()
    };
    let root = DatasetOptions {
        mount: Some("/".to_owned()),
        empty_snapshots: vec!["blank".to_owned()],
        snapshots: vec!["installed".to_owned()],
        ..DatasetOptions::default()
    };
    let datasets: BTreeMap<_, _> = [
        ("root/disk".to_owned(), disk),
        ("root".to_owned(), root),
        ("home".to_owned(), DatasetOptions::default()),
    ]
    .into();
    let properties = [("recordsize".to_owned(), Property("512".to_owned()))].into();
    let options = Options { ashift: Some(9), datasets, properties, ..Options::default() };
    let at = Placement::alone(uuid::Uuid::from_u128(1));
    zfs::build(&tree, &options, &at, &Packer::default()).unwrap().image
}

fn opened(image: &Image, by: Option<u64>) -> Result<Option<Zfs>> {
    TAMPER.set(by);
    let opened = open_with(&image.whole(), by.is_none());
    TAMPER.set(None);
    opened
}

fn acceptable(error: &Error) {
    assert!(matches!(error.kind(), Kind::Format | Kind::Interrupted), "{error}");
}

/// Walks over all of a pool that can be reached, and checks it; returns how many names and bytes there are.
fn exercise(pool: &Zfs) -> (u64, u64) {
    let (mut names, mut bytes, mut places) = (0, 0, HashSet::new());
    let control = pool.lookup(pool.root(), b".zfs").unwrap_or(None);
    let mut stack: Vec<Inode> = control.into_iter().chain([pool.root()]).collect();
    while let Some(inode) = stack.pop() {
        let node = match pool.node(inode) {
            Ok(node) => node,
            Err(error) => {
                acceptable(&error);
                continue;
            }
        };
        pool.space(inode).map_or_else(|error| acceptable(&error), drop);
        let result = match node.content {
            Content::Directory { place } if places.insert(place) => {
                pool.lookup(inode, b"0").map_or_else(|error| acceptable(&error), drop);
                pool.list(inode, &mut |name, child| {
                    assert!(!name.contains(&b'/') && !name.is_empty());
                    names += 1;
                    stack.push(child);
                    Ok(())
                })
            }
            Content::File { size } => pool.data(inode, &mut |at, piece| {
                assert!(at + piece.length() <= size);
                bytes += piece.length().get();
                piece.read(0, &mut [0; 64][..usize_of(piece.length().get().min(64))])
            }),
            _ => Ok(()),
        };
        result.unwrap_or_else(|error| acceptable(&error));
    }
    (names, bytes)
}

fn remarks(pool: &Zfs) -> Vec<String> {
    let mut remarks = Vec::new();
    let heard = pool.check(&mut |remark| {
        remarks.push(remark.to_string());
        if remarks.len() < 500 { Ok(()) } else { Err(Error::new(Kind::Interrupted, "enough")) }
    });
    heard.unwrap_or_else(|error| acceptable(&error));
    remarks
}

#[test]
fn a_pool_that_is_sound_is_read_to_its_end() {
    let image = sample();
    let pool = opened(&image, None).unwrap().unwrap();
    let names: Vec<&str> = pool.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(
        names,
        ["tank", "tank/home", "tank/root", "tank/root@blank", "tank/root@installed", "tank/root/disk"]
    );
    let (names, bytes) = exercise(&pool);
    // Two datasets; in `root` a volume, two directories with 70 names each, two files, a link; `snapshot` of the pool.
    assert_eq!(names, 2 + 1 + 2 + 140 + 3 + 1);
    assert!(bytes > 640_000 + 24_000, "{bytes}");
    assert_eq!(remarks(&pool), [""; 0]);
}

#[test]
fn blocks_that_lie_are_no_danger() {
    let image = sample();
    let (mut read, mut heard, mut refused) = (0, 0, 0);
    for by in 1..150 {
        match opened(&image, Some(by)) {
            Ok(Some(pool)) => {
                exercise(&pool);
                heard += u64::from(!remarks(&pool).is_empty());
                read += 1;
            }
            Ok(None) => panic!("the labels were not changed"),
            Err(error) => {
                acceptable(&error);
                refused += 1;
            }
        }
    }
    assert!(read > 10 && heard > 10 && refused > 10, "{read} read, {heard} with remarks, {refused} refused");
}

/// The first label, its configuration and uberblock, changed in each byte that is not zero.
#[test]
fn labels_that_lie_are_no_danger() {
    let image = sample();
    let mut label = vec![0; 256 << 10];
    image.read(0, &mut label).unwrap();
    // Older pools have no boot environment with a checksum, which lies before the configuration.
    let used: Vec<usize> = (16 << 10..label.len()).filter(|at| label[*at] != 0).collect();
    for (number, at) in used.into_iter().enumerate() {
        let mut bytes = label.clone();
        bytes[at] = if number % 2 == 0 { 0xff } else { bytes[at].wrapping_add(1) };
        let mut disk = Builder::new(image.length());
        disk.bytes(Bytes::ZERO, "label", bytes);
        let rest = Bytes::new(u64_of(label.len()));
        disk.put(rest, &image.whole().sub(rest, image.length()));
        let disk = disk.finish().unwrap();
        // What has no checksum to stand against is read.
        let found = open_with(&disk.whole(), false);
        found.map_or_else(|error| acceptable(&error), drop);
        // The other labels are whole.
        let pool = opened(&disk, None).unwrap().unwrap();
        assert!(!pool.labels.faults.is_empty(), "byte {at}");
    }
}

/// Sizes that no test writes to a disk: a pool of 16 TiB with a file of 10 TiB, which is mostly holes.
#[test]
fn a_file_of_ten_tebibytes_is_in_a_pool_of_sixteen() {
    const RECORD: u64 = 128 << 10;
    let length = 10 << 40;
    let places = [0, (5 << 40) + 777, length - 9];
    let mut file = Builder::new(Bytes::new(length));
    for place in places {
        file.bytes(Bytes::new(place), "data", *b"something");
    }
    let mut builder = tree::Builder::new(Time::default());
    let origin = builder.origin("test");
    let meta = Meta::root(0o600, Time::seconds(1));
    builder.slice(b"/long", file.finish().unwrap().whole(), meta, origin).unwrap();
    let tree = Arc::new(builder.finish(1).unwrap());
    let size = Size::Fixed(Bytes::new(16 << 40));
    let at = Placement { size, ..Placement::alone(uuid::Uuid::from_u128(1)) };
    let built = zfs::build(&tree, &Options::default(), &at, &Packer::default()).unwrap();
    let pool = opened(&built.image, None).unwrap().unwrap();
    assert_eq!(pool.facts(), &built.facts);
    assert_eq!((built.facts.blocks * 4096) >> 34, 1023, "metaslabs of 16 GiB");
    assert_eq!(remarks(&pool), [""; 0]);
    let long = pool.lookup(pool.root(), b"long").unwrap().unwrap();
    assert_eq!(pool.node(long).unwrap().content, Content::File { size: Bytes::new(length) });
    let mut pieces = Vec::new();
    pool.data(long, &mut |at, piece| {
        pieces.push((at.get(), piece.length().get()));
        Ok(())
    })
    .unwrap();
    assert_eq!(pieces, places.map(|place| (place / RECORD * RECORD, RECORD)));
    let bytes = crate::filesystem::contents(&pool, long).unwrap();
    for place in places {
        assert_eq!(bytes.bytes(place, 9).unwrap(), b"something");
    }
    assert_eq!(bytes.bytes(7 << 40, 100).unwrap(), [0; 100]);
    let (object, _, _) = pool.file(&pool.opened(0).unwrap(), parts(long).1).unwrap();
    // 83,886,080 records. A pointer leads to 1024 of them, and so on: 81,920, 80, 1.
    assert_eq!((object.head.dn_nlevels, object.head.dn_maxblkid), (4, length / RECORD - 1));
}
