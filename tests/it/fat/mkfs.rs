//! Empty volumes compared with those of `mkfs.fat` 4.2: the same bytes, except for its boot code, the end
//! mark of the root directory's chain, and the hint for free clusters.

use std::os::unix::fs::FileExt;

use diskwright::filesystem::fat::FatType;
use diskwright::tree::Time;
use diskwright::units::{GIB, KIB, MIB, Sectors, TIB};
use proptest::prelude::*;

use super::support::*;
use super::whole as fat;

/// The request to both makers.
#[derive(Clone, Copy, Debug)]
struct Case {
    size: u64,
    sector_size: u64,
    fat: Option<FatType>,
    sectors_per_cluster: Option<u8>,
    hidden: u64,
    label: bool,
    /// Names in the root directory of our volume, each of one entry; `-r` asks for as many.
    names: u64,
}

fn case(size: u64) -> Case {
    Case { size, sector_size: 512, fat: None, sectors_per_cluster: None, hidden: 0, label: true, names: 0 }
}

/// The time `mkfs.fat --invariant` uses, 2015-03-14 09:26:53 UTC.
const INVARIANT: i64 = 1_426_325_213;

fn ours(case: &Case) -> fat::Options {
    fat::Options {
        fat: case.fat,
        sector_size: case.sector_size,
        sectors_per_cluster: case.sectors_per_cluster,
        hidden_sectors: Sectors::new(case.hidden),
        label: case.label.then(|| "ESP".to_owned()),
        volume_id: 0x1234_abcd,
        time: Time::seconds(INVARIANT),
        ..fixed(case.size)
    }
}

/// The volume of `mkfs.fat`; or its message, if it makes none, or a FAT32 with too few clusters, which we
/// refuse.
fn theirs(case: &Case) -> Result<std::fs::File, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mkfs.img");
    let file = std::fs::File::create_new(&path).unwrap();
    file.set_len(case.size).unwrap();
    let mut command = tool("mkfs.fat");
    command.args(["--invariant", "-S", &case.sector_size.to_string(), "-h", &case.hidden.to_string()]);
    if let Some(fat) = case.fat {
        command.args(["-F", &fat.bits().to_string()]);
    }
    if let Some(sectors) = case.sectors_per_cluster {
        command.args(["-s", &sectors.to_string()]);
    }
    if case.label {
        command.args(["-n", "ESP"]);
    }
    // It never makes fewer than 512 by itself.
    let entries = case.names + u64::from(case.label);
    if entries > 512 {
        command.args(["-r", &entries.to_string()]);
    }
    let (good, said) = run(command.arg(&path));
    let few = said.contains("WARNING: Number of clusters for 32 bit FAT is less then suggested minimum");
    if good && !few { Ok(std::fs::File::open(&path).unwrap()) } else { Err(said) }
}

/// Bytes of the two volumes that are compared at a time.
fn piece(image: &diskwright::image::Image, file: &std::fs::File, at: u64, length: u64) -> (Vec<u8>, Vec<u8>) {
    let length = usize::try_from(length.min(image.length().get().saturating_sub(at))).unwrap();
    let (mut one, mut other) = (vec![0; length], vec![0; length]);
    image.read(at, &mut one).unwrap();
    file.read_exact_at(&mut other, at).unwrap();
    (one, other)
}

/// Compares the results of both makers for a case, and whether they make a volume.
fn compare(case: &Case) -> Result<(), String> {
    compare_with(case, &ours(case))
}

