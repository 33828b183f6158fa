//! Digests that are taken while an image is poured, tested with a small filesystem whose first blocks hold
//! the CRCs of its data.

use std::borrow::Cow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use diskwright::container::codec::{Codec, Level};
use diskwright::container::{Container, Identity, OpenOptions, open, qcow2, vdi, vhd, vhdx, vmdk};
use diskwright::error::{Error, Kind, Result};
use diskwright::image::dump::dump;
use diskwright::image::{Builder, Digest, Files, HostFile, Image, Render};
use diskwright::pour::{PourOptions, Zeros, digest, pour, stream};
use diskwright::progress::Progress;
use diskwright::units::{Bytes, KIB, MIB};
use proptest::prelude::*;

use crate::support::kernel;
use crate::support::tools::{command, must, names_in, scratch};
use crate::support::tree::noise;

/// CRCs of grains; also renders them, as the toy's metadata.
#[derive(Debug)]
struct Sums {
    grain: u64,
    sums: Mutex<Vec<Option<u32>>>,
    taken: AtomicU64,
    /// A grain that cannot be taken.
    fault: Option<u64>,
}

impl Digest for Sums {
    fn grain_end(&self, number: u64) -> u64 {
        (number + 1) * self.grain
    }

    fn take(&self, number: u64, bytes: &[u8]) -> Result<()> {
        if self.fault == Some(number) {
            return Err(Error::new(Kind::Source, "the grain is not liked"));
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.sums.lock().unwrap()[usize::try_from(number).unwrap()] = Some(crc32fast::hash(bytes));
        Ok(())
    }
}

impl Render for Sums {
    fn render(&self, _: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        let sums = self.sums.lock().unwrap();
        let all: Option<Vec<[u8; 4]>> = sums.iter().map(|sum| sum.map(u32::to_le_bytes)).collect();
        let all = all.ok_or_else(|| Error::bug("rendered before all digests are taken"))?.concat();
        let skip = usize::try_from(skip).unwrap();
        out.copy_from_slice(&all[skip..skip + out.len()]);
        Ok(())
    }

    fn label(&self, _: u32) -> String {
        "toy: sums".to_owned()
    }
}

/// Host files by path.
#[derive(Debug)]
struct Host(Vec<(PathBuf, u64, u64)>);

impl Host {
    fn look(paths: &[PathBuf]) -> Arc<Self> {
        let look = |path: &PathBuf| {
            let meta = std::fs::metadata(path).unwrap();
            let stamp = diskwright::host::stamp(meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap());
            (path.clone(), meta.len(), stamp)
        };
        Arc::new(Self(paths.iter().map(look).collect()))
    }
}

impl Files for Host {
    fn file(&self, id: u32) -> Result<HostFile<'_>> {
        let (path, size, stamp) = &self.0[usize::try_from(id).unwrap()];
        Ok(HostFile { path: Cow::Borrowed(path), size: *size, stamp: Some(*stamp) })
    }
}

/// A toy: sums at its start, data from `start` on, some of it in host files, some ready, with holes.
struct Toy {
    image: Image,
    sums: Arc<Sums>,
    /// Its expected bytes.
    bytes: Vec<u8>,
    /// Bytes of host files.
    data: u64,
}

/// Data of the toy: a gap before it, its bytes, whether they are in a host file.
type Part = (usize, Vec<u8>, bool);

