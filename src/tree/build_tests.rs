//! Tests of [`super::Builder`].

use super::*;
use crate::progress::Progress;
use crate::tree::scan::Request;
use crate::tree::{Hardlinks, NodeId, Rules, Tree};

fn meta(mode: u16) -> Meta {
    Meta::root(mode, Time::seconds(5))
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.ids().map(|id| tree.path(id)).collect()
}

#[test]
fn nodes_stand_in_sorted_preorder_with_implied_parents() {
    let mut builder = Builder::new(Time::seconds(7));
    let origin = builder.origin("contents[0]");
    builder.text(b"/b/c/x", *b"hello", meta(0o600), origin).unwrap();
    builder.put(b"/a", meta(0o700), Content::Fifo, origin).unwrap();
    builder.symlink(b"b/Z/..", b"x", meta(0o777), origin).unwrap_err();
    builder.symlink(b"/b/Z", b"target", meta(0o777), origin).unwrap();
    let tree = builder.finish(1).unwrap();
    assert_eq!(paths(&tree), ["/", "/a", "/b", "/b/Z", "/b/c", "/b/c/x"]);
    let b = NodeId(2);
    assert_eq!(tree.children(b).map(|id| tree.path(id)).collect::<Vec<_>>(), ["/b/Z", "/b/c"]);
    assert_eq!(tree.node(b).meta, Meta::root(0o755, Time::seconds(7)));
    assert_eq!(tree.target(NodeId(3)), b"target");
    assert_eq!(tree.size(NodeId(5)), 5);
}

#[test]
fn two_entries_for_one_target_are_named() {
    let mut builder = Builder::new(Time::default());
    let first = builder.origin("contents[0]");
    let second = builder.origin("contents[1]");
    builder.text(b"/etc/motd", *b"1", meta(0o644), first).unwrap();
    let error = builder.text(b"/etc//motd", *b"2", meta(0o644), second).unwrap_err().to_string();
    assert!(error.contains("at contents[1]\n  at contents[0]") && error.contains("/etc/motd"), "{error}");
    builder.put(b"/etc", meta(0o700), Content::Directory, first).unwrap();
    let error = builder.put(b"/etc", meta(0o750), Content::Directory, second).unwrap_err().to_string();
    assert!(error.contains("two entries"), "{error}");
}

#[test]
fn a_link_above_a_target_and_an_escape_are_refused() {
    let mut builder = Builder::new(Time::default());
    let origin = builder.origin("contents[0]");
    builder.symlink(b"/lib", b"usr/lib", meta(0o777), origin).unwrap();
    let error = builder.text(b"/lib/x", *b"", meta(0o644), origin).unwrap_err().to_string();
    assert!(error.contains("symbolic link stands above"), "{error}");
    let error = builder.text(b"/a/../../b", *b"", meta(0o644), origin).unwrap_err().to_string();
    assert!(error.contains("escapes"), "{error}");
}

#[test]
fn the_more_specific_entry_decides_a_directory_in_any_order() {
    let host = tempfile::tempdir().unwrap();
    std::fs::create_dir(host.path().join("tmp")).unwrap();
    std::fs::write(host.path().join("tmp/file"), b"x").unwrap();
    let request = Request::new(host.path());
    let scan = crate::tree::scan(&[request], 1, &Progress::default()).unwrap();
    for order in [[0, 1], [1, 0]] {
        let mut builder = Builder::new(Time::default());
        let (root, tmp) = (builder.origin("root"), builder.origin("tmp"));
        for step in order {
            if step == 0 {
                builder.graft(b"/", &scan, 0, &Rules::default(), root).unwrap();
            } else {
                builder.put(b"/tmp", meta(0o1777), Content::Directory, tmp).unwrap();
            }
        }
        let tree = builder.finish(1).unwrap();
        assert_eq!(paths(&tree), ["/", "/tmp", "/tmp/file"]);
        assert_eq!(tree.node(NodeId(1)).meta.mode, 0o1777);
    }
}

