//! Partitions that follow from each other, packed data, and files that appear all or none, by toys that stand for a hash
//! tree and for a filesystem that is compressed.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use diskwright::container::{Container, Format};
use diskwright::disk::{
    Body, Built, Contents, Derived, Disk, Guid, LateValues, Made, Needed, Observing, OutputFile, Partition,
    Payload, Piece, Request, Size, Values, Work, write,
};
use diskwright::error::{Error, Kind, Result, Subject};
use diskwright::filesystem::{ext4, fat};
use diskwright::front::manifest::Manifest;
use diskwright::front::{Beside, What};
use diskwright::identity::Seed;
use diskwright::image::{Builder, Digest, Image, Render};
use diskwright::pour::digest::chunks;
use diskwright::pour::spool::Pack;
use diskwright::progress::Progress;
use diskwright::table::Type;
use diskwright::tree::{Meta, Time};
use diskwright::units::{Bytes, KIB, MIB};
use diskwright::uuid::{Uuid, uuid};

use crate::support::tools::{names_in, scratch};
use crate::support::tree::noise;

const SEED: Uuid = uuid!("0867da16-f251-457d-a9e8-c31f9a3c220b");
const BLOCK: u64 = 4 * KIB;

/// The CRC of each block of another partition, one behind the other: as little of a hash tree as is one.
#[derive(Debug)]
struct Sums {
    of: usize,
    /// Whether it can be rendered from a digest.
    late: bool,
    built: AtomicUsize,
}

impl Sums {
    fn of(of: usize) -> Self {
        Self { of, late: true, built: AtomicUsize::new(0) }
    }
}

/// What follows from all sums.
fn values(sums: &[u8]) -> Values {
    let sum = crc32fast::hash(sums);
    let guid = Uuid::from_u128(u128::from(sum) << 64 | 0x4000_8000_0000_0000_0000);
    Values::from([("guid", guid.to_string()), ("sum", format!("{sum:08x}"))])
}

impl Derived for Sums {
    fn needs(&self) -> Vec<usize> {
        vec![self.of]
    }

    fn size(&self, needed: &[Bytes]) -> Result<Bytes> {
        Ok(Bytes::new(needed[0].div_ceil(BLOCK) * 4))
    }

    fn build(&self, needed: &[Needed], request: &Request<'_>) -> Result<Made> {
        self.built.fetch_add(1, Ordering::Relaxed);
        let mut whole = Builder::new(needed[0].length);
        whole.put(Bytes::ZERO, &needed[0].image.whole());
        let data = whole.finish()?.whole();
        let sum = |block: &[u8]| crc32fast::hash(block).to_le_bytes();
        let sums = chunks(&data, Bytes::new(BLOCK), &request.packer.options(), sum)?.concat();
        let values = values(&sums);
        let mut image = Builder::new(Bytes::new(sums.len().try_into().unwrap()));
        image.bytes(Bytes::ZERO, "sums", sums);
        Ok(Made { image: image.finish()?, facts: None, values })
    }

    fn observe(&self, needed: &[Bytes], _: &Request<'_>) -> Result<Option<Observing>> {
        if !self.late {
            return Ok(None);
        }
        let count = needed[0].div_ceil(BLOCK);
        let seen = Arc::new(Seen {
            sums: Mutex::new(vec![None; count.try_into().unwrap()]),
            shown: AtomicUsize::new(0),
        });
        let mut image = Builder::new(Bytes::new(count * 4));
        let renderer = image.renderer(Arc::<Seen>::clone(&seen));
        image.rendered(Bytes::ZERO, Bytes::new(count * 4), renderer, 0);
        let digest: Arc<dyn Digest> = Arc::<Seen>::clone(&seen);
        Ok(Some(Observing {
            image: image.finish()?,
            digests: vec![(self.of, digest)],
            facts: None,
            values: seen,
        }))
    }
}

/// Sums that a digest saw.
#[derive(Debug)]
struct Seen {
    sums: Mutex<Vec<Option<u32>>>,
    shown: AtomicUsize,
}

