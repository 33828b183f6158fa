//! Random trees: a description that proptest makes and shrinks, and the tree on the host.

use std::path::Path;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use rustix::fs::FileType;

use super::left_out::as_root;
use super::snapshot::join;
use super::tree::{Maker, noise, target};

/// Checks `cases` values of a strategy, the same each time. PROPTEST_CASES and PROPTEST_RNG_SEED ask for others.
pub fn check<S: Strategy>(cases: u32, values: S, check: impl Fn(S::Value)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let config = ProptestConfig {
        cases: number("PROPTEST_CASES").unwrap_or(cases),
        rng_seed: RngSeed::Fixed(number("PROPTEST_RNG_SEED").unwrap_or(1).into()),
        failure_persistence: None,
        max_shrink_iters: 60,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(&values, |value| {
            check(value);
            Ok(())
        })
        .unwrap();
}

/// Names below a directory and what they are.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Whether all times are 2^31 seconds earlier, where they are negative in 32 bits.
    early: bool,
    entries: Vec<(Vec<u8>, Node)>,
}

/// What a name is, its permissions, owner and time.
#[derive(Clone, Debug)]
struct Node {
    what: What,
    mode: u32,
    owner: (u32, u32),
    time: (i64, u32),
    attribute: Option<u16>,
}

#[derive(Clone, Debug)]
enum What {
    Directory(Spec),
    /// Length, and runs of data and hole in blocks.
    File(u64, Vec<(u8, u8)>),
    Symlink(u16),
    Fifo,
    /// Another name of the file that was made this many files ago.
    Link(u8),
    /// This many empty files, with names of this length.
    Crowd(u16, u8),
}

/// Any bytes but `/` and NUL, mostly short.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = (1_u8..=255).prop_map(|byte| if byte == b'/' { b'_' } else { byte });
    let plain = "[a-z0-9.]{1,12}".prop_map(String::into_bytes);
    prop_oneof![4 => plain, 1 => vec(byte.clone(), 1..20), 1 => vec(byte, 200..=255)]
        .prop_filter("these names are taken", |name| name != b"." && name != b".." && name != b"lost+found")
}

fn what() -> impl Strategy<Value = What> {
    let length = prop_oneof![0_u64..5, 4094_u64..4099, 0_u64..200_000];
    let leaf = prop_oneof![
        6 => (length, vec((0_u8..4, 0_u8..4), 0..8)).prop_map(|(length, runs)| What::File(length, runs)),
        2 => prop_oneof![58_u16..62, 1_u16..4095].prop_map(What::Symlink),
        1 => Just(What::Fifo),
        2 => any::<u8>().prop_map(What::Link),
        1 => (0_u16..600, 4_u8..255).prop_map(|(count, length)| What::Crowd(count, length)),
    ];
    leaf.prop_recursive(4, 60, 12, |inner| entries(inner).prop_map(What::Directory))
}

fn entries(what: impl Strategy<Value = What>) -> impl Strategy<Value = Spec> {
    // Epochs of 2^32 seconds; all readers accept times in their first halves.
    let time = prop_oneof![
        2 => Just(super::tree::USUAL.0),
        1 => (0_i64..3, 0_i64..1 << 31).prop_map(|(epoch, seconds)| (epoch << 32) + seconds),
    ];
    let owner = prop_oneof![Just(0_u32), Just(65_536), 0_u32..u32::MAX];
    let node = (what, 0_u32..0o10000, (owner.clone(), owner), (time, 0_u32..1_000_000_000), option_length())
        .prop_map(|(what, mode, owner, time, attribute)| Node { what, mode, owner, time, attribute });
    btree_map(name(), node, 0..12)
        .prop_map(|entries| Spec { early: false, entries: entries.into_iter().collect() })
}

fn option_length() -> impl Strategy<Value = Option<u16>> {
    prop_oneof![3 => Just(None), 1 => (0_u16..100).prop_map(Some), 1 => (0_u16..3500).prop_map(Some)]
}

/// A tree of up to some sixty nodes.
pub fn tree() -> impl Strategy<Value = Spec> {
    (entries(what()), proptest::bool::weighted(0.3)).prop_map(|(spec, early)| Spec { early, ..spec })
}

impl Spec {
    /// Makes it at `top`.
    pub fn make(&self, top: &Path) {
        let mut maker = Maker::new(top);
        let mut files = Vec::new();
        self.below(b"", &mut maker, &mut files);
        if self.early {
            maker.earlier(1 << 31);
        }
        maker.finish();
    }

    fn below(&self, at: &[u8], maker: &mut Maker, files: &mut Vec<Vec<u8>>) {
        for (name, node) in &self.entries {
            let path = join(at, name);
            node.make(&path, maker, files);
        }
    }
}

impl Node {
    fn make(&self, path: &[u8], maker: &mut Maker, files: &mut Vec<Vec<u8>>) {
        // Without root a file must stay readable, and a directory must be enterable.
        let least = if super::tools::is_root() { 0 } else { 0o500 };
        let link = matches!(self.what, What::Symlink(_));
        match &self.what {
            What::Directory(spec) => {
                maker.directory(path);
                spec.below(path, maker, files);
            }
            What::File(length, runs) => {
                maker.sparse(path, *length, &ranges(*length, runs));
                files.push(path.to_vec());
            }
            What::Symlink(length) => {
                maker.symlink(path, target(usize::from(*length)));
                files.push(path.to_vec());
            }
            What::Fifo => {
                maker.special(path, FileType::Fifo, (0, 0));
                files.push(path.to_vec());
            }
            What::Link(back) => {
                let Some(last) = files.len().checked_sub(1) else { return };
                let old = files[last - usize::from(*back) % files.len()].clone();
                maker.link(old, path);
                return;
            }
            What::Crowd(count, length) => {
                maker.directory(path);
                for number in 0..*count {
                    maker.file(
                        join(path, format!("{number:0>width$}", width = usize::from(*length)).as_bytes()),
                        "",
                    );
                }
            }
        }
        if as_root("foreign owners in random trees") {
            maker.owner(path, self.owner.0, self.owner.1);
        }
        if let (false, Some(length)) = (link || matches!(self.what, What::Fifo), self.attribute) {
            maker.xattr(path, "user.random", noise(u64::from(length), u64::from(length)));
        }
        if !link {
            maker.mode(path, self.mode | least);
        }
        maker.time(path, self.time);
    }
}

/// Ranges of data from runs of data and hole in blocks, repeated to the end of a file of `length` bytes.
fn ranges(length: u64, runs: &[(u8, u8)]) -> Vec<(u64, u64)> {
    if !runs.iter().any(|(data, hole)| data + hole > 0) {
        return if length > 0 { vec![(0, length)] } else { Vec::new() };
    }
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < length {
        for (data, hole) in runs {
            let end = (at + u64::from(*data) * 4096).min(length);
            if at < end {
                ranges.push((at, end - at));
            }
            at = end + u64::from(*hole) * 4096;
        }
    }
    ranges
}