fn compare_with(case: &Case, options: &fat::Options) -> Result<(), String> {
    let tree = texts(&listing((0..case.names).map(|number| (format!("/{number}"), Vec::new()))));
    let (ours, theirs) = match (fat::build(&tree, options), theirs(case)) {
        (Ok(ours), Ok(theirs)) => (ours.image, theirs),
        (Err(_), Err(_)) => return Ok(()),
        (Err(error), Ok(_)) => return Err(format!("{case:?}: mkfs.fat makes it, we say {error}")),
        (Ok(_), Err(said)) => return Err(format!("{case:?}: we make it, mkfs.fat says {said}")),
    };
    let (boot, _) = piece(&ours, &theirs, 0, 512);
    let field = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
    let wide = field(22) == 0;
    let size = case.sector_size;
    let table =
        if wide { u64::from(u32::from_le_bytes(boot[36..40].try_into().unwrap())) } else { field(22) };
    let (reserved, root) = (field(14) * size, (field(14) + 2 * table) * size);
    let code = if wide { 90..510 } else { 62..510 };
    // Where they may differ.
    let mut blind = vec![code.clone()];
    let entries = u16::from_le_bytes(piece(&ours, &theirs, 17, 2).1.try_into().unwrap());
    if !(u64::from(entries) * 32).is_multiple_of(size) {
        // Linux does not mount a root directory that ends inside a sector, so we round up.
        let whole = u64::from(entries).next_multiple_of(size / 32);
        if field(17) != whole {
            return Err(format!("{case:?}: {} root entries instead of {whole}", field(17)));
        }
        blind.push(17..19);
    }
    if wide {
        let at = |sector: u64| usize::try_from(sector * size).unwrap();
        let (info, backup) = (at(1), at(6));
        blind.push(backup + code.start..backup + code.end);
        blind.extend([info, info + backup].map(|info| info + 492..info + 496));
        for copy in [field(14), field(14) + table] {
            blind.push(at(copy) + 8..at(copy) + 12);
        }
    }
    // Everything before the first names if that is little; otherwise the beginning of each part.
    let parts = if root <= 8 * MIB && case.names == 0 {
        vec![(0, root + 128 * KIB)]
    } else {
        let begin = 4096.min(table * size);
        vec![(0, reserved + begin), (reserved + table * size, begin), (root, 32)]
    };
    for (at, length) in parts {
        let (mut one, mut other) = piece(&ours, &theirs, at, length);
        let start = usize::try_from(at).unwrap();
        let end = start + one.len();
        for number in blind.iter().cloned().flatten().filter(|number| (start..end).contains(number)) {
            (one[number - start], other[number - start]) = (0, 0);
        }
        if let Some(place) = one.iter().zip(&other).position(|(one, other)| one != other) {
            let (one, other) = (one[place], other[place]);
            return Err(format!("{case:?}: {one:#x} instead of {other:#x} at byte {at} + {place}"));
        }
    }
    Ok(())
}

/// The comparison of this file can fail: it notices each option that only one side has.
#[test]
fn another_volume_is_seen() {
    let options = |size| ours(&case(size));
    for size in [MIB, 20 * MIB, 600 * MIB] {
        for other in [
            fat::Options { hidden_sectors: Sectors::new(1), ..options(size) },
            fat::Options { label: Some("ESQ".into()), ..options(size) },
            fat::Options { label: None, ..options(size) },
            fat::Options { volume_id: 0x1234_abcc, ..options(size) },
            fat::Options { time: Time::seconds(INVARIANT + 2), ..options(size) },
            fat::Options { sectors_per_cluster: Some(32), ..options(size) },
            options(size + 64 * 512),
            fat::Options { fat: Some(FatType::Fat12), sectors_per_cluster: Some(1), ..options(size) },
        ] {
            compare_with(&case(size), &other).unwrap_err();
        }
        compare_with(&case(size), &options(size)).unwrap();
    }
}

/// The sizes in bytes at which the choice of `mkfs.fat` changes.
fn thresholds(sector_size: u64) -> Vec<u64> {
    let kib = [50, 51, 64, 100, 128, 256, 360, 361, 512, 720, 1024, 1200, 1440, 2048, 2880, 4096];
    let mib = [8, 16, 32, 64, 128, 248, 249, 250, 255, 256, 260, 500, 511, 512, 513, 600, 1022];
    let mut sizes: Vec<u64> =
        kib.iter().map(|kib| kib * KIB).chain(mib.iter().map(|mib| mib * MIB)).collect();
    // The same numbers of sectors, whatever their size.
    sizes.extend([4096, 8192, 16_384, 32_768, 65_536, 262_144, 524_288].map(|sectors| sectors * sector_size));
    sizes
}