impl Seen {
    fn all(&self) -> Result<Vec<u8>> {
        let all: Option<Vec<_>> =
            self.sums.lock().unwrap().iter().map(|sum| sum.map(u32::to_le_bytes)).collect();
        all.map(|all| all.concat()).ok_or_else(|| Error::bug("a block was not shown"))
    }
}

impl Digest for Seen {
    fn grain_end(&self, number: u64) -> u64 {
        (number + 1) * BLOCK
    }

    fn take(&self, number: u64, bytes: &[u8]) -> Result<()> {
        self.shown.fetch_add(1, Ordering::Relaxed);
        self.sums.lock().unwrap()[usize::try_from(number).unwrap()] = Some(crc32fast::hash(bytes));
        Ok(())
    }
}

impl Render for Seen {
    fn render(&self, _: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        let skip = usize::try_from(skip).unwrap();
        out.copy_from_slice(&self.all()?[skip..skip + out.len()]);
        Ok(())
    }

    fn label(&self, _: u32) -> String {
        "sums".to_owned()
    }
}

impl LateValues for Seen {
    fn values(&self) -> Result<Values> {
        Ok(values(&self.all()?))
    }
}

/// Another partition without its zeros, packed.
#[derive(Debug)]
struct Squeezed {
    of: usize,
    /// A chunk that cannot be packed.
    fault: Option<u64>,
    packed: AtomicUsize,
}

struct Squeeze<'a> {
    own: &'a Squeezed,
    data: Image,
}

impl Pack for Squeeze<'_> {
    type Worker = Vec<u8>;
    type Note = ();

    fn count(&self) -> u64 {
        self.data.length().div_ceil(64 * KIB)
    }

    fn memory(&self) -> Bytes {
        Bytes::new(128 * KIB)
    }

    fn worker(&self) -> Result<Vec<u8>> {
        Ok(vec![0; 64 << 10])
    }

    fn pack(&self, chunk: u64, worker: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<()> {
        if self.own.fault == Some(chunk) {
            return Err(Error::new(Kind::Source, "a chunk is not liked"));
        }
        self.own.packed.fetch_add(1, Ordering::Relaxed);
        self.data.read(chunk * 64 * KIB, worker)?;
        out.extend(worker.iter().filter(|byte| **byte != 0));
        Ok(())
    }
}

impl Derived for Squeezed {
    fn needs(&self) -> Vec<usize> {
        vec![self.of]
    }

    fn size(&self, needed: &[Bytes]) -> Result<Bytes> {
        Ok(needed[0])
    }

    fn build(&self, needed: &[Needed], request: &Request<'_>) -> Result<Made> {
        let packed = request.packer.once(|packer| {
            let work = Squeeze { own: self, data: needed[0].image.clone() };
            Ok(packer.pack("squeezed", &work, needed[0].image.file_data())?.0)
        })?;
        Ok(Made { image: (*packed).clone(), facts: None, values: Values::new() })
    }
}

fn derived(derived: impl Derived + 'static) -> Partition {
    Partition { body: Body::Derived(Arc::new(derived)), ..Partition::new(Type::LINUX) }
}

/// A file that holds values of partition `of`.
fn template(of: usize) -> Payload {
    let bytes = |text: &str| Piece::Bytes(Arc::from(text.as_bytes()));
    let value = |value| Piece::Value { of, value };
    let pieces = [bytes("sum="), value("sum"), bytes(" guid="), value("guid"), bytes("\n")];
    Payload::Template { pieces: Arc::from(pieces), meta: Meta::root(0o644, Time::default()) }
}

fn root(folder: &Path) -> Partition {
    let contents = Contents::new().folder(folder, "/");
    Partition::new(Type::LINUX).label("root").filesystem(ext4::Options::default(), contents)
}

fn esp(contents: Contents) -> Partition {
    Partition::new(Type::ESP).label("ESP").size(Bytes::mib(64)).filesystem(fat::Options::default(), contents)
}

fn source(folder: &Path) -> std::path::PathBuf {
    let source = folder.join("source");
    std::fs::create_dir(&source).unwrap();
    for number in 0..5_u64 {
        std::fs::write(source.join(format!("{number}")), noise(number, 100_000 * (number + 1))).unwrap();
    }
    source
}

