//! Hash devices, byte for byte against `veritysetup format`.

use std::path::Path;

use diskwright::identity::Seed;
use diskwright::image::{Builder, Image};
use diskwright::pour::{Packer, PourOptions, pour};
use diskwright::progress::Progress;
use diskwright::units::{Bytes, KIB, u64_of};
use diskwright::uuid::uuid;
use diskwright::verity::{Algorithm, BlockSize, HashType, Hashes, Options, build};

use crate::support::tools::{command, must, scratch};
use crate::support::tree::noise;

/// A hash device to be made.
#[derive(Clone, Debug)]
struct Case {
    options: Options,
    blocks: u64,
}

fn case(algorithm: Algorithm, (data, hash): (u64, u64), hash_type: HashType, blocks: u64) -> Case {
    let block = |bytes| BlockSize::new(Bytes::new(bytes)).unwrap();
    let seed = Seed::new(uuid!("0867da16-f251-457d-a9e8-c31f9a3c220b"));
    let options = Options {
        algorithm,
        data_block_size: block(data),
        hash_block_size: block(hash),
        hash_type,
        ..Options::from_seed(seed)
    };
    Case { options, blocks }
}

/// Every hash with few blocks and many, every pair of block sizes up to a page, both types, levels that are just full and
/// those that are not, and salts of every kind.
fn cases() -> Vec<Case> {
    let (page, normal) = ((4096, 4096), HashType::Normal);
    let mut cases = Vec::new();
    for algorithm in Algorithm::ALL {
        cases.extend([1, 2, 127, 128, 129, 1000].map(|blocks| case(algorithm, page, normal, blocks)));
        cases.extend(
            [(512, 512), (512, 4096)].map(|sizes| case(algorithm, sizes, HashType::ChromiumOs, 1000)),
        );
        cases.extend([16_384, 16_385].map(|blocks| case(algorithm, (512, 512), normal, blocks)));
    }
    let sizes = [512, 1024, 2048, 4096];
    for (data, hash) in sizes.iter().flat_map(|data| sizes.map(|hash| (*data, hash))) {
        cases.push(case(Algorithm::Sha256, (data, hash), normal, 129));
    }
    for (data, hash) in [(8192, 65_536), (65_536, 512), (65_536, 65_536)] {
        cases.push(case(Algorithm::Sha512, (data, hash), normal, 130));
    }
    for salt in [Vec::new(), vec![7], noise(3, 256)] {
        let plain = case(Algorithm::Sha256, page, normal, 200);
        cases.push(Case { options: Options { salt, ..plain.options }, ..plain });
    }
    cases
}

/// Data with holes: blocks, parts of blocks, and many at a time.
fn data(length: u64) -> Image {
    let mut image = Builder::new(Bytes::new(length));
    let mut at = 0;
    for part in 0.. {
        let size = [5000, 100, 70_000, 700, 512][part % 5].min(length - at);
        image.bytes(Bytes::new(at), "noise", noise(u64_of(part), size));
        at += size + [0, 9000, 300, 300_000, 512][part % 5];
        if at >= length {
            break;
        }
    }
    image.finish().unwrap()
}

fn made(case: &Case, data: &Image, jobs: usize) -> Hashes {
    let packer = Packer::new(jobs, Progress::default(), std::env::temp_dir());
    build(&case.options, &data.whole(), data.length(), &packer).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What veritysetup writes for the file `data`, and the root hash that it tells.
fn theirs(options: &Options, data: &Path) -> (Vec<u8>, String) {
    let out = data.with_extension("hash");
    let mut format = command("veritysetup");
    format.arg("format").arg(data).arg(&out);
    let salt = if options.salt.is_empty() { "-".to_owned() } else { hex(&options.salt) };
    let kind = if options.hash_type == HashType::Normal { 1 } else { 0 };
    format.arg(format!("--salt={salt}")).arg(format!("--uuid={}", options.uuid));
    format.arg(format!("--hash={}", options.algorithm)).arg(format!("--format={kind}"));
    format.arg(format!("--data-block-size={}", options.data_block_size.get()));
    format.arg(format!("--hash-block-size={}", options.hash_block_size.get()));
    let said = must(&mut format).text();
    let root = said.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap().trim().to_owned();
    let bytes = std::fs::read(&out).unwrap();
    std::fs::remove_file(out).unwrap();
    (bytes, root)
}

fn poured(image: &Image, path: &Path) {
    pour(image, path, &PourOptions::new(2, &Progress::default())).unwrap();
}

#[test]
fn hash_devices_are_those_of_veritysetup() {
    let folder = scratch();
    let cases = cases();
    assert!(cases.len() >= 62, "{}", cases.len());
    for (number, case) in cases.into_iter().enumerate() {
        let data = data(case.blocks * u64::from(case.options.data_block_size.get()));
        let (file, hashes) = (folder.path().join("data"), folder.path().join("hashes"));
        poured(&data, &file);
        let made = made(&case, &data, 1 + number % 3);
        poured(&made.image, &hashes);
        let (bytes, root) = theirs(&case.options, &file);
        assert_eq!(made.root.to_string(), root, "{case:?}");
        // Where there is no tree veritysetup leaves the superblock's block as short as it is.
        let mut ours = std::fs::read(&hashes).unwrap();
        if case.blocks == 1 {
            assert!(ours[bytes.len()..].iter().all(|byte| *byte == 0), "{case:?}");
            ours.truncate(bytes.len());
        }
        assert!(ours == bytes, "{case:?}");
        for path in [file, hashes] {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn another_bit_is_another_root_hash() {
    let folder = scratch();
    let case = case(Algorithm::Sha256, (4096, 4096), HashType::Normal, 50);
    let file = folder.path().join("data");
    let data = data(50 * 4 * KIB);
    poured(&data, &file);
    let ours = made(&case, &data, 2).root.to_string();
    assert_eq!(theirs(&case.options, &file).1, ours);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[4096] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert_ne!(theirs(&case.options, &file).1, ours);
}
