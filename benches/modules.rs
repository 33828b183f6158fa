//! Times each module by itself: `cargo bench --bench modules [-- FILTER]`.
//!
//! Each bench gives one module input of a fixed size, so that a change shows in the module that caused it. The bench
//! `compare` times whole commands against those of others.

#![expect(clippy::expect_used, reason = "a bench that cannot measure stops and says why")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use diskwright::container::{Container, Format, Identity};
use diskwright::disk::Work;
use diskwright::filesystem::{Placement, ext4, fat};
use diskwright::front::manifest::Manifest;
use diskwright::image::{Builder, Data, Image};
use diskwright::pour::zeros::{is_zero, without_empty, without_zeros};
use diskwright::pour::{PourOptions, pour};
use diskwright::progress::Progress;
use diskwright::table::{self, Request, Scheme, Type, Wish};
use diskwright::tree::xattr::Patterns;
use diskwright::tree::{self, Meta, Rules, Time, Tree};
use diskwright::units::{Bytes, KIB, MIB, u64_of, usize_of};
use tempfile::TempDir;
use uuid::Uuid;

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    manifest(&mut criterion);
    scan(&mut criterion);
    filesystems(&mut criterion);
    htree(&mut criterion);
    tables(&mut criterion);
    pours(&mut criterion);
    containers(&mut criterion);
    zeros(&mut criterion);
    criterion.final_summary();
}

/// A place on the disk that holds the build, where `/tmp` is perhaps memory.
fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build has a place for files")
}

/// `count` files of 3 KiB, a hundred to a directory: names and sizes of a store, roughly.
fn tree_of(count: u64) -> Arc<Tree> {
    let mut builder = tree::Builder::new(Time::default());
    let origin = builder.origin("bench");
    let bytes: Arc<[u8]> = vec![7; 3 << 10].into();
    for number in 0..count {
        let target = format!("/{:04}-directory/{number:08}-an-ordinary-name", number / 100);
        let meta = Meta::root(0o644, Time::seconds(1));
        builder.text(target.as_bytes(), Arc::clone(&bytes), meta, origin).expect("no name comes twice");
    }
    Arc::new(builder.finish(1).expect("nothing has to be read"))
}

/// A filesystem by itself.
fn alone() -> Placement {
    Placement::alone(Uuid::from_u128(1))
}

/// What an ext4 filesystem is that asks for nothing.
fn plain_ext4() -> ext4::Options {
    ext4::Options::default()
}

/// Renders all that `image` makes and does not copy; returns how many bytes that is.
fn render(image: &Image) -> u64 {
    let mut buffer = Vec::new();
    let mut sum = 0;
    for segment in image.segments() {
        if matches!(segment.data, Data::Rendered { .. }) {
            buffer.resize(usize_of(segment.length.get()), 0);
            image.read(segment.offset.get(), &mut buffer).expect("nothing rendered can fail");
            sum += u64_of(black_box(&buffer).len());
        }
    }
    sum
}

fn manifest(criterion: &mut Criterion) {
    let mut text =
        String::from("version = 1\n[[partition]]\nfilesystem = { type = \"ext4\" }\ncontents = [\n");
    for number in 0..1000 {
        text += &format!(
            "  {{ source = \"file-{number}\", target = \"/a/place/for/{number}\", mode = \"0644\" }},\n"
        );
    }
    text.push_str("]\n");
    let mut group = criterion.benchmark_group("manifest");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1,000 entries", |bencher| {
        bencher.iter(|| {
            let manifest = Manifest::parse(text.clone(), Path::new("disk.toml"), Path::new("."));
            manifest.expect("it is right").describe(None, &Work::default()).map(drop)
        });
    });
    group.finish();
}

fn scan(criterion: &mut Criterion) {
    let folder = scratch();
    for number in 0..5000 {
        let place = folder.path().join(format!("{}", number / 100));
        std::fs::create_dir_all(&place).expect("a directory can be made");
        std::fs::write(place.join(format!("file-{number}")), "content").expect("a file can be made");
    }
    let request = || vec![tree::Request::new(folder.path())];
    let progress = Progress::default();
    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Elements(5000));
    for jobs in [1, 2] {
        group.bench_function(format!("5,000 files, {jobs} threads"), |bencher| {
            bencher.iter(|| tree::scan(&request(), jobs, &progress).map(|scan| scan.names()));
        });
    }
    let scanned = tree::scan(&request(), 2, &progress).expect("the files can be read");
    group.bench_function("5,000 files into a tree", |bencher| {
        bencher.iter(|| {
            let mut builder = tree::Builder::new(Time::default());
            let origin = builder.origin("bench");
            builder.graft(b"/", &scanned, 0, &Rules::default(), origin)?;
            builder.finish(1).map(|tree| tree.len())
        });
    });
    group.finish();
}

fn filesystems(criterion: &mut Criterion) {
    let tree = tree_of(20_000);
    let mut group = criterion.benchmark_group("filesystems");
    group.throughput(Throughput::Elements(20_000));
    group.bench_function("ext4 plan, 20,000 files", |bencher| {
        bencher.iter(|| ext4::build(&tree, &plain_ext4(), &alone()).map(|built| built.image.length()));
    });
    group.bench_function("fat, 20,000 files", |bencher| {
        bencher
            .iter(|| fat::build(&tree, &fat::Options::default(), &alone()).map(|built| built.image.length()));
    });
    let image = ext4::build(&tree, &plain_ext4(), &alone()).expect("the tree fits").image;
    group.throughput(Throughput::Bytes(render(&image)));
    group.bench_function("ext4 render, 20,000 files", |bencher| bencher.iter(|| render(&image)));
    group.finish();
}