fn work(jobs: usize) -> Work {
    Work { jobs, ..Work::default() }
}

fn read(image: &Image) -> Vec<u8> {
    let mut bytes = vec![0xd1; usize::try_from(image.length().get()).unwrap()];
    image.read(0, &mut bytes).unwrap();
    bytes
}

/// The sums of a partition, from its bytes.
fn sums(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(4096).flat_map(|block| crc32fast::hash(block).to_le_bytes()).collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// A disk whose loader entry and GUIDs follow from the sums of its root, in any order of the partitions.
fn named(folder: &Path, order: [usize; 3]) -> Disk {
    let at = |part: usize| order.iter().position(|other| *other == part).unwrap();
    let (data, hash) = (at(1), at(2));
    let guid = Guid::Derived { of: hash, value: "guid" };
    let mut parts = [
        Some(esp(Contents::new().entry("/loader/entry.conf", template(hash)))),
        Some(Partition { guid, ..root(folder) }),
        Some(derived(Sums::of(data))),
    ];
    order.iter().fold(Disk::gpt(Seed::new(SEED)), |disk, part| disk.partition(parts[*part].take().unwrap()))
}

#[test]
fn texts_and_guids_follow_from_a_digest_in_any_order_of_the_partitions() {
    let folder = scratch();
    let source = source(folder.path());
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
        let built = named(&source, order).build(&work(2)).unwrap();
        let at = |part: usize| order.iter().position(|other| *other == part).unwrap();
        let [esp, root, hash] = [0, 1, 2].map(|part| read(&built.partition(at(part), &work(2)).unwrap()));
        let expected = sums(&root);
        assert!(hash.starts_with(&expected) && hash[expected.len()..].iter().all(|byte| *byte == 0));
        let values = values(&expected);
        assert!(contains(&esp, &format!("sum={} guid={}\n", values["sum"], values["guid"])), "{order:?}");
        let report = &built.report.partitions;
        assert_eq!(report[at(1)].guid.as_ref(), Some(&values["guid"]));
        assert_eq!(report[at(2)].values, values);
        assert!(built.report.json(&[]).unwrap().contains(&format!("\"sum\": \"{}\"", values["sum"])));
        assert!(built.report.text().contains(&format!("sum {}\n", values["sum"])));
        assert!(report[at(1)].values.is_empty());
        // The entry of the table, as the firmware sees it (UEFI 2.10, 5.3.3): from LBA 2, 128 bytes each, GUID at 16.
        let mut guid = [0; 16];
        built.image.read(1024 + 128 * (u64::try_from(at(1)).unwrap()) + 16, &mut guid).unwrap();
        assert_eq!(Uuid::from_bytes_le(guid).to_string(), values["guid"]);
        assert!(built.image.is_settled(), "nothing is left to be observed");
    }
}

/// What follows from a digest by name is the same whether the digest is taken before or while the disk is poured.
#[test]
fn where_no_name_needs_a_digest_it_is_taken_while_pouring() {
    let folder = scratch();
    let source = source(folder.path());
    let disk = |sums: Sums| Disk::gpt(Seed::new(SEED)).partition(root(&source)).partition(derived(sums));
    let now = disk(Sums { late: false, ..Sums::of(0) }).build(&work(2)).unwrap();
    let expected = sums(&read(&now.partition(0, &work(2)).unwrap()));
    for (format, jobs) in [(Format::Raw, 1), (Format::Raw, 3), (Format::Qcow2, 2)] {
        let work = Work { container: Container::of(format), ..work(jobs) };
        let mut late = disk(Sums::of(0)).build(&work).unwrap();
        assert!(!late.image.is_settled() && late.report.partitions[1].values.is_empty());
        let [out, other] = ["late.img", "now.img"].map(|name| folder.path().join(name));
        late.write(&out, &work).unwrap();
        assert!(late.image.is_settled(), "the pour has shown all data");
        now.write(&other, &work).unwrap();
        assert!(std::fs::read(&out).unwrap() == std::fs::read(&other).unwrap(), "{format} {jobs}");
        late.settle(&work).unwrap();
        assert_eq!(late.report, now.report);
        assert_eq!(late.report.partitions[1].values, values(&expected));
    }
    // What was not written is read once, when it is asked for.
    let mut late = disk(Sums::of(0)).build(&work(2)).unwrap();
    late.settle(&work(2)).unwrap();
    assert_eq!(late.report, now.report);
}