fn toy(folder: &Path, start: usize, parts: &[Part], grain: u64, fault: Option<u64>) -> Toy {
    let mut paths = Vec::new();
    for (number, (_, bytes, _)) in parts.iter().enumerate().filter(|(_, part)| part.2) {
        let path = folder.join(format!("part-{number}"));
        std::fs::write(&path, bytes).unwrap();
        paths.push(path);
    }
    let end = start + parts.iter().map(|(gap, bytes, _)| gap + bytes.len()).sum::<usize>();
    let u64_of = |value: usize| u64::try_from(value).unwrap();
    let count = usize::try_from(u64_of(end - start).div_ceil(grain)).unwrap();
    assert!(count * 4 <= start, "{count} sums before byte {start}");
    let sums = Arc::new(Sums { grain, sums: Mutex::new(vec![None; count]), taken: AtomicU64::new(0), fault });
    // Behind the data stands a text, so that the data has a neighbour on that side too.
    let mut builder = Builder::new(Bytes::new(u64_of(end + 9000)));
    let (digest, render): (Arc<dyn Digest>, Arc<dyn Render>) =
        (Arc::<Sums>::clone(&sums), Arc::<Sums>::clone(&sums));
    builder.digested(Bytes::new(u64_of(start)), Bytes::new(u64_of(end)), digest);
    let renderer = builder.renderer(render);
    builder.rendered(Bytes::ZERO, Bytes::new(u64_of(count * 4)), renderer, 0);
    builder.bytes(Bytes::new(u64_of(end + 5000)), "toy: end", *b"the end");
    let mut bytes = vec![0; end + 9000];
    bytes[end + 5000..end + 5007].copy_from_slice(b"the end");
    let files = builder.files(Host::look(&paths));
    let (mut at, mut file, mut data) = (start, 0, 0);
    for (gap, part, hosted) in parts {
        at += gap;
        bytes[at..at + part.len()].copy_from_slice(part);
        let offset = Bytes::new(u64_of(at));
        if *hosted {
            builder.file(offset, Bytes::new(u64_of(part.len())), files, file, 0);
            file += 1;
            data += u64_of(part.len());
        } else {
            builder.bytes(offset, "toy: data", part.as_slice());
        }
        at += part.len();
    }
    let size = usize::try_from(grain).unwrap();
    let crcs: Vec<[u8; 4]> =
        bytes[start..end].chunks(size).map(|grain| crc32fast::hash(grain).to_le_bytes()).collect();
    bytes[..count * 4].copy_from_slice(&crcs.concat());
    Toy { image: builder.finish().unwrap(), sums, bytes, data }
}

/// Files of some MiB, short ones, ready bytes and holes, from a page on.
fn usual(folder: &Path) -> Toy {
    toy(folder, 8192, &usual_parts(), 128 * KIB, None)
}

fn usual_parts() -> Vec<Part> {
    vec![
        (0, noise(1, 9_000_000), true),
        (288, noise(2, 70_000), true),
        (300_000, noise(3, 5), false),
        (4091, noise(4, 5_000_001), true),
        (3_000_000, noise(5, 200_000), false),
        (57_343, Vec::new(), false),
    ]
}

fn all(image: &Image) -> Vec<u8> {
    let mut bytes = vec![0xd1; usize::try_from(image.length().get()).unwrap()];
    image.read(0, &mut bytes).unwrap();
    bytes
}

fn poured(image: &Image, path: &Path, jobs: usize) -> Result<Vec<u8>> {
    pour(image, path, &PourOptions::new(jobs, &Progress::default()))?;
    Ok(std::fs::read(path).unwrap())
}

#[test]
fn the_sums_are_those_of_the_data_however_the_image_is_read() {
    let folder = scratch();
    let out = folder.path().join("out");
    for jobs in [1, 2, 7] {
        let toy = usual(folder.path());
        assert!(!toy.image.is_settled());
        assert!(poured(&toy.image, &out, jobs).unwrap() == toy.bytes, "poured by {jobs}");
        assert!(toy.image.is_settled());
        // The second time no digest has to be taken.
        let taken = toy.sums.taken.load(Ordering::Relaxed);
        assert!(poured(&toy.image, &out, jobs).unwrap() == toy.bytes);
        assert_eq!(toy.sums.taken.load(Ordering::Relaxed), taken);

        let toy = usual(folder.path());
        let mut streamed = Vec::new();
        stream(&toy.image, &mut streamed, &PourOptions::new(jobs, &Progress::default())).unwrap();
        assert!(streamed == toy.bytes, "streamed by {jobs}");

        let toy = usual(folder.path());
        toy.image.settle(&PourOptions::new(jobs, &Progress::default())).unwrap();
        let taken = toy.sums.taken.load(Ordering::Relaxed);
        assert!(all(&toy.image) == toy.bytes, "settled by {jobs}");
        assert_eq!(toy.sums.taken.load(Ordering::Relaxed), taken);

        let toy = usual(folder.path());
        let progress = Progress::default();
        let options = PourOptions::new(jobs, &progress);
        let found = digest::chunks(&toy.image.whole(), Bytes::new(MIB), &options, <[u8]>::to_vec).unwrap();
        assert!(found.concat() == toy.bytes, "digested by {jobs}");
    }
    let toy = usual(folder.path());
    assert!(all(&toy.image) == toy.bytes, "read");
    let map = |toy: &Toy| {
        let mut map = Vec::new();
        dump(&toy.image, Some(folder.path()), &mut map).unwrap();
        String::from_utf8(map).unwrap()
    };
    let unread = map(&usual(folder.path()));
    assert!(unread.contains("toy: sums"), "{unread}");
    assert_eq!(unread, map(&toy));
}