/// One directory of as many names as a large store has.
fn htree(criterion: &mut Criterion) {
    let mut builder = tree::Builder::new(Time::default());
    let origin = builder.origin("bench");
    for number in 0..100_000 {
        let target = format!("/store/{number:032}-a-package-1.{number}");
        let meta = Meta::root(0o755, Time::seconds(1));
        builder.put(target.as_bytes(), meta, tree::Content::Fifo, origin).expect("no name comes twice");
    }
    let tree = Arc::new(builder.finish(1).expect("nothing has to be read"));
    let mut group = criterion.benchmark_group("htree");
    group.throughput(Throughput::Elements(100_000));
    group.bench_function("plan, 100,000 names", |bencher| {
        bencher.iter(|| ext4::build(&tree, &plain_ext4(), &alone()).map(|built| built.image.length()));
    });
    let image = ext4::build(&tree, &plain_ext4(), &alone()).expect("the tree fits").image;
    group.throughput(Throughput::Bytes(render(&image)));
    group.bench_function("render, 100,000 names", |bencher| bencher.iter(|| render(&image)));
    group.finish();
}

fn tables(criterion: &mut Criterion) {
    let partitions = (0..128_u32).map(|number| Wish {
        number: Some(128 - number),
        start: None,
        size: table::Size::Exactly(Bytes::new(u64::from(number + 1) * MIB)),
        kind: Type::parse("linux", None).expect("that is a type"),
        guid: Uuid::from_u128(u128::from(number + 1)),
        label: format!("partition {number}"),
        attributes: 0,
        active: false,
        logical: false,
    });
    let request = Request {
        scheme: Scheme::Gpt,
        sector_size: 512,
        disk_size: None,
        guid: Uuid::from_u128(1),
        signature: 0,
        first_lba: None,
        align: Bytes::new(diskwright::table::GRAIN),
        array: diskwright::table::Array::default(),
        hybrid: diskwright::table::Hybrid::default(),
        extended: None,
        same_guids: false,
        partitions: partitions.collect(),
    };
    criterion.bench_function("table: a GPT of 128 partitions", |bencher| {
        bencher.iter(|| {
            let plan = table::place(&request)?;
            let mut image = Builder::new(plan.length);
            plan.write(&mut image)?;
            image.finish().map(|image| image.segments().len())
        });
    });
}

/// One tree from the host into one file: many small files, and one large.
fn pours(criterion: &mut Criterion) {
    let folder = scratch();
    let out = folder.path().join("out.img");
    let progress = Progress::default();
    let mut group = criterion.benchmark_group("pour");
    for (name, count, length) in [("2,000 files of 4 KiB", 2000, 4 * KIB), ("a file of 64 MiB", 1, 64 * MIB)]
    {
        let source = folder.path().join(format!("{count}"));
        std::fs::create_dir(&source).expect("a directory can be made");
        for number in 0..count {
            std::fs::write(source.join(format!("{number}")), vec![7; usize_of(length)])
                .expect("a file can be made");
        }
        let request = tree::Request {
            path: source,
            follow: true,
            xattrs: Patterns::new(Vec::new()),
            holes: true,
            select: None,
        };
        let scanned = tree::scan(&[request], 2, &progress).expect("the files can be read");
        let mut builder = tree::Builder::new(Time::default());
        let origin = builder.origin("bench");
        builder.graft(b"/", &scanned, 0, &Rules::default(), origin).expect("no name comes twice");
        let tree = Arc::new(builder.finish(1).expect("nothing has to be read"));
        let image = ext4::build(&tree, &plain_ext4(), &alone()).expect("the tree fits").image;
        group.throughput(Throughput::Bytes(count * length));
        group.bench_function(name, |bencher| {
            bencher.iter(|| pour(&image, &out, &PourOptions::new(2, &progress)));
        });
    }
    group.finish();
}

fn containers(criterion: &mut Criterion) {
    let image = ext4::build(&tree_of(20_000), &plain_ext4(), &alone()).expect("the tree fits").image;
    let qcow2 = Container::of(Format::Qcow2);
    criterion.bench_function("container: 20,000 files wrapped as qcow2", |bencher| {
        bencher.iter(|| qcow2.wrap(&image, &Identity::default()).map(|wrapped| wrapped.segments().len()));
    });
}

fn zeros(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("zeros");
    group.throughput(Throughput::Bytes(MIB));
    let zeros = vec![0; usize_of(MIB)];
    group.bench_function("1 MiB of them", |bencher| bencher.iter(|| is_zero(black_box(&zeros))));
    // Every second piece of 64 KiB holds something.
    let mut bytes = vec![0; usize_of(64 * MIB)];
    for piece in bytes.chunks_mut(usize_of(128 * KIB)) {
        piece[..usize_of(64 * KIB)].fill(7);
    }
    group.throughput(Throughput::Bytes(64 * MIB));
    let progress = Progress::default();
    let options = PourOptions::new(2, &progress);
    let mut builder = Builder::new(Bytes::new(64 * MIB));
    builder.bytes(Bytes::ZERO, "half of it", bytes);
    let image = builder.finish().expect("one segment overlaps nothing");
    group.bench_function("told apart from data in 64 MiB", |bencher| {
        bencher.iter(|| without_zeros(&image, &options).map(|sparse| sparse.image.covered()));
    });
    group.bench_function("in clusters of 64 KiB of 64 MiB", |bencher| {
        bencher.iter(|| without_empty(&image, Bytes::new(64 * KIB), &options).map(|image| image.covered()));
    });
    group.finish();
}