#[test]
fn of_two_digests_of_one_partition_and_of_a_chain_only_one_is_late() {
    let folder = scratch();
    let source = source(folder.path());
    let disk = Disk::gpt(Seed::new(SEED))
        .partition(root(&source))
        .partition(derived(Sums::of(0)))
        .partition(derived(Sums::of(0)))
        .partition(derived(Sums::of(2)));
    let built = disk.build(&work(2)).unwrap();
    let parts: Vec<Vec<u8>> =
        (0..4).map(|number| read(&built.partition(number, &work(2)).unwrap())).collect();
    for (number, of) in [(1, 0), (2, 0), (3, 2)] {
        assert!(parts[number].starts_with(&sums(&parts[of])), "{number}");
    }
}

/// Who waits for whom in a circle is told, both by name.
#[test]
fn a_circle_is_refused_with_both_partitions() {
    let folder = scratch();
    let source = source(folder.path());
    let circles = [
        // A loader entry on the very filesystem that the sums are of.
        Disk::gpt(Seed::new(SEED))
            .partition(esp(Contents::new().entry("/entry.conf", template(1))))
            .partition(derived(Sums::of(0))),
        // Two that are functions of each other.
        Disk::gpt(Seed::new(SEED)).partition(derived(Sums::of(1))).partition(derived(Sums::of(0))),
        // Sums of what fills the disk, whose size depends on that of the sums.
        Disk { size: Some(Bytes::mib(64)), ..Disk::gpt(Seed::new(SEED)) }
            .partition(root(&source).fill())
            .partition(derived(Sums::of(0))),
    ];
    for disk in circles {
        let error = disk.build(&work(1)).unwrap_err();
        assert_eq!(error.kind(), Kind::Manifest, "{error}");
        assert_eq!(error.what(), "partitions wait for each other");
        let mut subjects = error.subjects();
        subjects.sort();
        assert_eq!(subjects, [Subject::Partition(0), Subject::Partition(1)], "{error}");
    }
    // Sums of itself: one partition is all there is to name.
    let error = Disk::gpt(Seed::new(SEED)).partition(derived(Sums::of(0))).build(&work(1)).unwrap_err();
    assert_eq!(error.subjects(), [Subject::Partition(0)], "{error}");
}

#[test]
fn what_refers_to_nothing_or_does_not_fit_is_refused() {
    let folder = scratch();
    let source = source(folder.path());
    let disk = Disk::gpt(Seed::new(SEED)).partition(root(&source));
    let text = disk.clone().partition(esp(Contents::new().entry("/entry.conf", template(0))));
    let error = text.build(&work(1)).unwrap_err();
    assert_eq!((error.kind(), error.what()), (Kind::Manifest, "a partition has no such value"));
    assert_eq!(error.subjects(), [Subject::Entry { partition: 1, entry: 0 }]);
    let missing = disk.clone().partition(derived(Sums::of(7))).build(&work(1)).unwrap_err();
    assert_eq!(missing.what(), "a partition refers to a partition that does not exist");
    let guid = Guid::Derived { of: 1, value: "sum" };
    let named = Disk::gpt(Seed::new(SEED))
        .partition(Partition { guid, ..root(&source) })
        .partition(derived(Sums::of(0)))
        .build(&work(1))
        .unwrap_err();
    assert_eq!(named.kind(), Kind::Bug, "{named}");
    // 1 MiB of sums is of 1 GiB.
    let small = Partition { size: Size::Fixed(Bytes::mib(1)), ..derived(Sums::of(0)) };
    let large =
        Disk::gpt(Seed::new(SEED)).partition(root(&source).size(Bytes::new(2048 * MIB))).partition(small);
    let error = large.build(&work(1)).unwrap_err();
    assert_eq!((error.kind(), error.key()), (Kind::Capacity, Some("size")), "{error}");
    assert!(error.to_string().contains("found: 2 MiB, 1 MiB too much"), "{error}");
}

