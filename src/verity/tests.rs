use super::*;
use crate::error::Kind;
use crate::identity::Seed;
use crate::progress::Progress;
use crate::units::{MIB, usize_of};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use uuid::uuid;

fn seed() -> Seed {
    Seed::new(uuid!("0867da16-f251-457d-a9e8-c31f9a3c220b"))
}

fn hashes(options: &Options, data: &Slice, length: u64, jobs: usize) -> Result<Hashes> {
    let packer = Packer::new(jobs, Progress::default(), std::env::temp_dir());
    build(options, data, Bytes::new(length), &packer)
}

fn bytes(image: &Image) -> Vec<u8> {
    let mut bytes = vec![0xd1; usize_of(image.length().get())];
    image.read(0, &mut bytes).unwrap();
    bytes
}

/// The format as verity.rst describes it, a block at a time.
fn plain(options: &Options, data: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let hash = |block: &[u8]| {
        let salted = match options.hash_type {
            HashType::Normal => [&options.salt, block].concat(),
            HashType::ChromiumOs => [block, &options.salt].concat(),
        };
        Sha256::digest(salted).to_vec()
    };
    let block = options.hash_block_size.length();
    let mut hashes: Vec<_> = data.chunks(options.data_block_size.length()).map(hash).collect();
    let mut tree = Vec::new();
    while hashes.len() > 1 {
        let level: Vec<Vec<u8>> = hashes.chunks(block / 32).map(<[Vec<u8>]>::concat).collect();
        let level: Vec<Vec<u8>> = level
            .into_iter()
            .map(|mut hashes| {
                hashes.resize(block, 0);
                hashes
            })
            .collect();
        hashes = level.iter().map(|block| hash(block)).collect();
        tree = [level.concat(), tree].concat();
    }
    (hashes.concat(), tree)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_tree_is_that_of_the_description_for_any_data_blocks_and_jobs(
        parts in prop::collection::vec((0_u64..600_000, 1_usize..700_000), 0..5),
        (data, hash) in (9_u32..17, 9_u32..17),
        blocks in 1_u64..3000,
        salt in prop::collection::vec(any::<u8>(), 0..40),
        behind in any::<bool>(),
        jobs in 1_usize..6,
    ) {
        let size = |bits: u32| BlockSize::new(Bytes::new(1 << bits)).unwrap();
        let options = Options {
            data_block_size: size(data),
            hash_block_size: size(hash),
            hash_type: if behind { HashType::ChromiumOs } else { HashType::Normal },
            salt,
            ..Options::from_seed(seed())
        };
        let length = (blocks << data).min(4 * MIB).next_multiple_of(1 << data);
        let mut image = Builder::new(Bytes::new(8 * MIB));
        let mut at = 0;
        for (gap, length) in parts {
            at += gap;
            let bytes: Vec<u8> = (0..length).map(|n| (n % 253).to_le_bytes()[0]).collect();
            at += crate::units::u64_of(bytes.len());
            image.bytes(Bytes::new(at - crate::units::u64_of(bytes.len())), "part", bytes);
        }
        let image = image.finish().unwrap();
        let made = hashes(&options, &image.whole(), length, jobs).unwrap();
        let data = &bytes(&image)[..usize_of(length)];
        let (root, tree) = plain(&options, data);
        prop_assert_eq!(made.root.bytes(), root);
        prop_assert_eq!(made.image.length(), super::size(&options, Bytes::new(length)).unwrap());
        prop_assert!(bytes(&made.image)[options.hash_block_size.length()..] == tree);
    }
}

/// A hash partition that systemd-repart 262.1 wrote: 1 MiB of data in a partition of 6 MiB, blocks of 512 bytes.
#[test]
fn the_hash_partition_is_that_of_systemd_repart() {
    let mut text = String::new();
    for number in 1..=200_000 {
        let _ = writeln!(text, "{number}");
    }
    text.truncate(1 << 20);
    let data = Slice::ready("data", text.into_bytes());
    let block = BlockSize::new(Bytes::new(512)).unwrap();
    let options = Options { data_block_size: block, hash_block_size: block, ..Options::from_seed(seed()) };
    let made = hashes(&options, &data, 6 * MIB, 2).unwrap();
    assert_eq!(made.data_blocks, 12_288);
    assert_eq!(made.image.length().get(), 420_352);
    assert_eq!(made.root.data_guid(), uuid!("5b55c5c4-6563-746d-6d3d-cb7508989b6e"));
    assert_eq!(made.root.hash_guid(), uuid!("5f585655-64e2-b35b-8cd6-8a5fba6095d8"));
    let mut partition = bytes(&made.image);
    partition.resize(1 << 20, 0);
    assert_eq!(
        crate::encoding::to_hex(&Sha256::digest(partition)),
        "3c4c7edc713724c2e7ac38cd4a38a82fe6189750207913bcd4523ba1238c74da"
    );
}