#[test]
fn containers_hold_the_sums() {
    let folder = scratch();
    let progress = Progress::default();
    // Compression reads the data anew for its clusters.
    let compressed = |codec| qcow2::Options { codec: Some(codec), ..qcow2::Options::default() };
    for (container, times) in [
        (Container::Qcow2(qcow2::Options::default()), 1),
        (Container::Qcow2(compressed(Codec::Zlib(Level::default()))), 2),
        (Container::Vhd(vhd::Options::default()), 1),
        (Container::Vdi(vdi::Options::default()), 1),
        (Container::Vmdk(vmdk::Options::default()), 1),
        (Container::Vhdx(vhdx::Options::default()), 1),
    ] {
        let toy = usual(folder.path());
        let path = folder.path().join("disk");
        let identity = Identity::default();
        let before = read_so_far();
        container.write(&toy.image, &identity, &path, &PourOptions::new(1, &progress)).unwrap();
        let read = read_so_far() - before;
        assert!(
            (times * toy.data..times * toy.data + BESIDE).contains(&read),
            "{container:?}: {read} of {}",
            toy.data
        );
        let opened = open(&path, &OpenOptions::default()).unwrap();
        let found = all(&opened.image);
        assert!(found[..toy.bytes.len()] == toy.bytes, "{container:?}");
    }
}

/// Bytes that this thread has read so far (proc_pid_io(5)).
fn read_so_far() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    text.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// How much this thread reads to pour `image`.
fn reads(image: &Image, path: &Path) -> u64 {
    let before = read_so_far();
    pour(image, path, &PourOptions::new(1, &Progress::default())).unwrap();
    read_so_far() - before
}

/// What reading the number itself, and whatever the host asks, may add to a count.
const BESIDE: u64 = 16 * KIB;

#[test]
fn a_pour_reads_each_byte_once() {
    let folder = scratch();
    let out = folder.path().join("out");
    let toy = usual(folder.path());
    let read = reads(&toy.image, &out);
    assert!((toy.data..toy.data + BESIDE).contains(&read), "{read} of {}", toy.data);
    assert!(std::fs::read(&out).unwrap() == toy.bytes);

    // In a partition, and in two of them.
    let toy = usual(folder.path());
    let mut disk = Builder::new(Bytes::new(64 * MIB));
    disk.put(Bytes::new(MIB), &toy.image.whole());
    disk.put(Bytes::new(40 * MIB), &toy.image.whole());
    let read = reads(&disk.finish().unwrap(), &out);
    assert!((toy.data..toy.data + BESIDE).contains(&read), "{read} of {}", toy.data);
    let found = std::fs::read(&out).unwrap();
    for start in [1 << 20, 40 << 20] {
        assert!(found[start..start + toy.bytes.len()] == toy.bytes);
    }

    // If the first page of the data has other data too, it is read twice, with the right result.
    let toy = toy_of_odd_places(folder.path());
    let read = reads(&toy.image, &out);
    assert!((2 * toy.data..2 * toy.data + BESIDE).contains(&read), "{read} of {}", toy.data);
    assert!(std::fs::read(&out).unwrap() == toy.bytes);

    // The comparator notices.
    let toy = usual(folder.path());
    let before = read_so_far();
    toy.image.settle(&PourOptions::new(1, &Progress::default())).unwrap();
    reads(&toy.image, &out);
    assert!(read_so_far() - before >= 2 * toy.data);
}