fn squeezed(folder: &Path, fault: Option<u64>) -> Disk {
    let squeezed = derived(Squeezed { of: 0, fault, packed: AtomicUsize::new(0) });
    Disk::gpt(Seed::new(SEED)).partition(root(folder)).partition(squeezed)
}

#[test]
fn what_is_packed_is_the_same_for_any_number_of_jobs_and_leaves_no_file() {
    let folder = scratch();
    let (source, spool) = (source(folder.path()), folder.path().join("spool"));
    std::fs::create_dir(&spool).unwrap();
    let mut seen: Option<Vec<u8>> = None;
    for jobs in [1, 2, 7] {
        let work = Work { spool: Some(spool.clone()), ..work(jobs) };
        let built = squeezed(&source, None).build(&work).unwrap();
        assert!(names_in(&spool).is_empty(), "the spool has no name");
        // The folder may go: the spool is open.
        let out = folder.path().join("out.img");
        built.write(&out, &work).unwrap();
        let bytes = std::fs::read(&out).unwrap();
        let root: Vec<u8> =
            read(&built.partition(0, &work).unwrap()).into_iter().filter(|byte| *byte != 0).collect();
        assert!(read(&built.partition(1, &work).unwrap()).starts_with(&root));
        assert!(seen.get_or_insert(bytes.clone()) == &bytes, "{jobs}");
    }
    let work = Work { spool: Some(spool.clone()), ..work(3) };
    let error = squeezed(&source, Some(3)).build(&work).unwrap_err();
    assert_eq!((error.what(), error.subjects()), ("a chunk is not liked", vec![Subject::Partition(1)]));
    work.progress.stop_flag().store(true, Ordering::Relaxed);
    assert_eq!(squeezed(&source, None).build(&work).unwrap_err().kind(), Kind::Interrupted);
    assert!(names_in(&spool).is_empty());
    let nowhere = Work { spool: Some(folder.path().join("no/where")), progress: Progress::default(), ..work };
    let error = squeezed(&source, None).build(&nowhere).unwrap_err();
    assert_eq!((error.kind(), error.path()), (Kind::Output, Some(folder.path().join("no/where").as_path())));
}

/// Two disks, a partition and ready bytes, in a folder with older files.
fn together<'a>(folder: &Path, disks: &'a [Built; 2], work: &Work) -> Vec<OutputFile<'a>> {
    let mut variables = Builder::new(Bytes::new(5));
    variables.bytes(Bytes::ZERO, "variables", *b"12345");
    vec![
        disks[0].file(folder.join("boot.img"), work).unwrap(),
        OutputFile::raw(folder.join("root.raw"), disks[0].partition(0, work).unwrap()),
        OutputFile::raw(folder.join("variables.fd"), variables.finish().unwrap()),
        disks[1].file(folder.join("data.img"), work).unwrap(),
    ]
}