#[test]
fn hard_links_follow_their_policy() {
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("a"), b"same").unwrap();
    std::fs::hard_link(host.path().join("a"), host.path().join("b")).unwrap();
    std::fs::write(host.path().join("c"), b"same").unwrap();
    std::fs::write(host.path().join("d"), b"diff").unwrap();
    let times = std::fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    for name in ["a", "c", "d"] {
        std::fs::File::options().write(true).open(host.path().join(name)).unwrap().set_times(times).unwrap();
    }
    let request = Request::new(host.path());
    let scan = crate::tree::scan(&[request], 2, &Progress::default()).unwrap();
    let links = |hardlinks| {
        let mut builder = Builder::new(Time::default());
        let origin = builder.origin("root");
        let rules = Rules { hardlinks, ..Rules::default() };
        builder.graft(b"/", &scan, 0, &rules, origin).unwrap();
        let tree = builder.finish(2).unwrap();
        tree.ids()
            .filter_map(|id| match tree.node(id).content {
                Content::Link { to } => Some((tree.path(id), tree.path(to))),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(links(Hardlinks::Preserve), [pair("/b", "/a")]);
    assert_eq!(links(Hardlinks::Dissolve), []);
    assert_eq!(links(Hardlinks::Dedupe), [pair("/b", "/a"), pair("/c", "/a")]);
}

#[test]
fn what_a_boot_loader_reads_begins_with_data() {
    let host = tempfile::tempdir().unwrap();
    let block = 4096;
    let sparse = |name: &str, size: u64, data: &[u64]| {
        let file = std::fs::File::create(host.path().join(name)).unwrap();
        file.set_len(size).unwrap();
        for at in data {
            std::os::unix::fs::FileExt::write_all_at(&file, b"data", at * block).unwrap();
        }
    };
    sparse("empty", 10 * block, &[]);
    sparse("short", 100, &[]);
    sparse("late", 10 * block, &[5]);
    sparse("second", 10 * block, &[1]);
    sparse("first", 10 * block, &[0, 5]);
    sparse("two", 2 * block, &[1]);
    let request = Request::new(host.path());
    let scan = crate::tree::scan(&[request], 1, &Progress::default()).unwrap();
    let mut builder = Builder::new(Time::default());
    let origin = builder.origin("contents[0]");
    builder.begin_boot_with_data(false);
    for target in [b"/boot".as_slice(), b"/data"] {
        builder.graft(target, &scan, 0, &Rules::default(), origin).unwrap();
    }
    let tree = builder.finish(1).unwrap();
    let ranges = |path: &str| {
        let found = tree.ranges(tree.find(path.as_bytes()).unwrap())?;
        Some(found.iter().map(|range| (range.start / block, range.length)).collect::<Vec<_>>())
    };
    for (name, elsewhere, below) in [
        ("empty", Some(vec![]), Some(vec![(0, block)])),
        ("short", Some(vec![]), None),
        ("late", Some(vec![(5, block)]), Some(vec![(0, block), (5, block)])),
        ("second", Some(vec![(1, block)]), Some(vec![(0, 2 * block)])),
        ("first", Some(vec![(0, block), (5, block)]), Some(vec![(0, block), (5, block)])),
        ("two", Some(vec![(1, block)]), None),
    ] {
        assert_eq!(ranges(&format!("/data/{name}")), elsewhere, "{name}");
        assert_eq!(ranges(&format!("/boot/{name}")), below, "{name}");
    }
}

/// A partition that is mounted at /boot has what boot loaders read at its top.
#[test]
fn what_a_boot_partition_holds_begins_with_data() {
    let host = tempfile::tempdir().unwrap();
    std::fs::create_dir(host.path().join("grub")).unwrap();
    for name in ["image", "grub/image"] {
        std::fs::File::create(host.path().join(name)).unwrap().set_len(40_960).unwrap();
    }
    let request = Request::new(host.path());
    let scan = crate::tree::scan(&[request], 1, &Progress::default()).unwrap();
    let first = |target: &[u8], boot: Option<bool>| {
        let mut builder = Builder::new(Time::default());
        let origin = builder.origin("contents[0]");
        boot.into_iter().for_each(|boot| builder.begin_boot_with_data(boot));
        builder.graft(target, &scan, 0, &Rules::default(), origin).unwrap();
        let tree = builder.finish(1).unwrap();
        ["image", "grub/image"].map(|name| {
            let path = [target, b"/", name.as_bytes()].concat();
            !tree.ranges(tree.find(&path).unwrap()).unwrap().is_empty()
        })
    };
    assert_eq!(first(b"/", None), [false, false]);
    assert_eq!(first(b"/", Some(false)), [true, true], "GRUB's folder is at the top");
    assert_eq!(first(b"/data", Some(false)), [false, false]);
    assert_eq!(first(b"/data", Some(true)), [true, true], "its type says so");
    assert_eq!(first(b"/boot", Some(false)), [true, true]);
}