fn toy_of_odd_places(folder: &Path) -> Toy {
    toy(folder, 1001, &[(0, noise(1, 3_000_000), true)], 100_000, None)
}

#[test]
fn what_fills_a_hole_of_the_data_is_written_and_not_digested() {
    let folder = scratch();
    let toy = usual(folder.path());
    let mut disk = Builder::new(toy.image.length());
    disk.put(Bytes::ZERO, &toy.image.whole());
    disk.bytes(Bytes::new(9_200_000), "a stranger", vec![7; 8192]);
    let mut expected = toy.bytes.clone();
    expected[9_200_000..9_208_192].fill(7);
    assert!(poured(&disk.finish().unwrap(), &folder.path().join("out"), 2).unwrap() == expected);
}

#[test]
fn pages_of_zeros_may_stay_holes() {
    let folder = scratch();
    let toy =
        toy(folder.path(), 4096, &[(0, vec![0; 3_000_000], true), (0, noise(1, 4096), true)], 4096, None);
    let out = folder.path().join("out");
    let progress = Progress::default();
    pour(&toy.image, &out, &PourOptions { zeros: Zeros::Skip, ..PourOptions::new(2, &progress) }).unwrap();
    assert!(std::fs::read(&out).unwrap() == toy.bytes);
    assert!(std::fs::metadata(&out).unwrap().blocks() * 512 < MIB);
}

#[test]
fn a_fault_leaves_nothing_behind() {
    let folder = scratch();
    let place = folder.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let out = place.join("out");
    for jobs in [1, 3] {
        let toy = toy(folder.path(), 8192, &usual_parts(), 128 * KIB, Some(50));
        let error = poured(&toy.image, &out, jobs).unwrap_err();
        assert_eq!(error.what(), "the grain is not liked");
        let error = all_or_error(&toy.image).unwrap_err();
        assert_eq!(error.what(), "the grain is not liked");

        let toy = usual(folder.path());
        let part = folder.path().join("part-3");
        std::fs::write(&part, "changed").unwrap();
        let error = poured(&toy.image, &out, jobs).unwrap_err();
        assert_eq!((error.kind(), error.path()), (Kind::Source, Some(part.as_path())));
        assert!(!toy.image.is_settled());

        let toy = usual(folder.path());
        let progress = Progress::default();
        progress.stop_flag().store(true, Ordering::Relaxed);
        let error = pour(&toy.image, &out, &PourOptions::new(jobs, &progress)).unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted);
        assert!(names_in(&place).is_empty());
    }
}

fn all_or_error(image: &Image) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(image.length().get()).unwrap()];
    image.read(0, &mut bytes)?;
    Ok(bytes)
}

/// A digest whose second grain ends where the first does.
#[derive(Debug)]
struct Stuck;

impl Digest for Stuck {
    fn grain_end(&self, _: u64) -> u64 {
        100
    }