#[test]
fn several_outputs_appear_all_or_none() {
    let folder = scratch();
    let source = source(folder.path());
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("file"), noise(9, 300_000)).unwrap();
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let work = work(2);
    let build = || {
        [&source, &other]
            .map(|source| Disk::gpt(Seed::new(SEED)).partition(root(source)).build(&work).unwrap())
    };
    let untouched = || {
        assert_eq!(names_in(&out), ["root.raw"]);
        assert_eq!(std::fs::read(out.join("root.raw")).unwrap(), b"older");
    };
    std::fs::write(out.join("root.raw"), b"older").unwrap();
    // The last one fails: a source of it changes after it was looked at.
    let disks = build();
    std::fs::write(other.join("file"), noise(10, 200_000)).unwrap();
    let error = write(&together(&out, &disks, &work), &work).unwrap_err();
    assert_eq!((error.kind(), error.path()), (Kind::Source, Some(other.join("file").as_path())), "{error}");
    untouched();
    // Two of one name, and a folder in place of one, are told before any is written.
    let disks = build();
    let mut twice = together(&out, &disks, &work);
    twice.push(OutputFile::raw(out.join("./boot.img"), disks[0].partition(0, &work).unwrap()));
    assert_eq!(write(&twice, &work).unwrap_err().what(), "two outputs have one name");
    untouched();
    std::fs::create_dir(out.join("data.img")).unwrap();
    assert_eq!(write(&together(&out, &disks, &work), &work).unwrap_err().kind(), Kind::Output);
    std::fs::remove_dir(out.join("data.img")).unwrap();
    untouched();
    // A source of another output is no output.
    let mut own = together(&out, &disks, &work);
    own.push(OutputFile::raw(source.join("1"), disks[1].partition(0, &work).unwrap()));
    assert_eq!(write(&own, &work).unwrap_err().what(), "the output is one of its own sources");
    untouched();
    // A signal.
    let stopped = Work { progress: Progress::default(), ..work.clone() };
    stopped.progress.stop_flag().store(true, Ordering::Relaxed);
    assert_eq!(write(&together(&out, &disks, &work), &stopped).unwrap_err().kind(), Kind::Interrupted);
    untouched();

    write(&together(&out, &disks, &work), &work).unwrap();
    assert_eq!(names_in(&out), ["boot.img", "data.img", "root.raw", "variables.fd"]);
    let boot = std::fs::read(out.join("boot.img")).unwrap();
    let place = &disks[0].report.partitions[0];
    let [start, length] = [place.offset, place.size].map(|bytes| usize::try_from(bytes).unwrap());
    assert!(std::fs::read(out.join("root.raw")).unwrap() == boot[start..start + length]);
    assert!(std::fs::read(out.join("data.img")).unwrap() == read(&disks[1].image));
    assert_eq!(std::fs::read(out.join("variables.fd")).unwrap(), b"12345");
    assert_eq!(disks[0].partition(1, &work).unwrap_err().subjects(), [Subject::Partition(1)]);
}

#[test]
fn files_beside_a_described_disk_appear_with_it_and_errors_have_its_lines() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("tree")).unwrap();
    std::fs::write(at("tree/file"), noise(1, 50_000)).unwrap();
    let text = "version = 1\n[disk]\ntable = \"gpt\"\n[[partition]]\ntype = \"linux\"\nsize = \"auto\"\n\
                filesystem = { type = \"ext4\" }\ncontents = [\n  { source = \"tree\", target = \"/\" },\n]\n";
    std::fs::write(at("disk.toml"), text).unwrap();
    let describe = || {
        let manifest = Manifest::load(&at("disk.toml")).unwrap();
        let mut description = manifest.describe(None, &Work::default()).unwrap();
        description.beside = vec![
            Beside { path: at("root.raw"), what: What::Partition(0) },
            Beside { path: at("vars.fd"), what: What::Bytes(Arc::from(*b"variables")) },
        ];
        description
    };
    let (description, work) = (describe(), work(2));
    let built = description.build(&work).unwrap();
    let mut sink = Vec::new();
    let error = description.stream(&built, &mut sink, &work).unwrap_err();
    assert_eq!((error.kind(), error.path()), (Kind::Usage, Some(at("root.raw").as_path())));
    std::fs::write(at("tree/file"), b"changed").unwrap();
    let error = description.write(&built, &at("disk.img"), &work).unwrap_err();
    assert_eq!(error.kind(), Kind::Source);
    assert!(error.to_string().contains("disk.toml:9"), "{error}");
    assert_eq!(names_in(folder.path()), ["disk.toml", "tree"]);
    let description = describe();
    let built = description.build(&work).unwrap();
    description.write(&built, &at("disk.img"), &work).unwrap();
    assert_eq!(names_in(folder.path()), ["disk.img", "disk.toml", "root.raw", "tree", "vars.fd"]);
    assert_eq!(std::fs::read(at("vars.fd")).unwrap(), b"variables");
    assert!(std::fs::read(at("root.raw")).unwrap() == read(&built.partition(0, &work).unwrap()));
}