#[test]
fn volumes_are_those_of_mkfs_around_every_threshold() {
    let mut count = 0;
    for sector_size in [512, 1024, 2048, 4096] {
        for size in thresholds(sector_size) {
            for less in [-33_i64, -16, -1, 0, 1, 63] {
                let less = less * i64::try_from(sector_size).unwrap();
                let Some(size) = size.checked_add_signed(less) else { continue };
                compare(&Case { sector_size, ..case(size) }).unwrap();
                count += 1;
            }
        }
    }
    assert!(count > 400);
}

/// FAT12 ends at 4084 clusters and FAT16 begins at 4087. Sizes between them get larger clusters.
#[test]
fn the_gap_between_fat12_and_fat16_is_that_of_mkfs() {
    for sectors in (16_300..16_520).step_by(4) {
        compare(&case(sectors * 512)).unwrap();
    }
    for sectors in (4100..4180).step_by(2) {
        compare(&Case { sectors_per_cluster: Some(1), ..case(sectors * 512) }).unwrap();
    }
}

#[test]
fn large_volumes_are_those_of_mkfs() {
    for (size, less) in
        [(8 * GIB, 0), (8 * GIB, 1), (16 * GIB, 0), (16 * GIB, 1), (32 * GIB, 0), (32 * GIB, 1)]
    {
        compare(&case(size + less * 512)).unwrap();
        compare(&Case { sector_size: 4096, ..case(size + less * 4096) }).unwrap();
    }
    compare(&Case { sector_size: 4096, ..case(256 * GIB + 4096) }).unwrap();
    // The largest there is: one sector less than 2^32, and 2 TiB, whose last sectors are less than a track.
    compare(&case(2 * TIB - 512)).unwrap();
    compare(&case(2 * TIB)).unwrap();
}

#[test]
fn forced_types_are_those_of_mkfs() {
    for fat in [FatType::Fat12, FatType::Fat16, FatType::Fat32] {
        for sector_size in [512, 4096] {
            let kib = [40, 64, 99, 512, 1440, 2100, 4096, 8300, 16_400, 33_000, 34_000];
            let mib = [64, 127, 200, 260, 261, 512, 1000, 2100, 4095, 4100];
            for size in kib.iter().map(|kib| kib * KIB).chain(mib.iter().map(|mib| mib * MIB)) {
                compare(&Case { sector_size, fat: Some(fat), ..case(size) }).unwrap();
            }
        }
    }
}

#[test]
fn forced_clusters_are_those_of_mkfs() {
    for sectors_per_cluster in [1, 2, 16, 128] {
        for fat in [None, Some(FatType::Fat12), Some(FatType::Fat16), Some(FatType::Fat32)] {
            for size in [MIB, 5 * MIB, 33 * MIB, 300 * MIB, 600 * MIB] {
                let sectors_per_cluster = Some(sectors_per_cluster);
                compare(&Case { fat, sectors_per_cluster, ..case(size) }).unwrap();
            }
        }
    }
}

#[test]
fn a_root_directory_that_needs_more_entries_is_that_of_mkfs() {
    for names in [510, 511, 512, 513, 2000, 20_000, 32_767] {
        for size in [4 * MIB, 32 * MIB] {
            for sector_size in [512, 4096] {
                compare(&Case { names, sector_size, ..case(size) }).unwrap();
            }
        }
    }
}

#[test]
fn hidden_sectors_and_no_label_are_those_of_mkfs() {
    for hidden in [0, 63, 2048, 16_384, 0xffff_ffff] {
        for (fat, size) in [(FatType::Fat12, 2 * MIB), (FatType::Fat16, 20 * MIB), (FatType::Fat32, 40 * MIB)]
        {
            compare(&Case { hidden, fat: Some(fat), label: false, ..case(size) }).unwrap();
        }
    }
}