#[test]
fn sizes_are_those_of_the_format() {
    let options = Options::from_seed(seed());
    for (blocks, expected) in [
        (1, 4096),
        (2, 8192),
        (128, 8192),
        (129, 16_384),
        (16_384, 532_480),
        (262_144, 8_462_336),
        (u64::MAX >> 12, 145_249_953_336_303_616),
    ] {
        assert_eq!(size(&options, Bytes::new(blocks << 12)).unwrap().get(), expected, "{blocks}");
    }
    let error = size(&options, Bytes::new(4096 + 512)).unwrap_err();
    assert_eq!((error.kind(), error.what()), (Kind::Capacity, "dm-verity cannot verify all of the data"));
    assert!(size(&options, Bytes::ZERO).is_err());
    let salt = vec![1; 257];
    let error = size(&Options { salt, ..options }, Bytes::new(4096)).unwrap_err();
    assert_eq!((error.kind(), error.key()), (Kind::Manifest, Some("salt")));
}

#[test]
fn a_hole_is_not_read_and_a_tebibyte_of_it_is_one_hash() {
    let block = BlockSize::new(Bytes::new(65_536)).unwrap();
    let options = Options { data_block_size: block, hash_block_size: block, ..Options::from_seed(seed()) };
    let hole = Builder::new(Bytes::gib(1024)).finish().unwrap();
    let made = hashes(&options, &hole.whole(), 1 << 40, 2).unwrap();
    // 2^24 blocks, 2^11 hashes in a block: 2^13, 4 and 1 blocks of hashes, and the superblock.
    assert_eq!(made.image.length().get(), (8192 + 4 + 1 + 1) * 65_536);
}

#[test]
fn values_read_back_and_others_are_refused() {
    for algorithm in Algorithm::ALL {
        assert_eq!(algorithm.to_string(), algorithm.name());
        assert_eq!(algorithm.name().parse::<Algorithm>().unwrap(), algorithm);
    }
    let error = "md5".parse::<Algorithm>().unwrap_err().to_string();
    assert_eq!(error, "dm-verity hashes with one of sha1, sha256, sha384, sha512");
    for bad in [0, 256, 513, 1000, 131_072, u64::MAX] {
        assert_eq!(BlockSize::new(Bytes::new(bad)).unwrap_err().kind(), Kind::Manifest, "{bad}");
    }
    let digits = "00112233445566778899aabbccddeeff00";
    let root: RootHash = digits.parse().unwrap();
    assert_eq!((root.to_string(), format!("{root:?}")), (digits.to_owned(), digits.to_owned()));
    assert_eq!(root.data_guid(), uuid!("00112233-4455-6677-8899-aabbccddeeff"));
    assert_eq!(root.hash_guid(), uuid!("11223344-5566-7788-99aa-bbccddeeff00"));
    for bad in ["", "00", "0", &"0".repeat(31), &"00".repeat(65), &"zz".repeat(32)] {
        assert_eq!(bad.parse::<RootHash>().unwrap_err().kind(), Kind::Manifest, "{bad}");
    }
}

/// Poisoned: levels with more blocks than there are bytes.
#[test]
fn hashes_without_a_length_are_a_bug() {
    let block = BlockSize::default();
    assert_eq!(length([3, 1].into_iter(), block).unwrap(), Bytes::new(5 * 4096));
    for levels in [vec![u64::MAX], vec![u64::MAX / 4096, 1]] {
        assert_eq!(length(levels.into_iter(), block).unwrap_err().kind(), Kind::Bug);
    }
}

#[test]
fn another_block_salt_or_uuid_is_seen() {
    let data = |byte: u8| Slice::ready("data", vec![byte; 16_384]);
    let options = Options::from_seed(seed());
    let one = hashes(&options, &data(1), 16_384, 1).unwrap();
    assert_ne!(one.root, hashes(&options, &data(2), 16_384, 1).unwrap().root);
    let salted = Options { salt: vec![7], ..options.clone() };
    assert_ne!(one.root, hashes(&salted, &data(1), 16_384, 1).unwrap().root);
    let other = Options { uuid: uuid::Uuid::nil(), ..options };
    let other = hashes(&other, &data(1), 16_384, 1).unwrap();
    assert_eq!(one.root, other.root);
    assert!(bytes(&one.image) != bytes(&other.image));
}