    fn take(&self, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

#[test]
fn digests_that_cannot_be_are_bugs() {
    let folder = scratch();
    let image = |ranges: &[(u64, u64)]| {
        let mut builder = Builder::new(Bytes::new(1000));
        builder.bytes(Bytes::ZERO, "data", vec![1; 1000]);
        for (start, end) in ranges {
            builder.digested(Bytes::new(*start), Bytes::new(*end), Arc::new(Stuck));
        }
        builder.finish()
    };
    for ranges in [[(0, 100), (99, 150)], [(0, 1), (990, 1001)]] {
        assert_eq!(image(&ranges).unwrap_err().kind(), Kind::Bug, "{ranges:?}");
    }
    assert!(image(&[(100, 200), (0, 100)]).is_ok());
    let stuck = image(&[(0, 200)]).unwrap();
    let error = poured(&stuck, &folder.path().join("out"), 2).unwrap_err();
    assert_eq!(error.kind(), Kind::Bug);
    assert!(error.what().contains("grain 1 of a digest"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any data, any grain, cut into units that are moved about as a container moves them.
    #[test]
    fn sums_are_right_wherever_the_data_goes(
        lengths in prop::collection::vec((0_usize..9000, 0_usize..60_000, any::<bool>()), 1..8),
        start in prop_oneof![Just(40_960_usize), 20_000_usize..50_000],
        grain in prop_oneof![50_u64..5000, Just(4096_u64), 60_000_u64..400_000],
        unit in prop_oneof![Just(4096_u64), Just(65_536_u64), 1000_u64..9000],
        gap in prop_oneof![Just(0_u64), Just(4096_u64), 1_u64..100],
        jobs in 1_usize..5,
    ) {
        let grain = grain.max(100);
        let parts: Vec<Part> = lengths
            .iter()
            .enumerate()
            .map(|(number, (gap, length, hosted))| {
                (*gap, noise(u64::try_from(number).unwrap(), u64::try_from(*length).unwrap()), *hosted)
            })
            .collect();
        let folder = scratch();
        let toy = toy(folder.path(), start, &parts, grain, None);
        let length = toy.image.length().get();
        let count = length.div_ceil(unit);
        let mut moved = Builder::new(Bytes::new(count * (unit + gap)));
        let mut expected = vec![0; usize::try_from(count * (unit + gap)).unwrap()];
        // The last unit comes first.
        for number in 0..count {
            let to = (count - 1 - number) * (unit + gap);
            let (from, end) = (number * unit, ((number + 1) * unit).min(length));
            moved.put(Bytes::new(to), &toy.image.slice(Bytes::new(from), Bytes::new(end)));
            let [to, from, end] = [to, from, end].map(|at| usize::try_from(at).unwrap());
            expected[to..to + (end - from)].copy_from_slice(&toy.bytes[from..end]);
            // What is not observed stands between the units, on their pages.
            let behind = to + usize::try_from(unit).unwrap();
            let stranger = vec![7; usize::try_from(gap).unwrap()];
            expected[behind..behind + stranger.len()].copy_from_slice(&stranger);
            moved.bytes(Bytes::new(u64::try_from(behind).unwrap()), "stranger", stranger);
        }
        let moved = moved.finish().unwrap();
        prop_assert!(poured(&moved, &folder.path().join("out"), jobs).unwrap() == expected);
        prop_assert!(toy.image.is_settled());
        prop_assert!(all(&toy.image) == toy.bytes);
    }
}

/// If the host shares blocks, data is read for its digest and still shared.
#[test]
fn shared_blocks_are_digested() {
    if !kernel::can_judge() {
        return;
    }
    let folder = scratch();
    let file = folder.path().join("host.img");
    must(command("truncate").args(["-s", "600M"]).arg(&file));
    must(command("mkfs.xfs").arg("-q").arg(&file));
    let host = kernel::Mount::new(&file, "rw");
    let parts = vec![(0, noise(1, 50 * MIB), true), (4096, noise(2, 9 * MIB + 4095), true)];
    let toy = toy(host.path(), 8192, &parts, 128 * KIB, None);
    must(command("sync").arg("-f").arg(host.path()));
    let free = || rustix::fs::statvfs(host.path()).map(|stat| stat.f_bfree * stat.f_frsize).unwrap();
    let before = free();
    let out = host.path().join("out");
    pour(&toy.image, &out, &PourOptions::new(2, &Progress::default())).unwrap();
    must(command("sync").arg("-f").arg(host.path()));
    let taken = before.saturating_sub(free());
    assert!(taken < 4 * MIB, "{taken} bytes for 59 MiB");
    assert!(std::fs::read(&out).unwrap() == toy.bytes);
    host.unmount();
}