/// The measured table of the boot partitions of nixpkgs: MiB, type, sectors per cluster, reserved, root entries,
/// sectors per FAT, clusters, sectors per track, heads.
#[test]
fn boot_partitions_of_nixpkgs_have_their_layout() {
    for (mib, bits, sectors_per_cluster, reserved, root, table, clusters, track, heads) in [
        (32, 16, 4, 4, 512, 64, 16_343, 32, 4),
        (64, 16, 4, 4, 512, 128, 32_695, 32, 8),
        (128, 16, 4, 4, 512, 256, 65_399, 32, 8),
        (248, 16, 8, 8, 512, 248, 63_421, 32, 16),
        (249, 16, 8, 8, 512, 256, 63_675, 32, 16),
        (256, 16, 8, 8, 512, 256, 65_467, 32, 16),
        (260, 16, 16, 16, 512, 144, 33_258, 63, 16),
        (500, 16, 16, 16, 512, 256, 63_961, 63, 16),
        (511, 16, 16, 16, 512, 256, 65_370, 63, 32),
        (512, 32, 8, 32, 0, 1024, 130_811, 63, 32),
        (513, 32, 8, 32, 0, 1024, 131_063, 63, 32),
        (1022, 32, 8, 32, 0, 2040, 261_117, 63, 64),
    ] {
        let built = fat::build(&nothing(), &fixed(mib * MIB)).unwrap();
        let mut boot = [0; 512];
        built.image.read(0, &mut boot).unwrap();
        let field = |at: usize| u32::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let long = u32::from_le_bytes(boot[36..40].try_into().unwrap());
        let name: [u8; 8] = boot[if bits == 32 { 82..90 } else { 54..62 }].try_into().unwrap();
        assert_eq!(name, *format!("FAT{bits}   ").as_bytes(), "{mib}");
        assert_eq!(
            (u32::from(boot[13]), field(14), field(17), if bits == 32 { long } else { field(22) }),
            (sectors_per_cluster, reserved, root, table),
            "{mib}"
        );
        assert_eq!((field(24), field(26)), (track, heads), "{mib}");
        assert_eq!(built.facts.blocks, clusters, "{mib}");
    }
}

fn any_case() -> impl Strategy<Value = Case> {
    let fat = prop_oneof![
        4 => Just(None),
        1 => Just(Some(FatType::Fat12)),
        1 => Just(Some(FatType::Fat16)),
        1 => Just(Some(FatType::Fat32)),
    ];
    let cluster = prop_oneof![4 => Just(None), 1 => (0_u32..8).prop_map(|power| Some(1_u8 << power))];
    // Sizes of 32 KiB to 4 GiB, as many of each order.
    let size = (15_u32..32, 0_u64..1024, prop_oneof![Just(1_u64), Just(512), Just(4096)]).prop_map(
        |(order, part, step)| {
            let size = 1_u64 << order;
            (size + part * (size / 1024)) / step * step
        },
    );
    (size, any::<bool>(), fat, cluster, 0_u64..10_000, any::<bool>()).prop_map(
        |(size, large, fat, sectors_per_cluster, hidden, label)| Case {
            size,
            sector_size: if large { 4096 } else { 512 },
            fat,
            sectors_per_cluster,
            hidden,
            label,
            names: 0,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_volume_is_that_of_mkfs(case in any_case()) {
        compare(&case).map_err(TestCaseError::fail)?;
    }
}

/// A warning counts what FAT cannot keep of the sources; it is not an error.
#[test]
fn what_is_lost_of_the_sources_is_said() {
    let host = tempfile::tempdir().unwrap();
    let path = |name: &str| host.path().join(name);
    std::fs::write(path("t"), "t").unwrap();
    std::fs::hard_link(path("t"), path("u")).unwrap();
    rustix::fs::setxattr(path("t"), "user.k", b"v", rustix::fs::XattrFlags::empty()).unwrap();
    let image = tempfile::Builder::new().suffix(".img").tempfile().unwrap();
    let output = crate::support::program::diskwright()
        .args(["mkfs", "vfat"])
        .arg(host.path())
        .arg("-o")
        .arg(image.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("a further name is a file of its own"), "{said}");
    assert!(said.contains("extended attributes of 2") || said.contains("extended attributes of 1"), "{said}");
}
