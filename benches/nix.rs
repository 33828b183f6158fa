//! The formats of Nix: `cargo bench --bench nix [-- FILTER]`.
//!
//! A closure of 5,000 store paths and 50,000 references, as in a large desktop system, read from each of its
//! formats and written as a database; and the archive of large and small files.

#![expect(clippy::expect_used, reason = "a bench that cannot measure stops and says why")]

use std::fmt::Write as _;
use std::path::Path;

use criterion::{Criterion, Throughput};
use diskwright::nix::{Closure, database, nar};
use diskwright::progress::Progress;
use diskwright::units::{MIB, u64_of, usize_of};
use tempfile::TempDir;

/// Store paths of the closure, and how many others each refers to.
const PATHS: u64 = 5_000;
const REFERENCES: u64 = 10;

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    closures(&mut criterion);
    archives(&mut criterion);
    criterion.final_summary();
}

/// A store path. Its digits belong to Nix's base 32, in an order that differs from that of the numbers.
fn path(number: u64) -> String {
    // Odd, so that no two numbers below 2^64 meet.
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("/nix/store/{spread:032}-package-of-some-length-{number}")
}

/// What path `number` refers to.
fn references(number: u64) -> impl Iterator<Item = u64> {
    let step = number % 97 + 1;
    (1..=REFERENCES).map(move |count| (number + count * step) % PATHS)
}

/// The closure as `nix-store --dump-db` prints it.
fn registration() -> String {
    let mut text = String::new();
    for number in 0..PATHS {
        let (own, size) = (path(number), number * 1_000);
        let _ = write!(text, "{own}\n{number:064}\n{size}\n{own}.drv\n{REFERENCES}\n");
        for other in references(number) {
            let _ = writeln!(text, "{}", path(other));
        }
    }
    text
}

/// The same as `exportReferencesGraph` has it.
fn json() -> String {
    let entries = (0..PATHS).map(|number| {
        let names: Vec<String> = references(number).map(|other| format!("\"{}\"", path(other))).collect();
        format!(
            r#"{{"path":"{}","narHash":"sha256:{number:064}","narSize":{},"references":[{}],"valid":true}}"#,
            path(number),
            number * 1_000,
            names.join(",")
        )
    });
    format!("[{}]", entries.collect::<Vec<_>>().join(","))
}

fn closures(criterion: &mut Criterion) {
    let (registration, json) = (registration(), json());
    let file = Path::new("bench");
    let closure = Closure::from_registration(registration.as_bytes(), file).expect("it is one");
    assert_eq!(u64_of(closure.len()), PATHS);
    let mut group = criterion.benchmark_group("a closure of 5,000 paths and 50,000 references");
    group.throughput(Throughput::Elements(PATHS));
    group.bench_function("read from a registration", |bencher| {
        bencher
            .iter(|| Closure::from_registration(registration.as_bytes(), file).map(|closure| closure.len()));
    });
    group.bench_function("read from JSON", |bencher| {
        bencher.iter(|| Closure::from_json(json.as_bytes(), file).map(|closure| closure.len()));
    });
    group.bench_function("written as a database", |bencher| {
        bencher.iter(|| database::build(&closure, 1).map(|bytes| bytes.len()));
    });
    group.finish();
}

/// A folder of `count` files of `length` bytes.
fn folder(count: usize, length: usize) -> TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build has a place for files");
    for number in 0..count {
        std::fs::write(folder.path().join(format!("file-{number}")), vec![7; length])
            .expect("a file can be made");
    }
    folder
}

fn archives(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("the hash of an archive");
    let progress = Progress::default();
    for (name, count, length) in
        [("one file of 64 MiB", 1, usize_of(64 * MIB)), ("10,000 files of 3 KiB", 10_000, 3 << 10)]
    {
        let folder = folder(count, length);
        group.throughput(Throughput::Bytes(u64_of(count * length)));
        group.bench_function(name, |bencher| {
            bencher.iter(|| nar::hash_host(folder.path(), 1, &progress).map(|digested| digested.size));
        });
    }
    group.finish();
}
