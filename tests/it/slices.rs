//! Files whose bytes are slices of an image: filesystems and archives must equal those made from host files.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use diskwright::filesystem::{Placement, ext4, fat};
use diskwright::image::Image;
use diskwright::nix::nar;
use diskwright::tree::xattr::Patterns;
use diskwright::tree::{Builder, Meta, NodeId, Request, Rules, Time, Tree, scan};
use diskwright::units::{Bytes, MIB};

use crate::support::tools::scratch;

/// A filesystem by itself.
fn alone() -> Placement {
    Placement::alone(uuid::Uuid::from_u128(7))
}

/// Files of unlike lengths, one with holes that are no whole blocks of data.
fn write(folder: &Path) {
    for (name, length) in [("empty", 0), ("short", 5), ("block", 4096), ("long", 300_001)] {
        let bytes: Vec<u8> = (0..length).map(|at: u32| (at % 251 + 1).to_le_bytes()[0]).collect();
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    let sparse = std::fs::File::create(folder.join("sparse")).unwrap();
    sparse.set_len(3 * MIB + 77).unwrap();
    sparse.write_all_at(b"a few bytes", 8000).unwrap();
    sparse.write_all_at(b"the end", 3 * MIB + 70).unwrap();
    std::fs::File::create(folder.join("hole")).unwrap().set_len(70_000).unwrap();
}

/// The folder as the host has it.
fn of_files(folder: &Path) -> Arc<Tree> {
    let request = Request {
        path: folder.to_owned(),
        follow: true,
        xattrs: Patterns::default(),
        holes: true,
        select: None,
    };
    let found = scan(&[request], 2, &diskwright::progress::Progress::default()).unwrap();
    let mut builder = Builder::new(Time::default());
    let origin = builder.origin("test");
    let rules = Rules { mtime: Some(Time::seconds(9)), mode: Some(0o755), ..Rules::default() };
    builder.graft(b"/", &found, 0, &rules, origin).unwrap();
    Arc::new(builder.finish(1).unwrap())
}

/// The same tree, with each file a slice of one image, in which all files follow each other from an odd
/// offset on.
fn of_slices(files: &Arc<Tree>) -> Arc<Tree> {
    let mut places = Vec::new();
    let mut at = 4097;
    for id in files.ids().skip(1) {
        places.push((id, at));
        at += files.size(id) + 1;
    }
    let mut image = diskwright::image::Builder::new(Bytes::new(at));
    let table = image.files(Arc::<Tree>::clone(files));
    for (id, at) in &places {
        let length = Bytes::new(files.size(*id));
        files.data(*id, table).unwrap().put(&mut image, Bytes::new(*at), length, 0).unwrap();
    }
    let image = image.finish().unwrap();
    let mut builder = Builder::new(Time::default());
    let origin = builder.origin("test");
    let root = Meta::root(0o755, Time::seconds(9));
    builder.put(b"/", root, diskwright::tree::Content::Directory, origin).unwrap();
    for (id, at) in places {
        let slice = image.slice(Bytes::new(at), Bytes::new(at + files.size(id)));
        let target = files.path_bytes(id);
        builder.slice(&target, slice, files.node(id).meta, origin).unwrap();
    }
    Arc::new(builder.finish(1).unwrap())
}

fn bytes(image: &Image) -> Vec<u8> {
    let mut bytes = vec![0xd1; usize::try_from(image.length().get()).unwrap()];
    image.read(0, &mut bytes).unwrap();
    bytes
}

fn runs(image: &Image) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for segment in image.segments() {
        let (start, end) = (segment.offset.get() / 4096, segment.end().get().div_ceil(4096));
        match runs.last_mut() {
            Some(last) if last.1 >= start => last.1 = end.max(last.1),
            _ => runs.push((start, end)),
        }
    }
    runs
}

#[test]
fn a_filesystem_of_slices_is_that_of_the_files() {
    let folder = scratch();
    write(folder.path());
    let files = of_files(folder.path());
    let slices = of_slices(&files);
    assert!(slices.ranges(slices.find(b"/sparse").unwrap()).is_some_and(|ranges| ranges.len() == 2));
    let made = |tree: &Arc<Tree>| {
        let ext4 = ext4::build(tree, &ext4::Options::default(), &alone()).unwrap().image;
        let fat = fat::build(tree, &fat::Options::default(), &alone()).unwrap().image;
        [ext4, fat]
    };
    for (of_files, of_slices) in made(&files).iter().zip(&made(&slices)) {
        assert!(bytes(of_files) == bytes(of_slices));
        // Blocks that are holes of one are holes of the other, but for bytes that the host keeps as a block's zeros.
        assert_eq!(runs(of_files), runs(of_slices));
    }
}

#[test]
fn an_archive_of_slices_is_that_of_the_files() {
    let folder = scratch();
    write(folder.path());
    let files = of_files(folder.path());
    let read = |tree: &Arc<Tree>| {
        let mut open = |node: NodeId, at: u64, out: &mut [u8]| {
            let name = String::from_utf8(files.name(node).to_vec()).unwrap();
            std::fs::File::open(folder.path().join(name)).unwrap().read_exact_at(out, at).unwrap();
            Ok(())
        };
        nar::hash(tree, NodeId::ROOT, &mut open).unwrap()
    };
    let expected = read(&files);
    // No host file is behind a slice, so nothing is read of one.
    let slices = of_slices(&files);
    let mut refuse = |_: NodeId, _: u64, _: &mut [u8]| panic!("a slice was read as a host file");
    assert_eq!(nar::hash(&slices, NodeId::ROOT, &mut refuse).unwrap(), expected);
}
