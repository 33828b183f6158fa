//! Partitions of dm-verity: the hashes of another partition, and a signature of their root.

use std::sync::Arc;

use super::derived::{Derived, Made, Needed, Request, Values};
use crate::error::{Error, Kind, Result};
use crate::image::Slice;
use crate::units::Bytes;
#[cfg(feature = "verity-sign")]
use crate::verity::signature::Signer;
use crate::verity::signature::{SIZE, Signed};
use crate::verity::{self, Options, RootHash};

/// The value of [`Hash`](struct@Hash) and [`Signature`] that is the root hash, in hexadecimal digits.
pub const ROOT_HASH: &str = "roothash";
/// The value of [`Hash`](struct@Hash) that is the GUID of the partition with the data.
pub const DATA_GUID: &str = "data-guid";
/// The value of [`Hash`](struct@Hash) that is the GUID of the partition with the hashes.
pub const HASH_GUID: &str = "hash-guid";

/// The hash device of another partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hash {
    /// The partition that is verified, by its position in the disk.
    pub data: usize,
    /// What decides the hashes beside the data.
    pub options: Options,
    /// How much of the partition is verified.
    pub covers: Covers,
}

/// How much of a partition is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Covers {
    /// All of it, to its last block.
    #[default]
    Partition,
    /// What is in it: the filesystem, and not what is behind it. systemd-repart does so where it minimizes the hashes.
    Contents,
}

impl Derived for Hash {
    fn needs(&self) -> Vec<usize> {
        vec![self.data]
    }

    fn size(&self, needed: &[Bytes]) -> Result<Bytes> {
        let [data] = needed else { return Err(Error::bug("hashes are of one partition")) };
        verity::size(&self.options, *data)
    }

    /// Linux refuses a device whose blocks of data or hashes are smaller than its sectors (drivers/md/dm-verity-target.c,
    /// verity_ctr).
    fn check_sector_size(&self, sector_size: u64) -> Result<()> {
        let (data, hashes) = (self.options.data_block_size, self.options.hash_block_size);
        for (what, block) in [("data", data), ("hashes", hashes)] {
            if u64::from(block.get()) < sector_size {
                let refused = "the blocks of dm-verity cannot be smaller than the sectors of the disk";
                return Err(Error::new(Kind::Manifest, refused)
                    .expected(format!("at least {sector_size} bytes, as the disk's sectors have"))
                    .found(format!("blocks of {what} with {} bytes", block.get())));
            }
        }
        Ok(())
    }

    /// The device of dm-verity has sectors as large as its blocks of data (drivers/md/dm-verity-target.c, verity_io_hints).
    fn check_needed(&self, needed: &[Needed]) -> Result<()> {
        let block = u64::from(self.options.data_block_size.get());
        let small = needed.iter().filter_map(|data| data.blocks).find(|(_, own)| *own < block);
        match small {
            None => Ok(()),
            Some((kind, own)) => {
                let what = "the filesystem has smaller blocks than dm-verity, so Linux could not mount it";
                Err(Error::new(Kind::Manifest, what)
                    .expected(format!(
                        "blocks of data with at most {own} bytes, or {kind} with at least {block}"
                    ))
                    .found(format!("blocks of data with {block} bytes, and {kind} with {own}")))
            }
        }
    }

    fn build(&self, needed: &[Needed], request: &Request<'_>) -> Result<Made> {
        let [data] = needed else { return Err(Error::bug("hashes are of one partition")) };
        let block = u64::from(self.options.data_block_size.get());
        let length = match self.covers {
            Covers::Partition => data.length,
            Covers::Contents => data.image.length().round_up(block).min(data.length),
        };
        let size = verity::size(&self.options, length)?;
        if size > request.length {
            return Err(Error::new(Kind::Capacity, "the hashes of dm-verity do not fit their partition")
                .about("size")
                .expected(format!("at least {} bytes", size.get()))
                .found(format!("{} bytes", request.length.get())));
        }
        let made = verity::build(&self.options, &data.image.whole(), length, request.packer)?;
        let values = [
            (ROOT_HASH, made.root.to_string()),
            (DATA_GUID, made.root.data_guid().to_string()),
            (HASH_GUID, made.root.hash_guid().to_string()),
        ];
        Ok(Made { image: made.image, facts: None, values: Values::from(values) })
    }
}

/// A signature of the root hash of another partition.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The partition with the hashes, by its position in the disk.
    pub hash: usize,
    /// Who signs.
    pub by: By,
}

/// Who signs a root hash.
#[derive(Clone, Debug)]
pub enum By {
    /// A private key that is here.
    #[cfg(feature = "verity-sign")]
    Key(Arc<Signer>),
    /// Somebody elsewhere, who signed these root hashes.
    Joined(Arc<[Signed]>),
}

impl By {
    /// The signature of `root`.
    ///
    /// # Errors
    /// [`Kind::Source`] where only other root hashes are signed.
    pub fn sign(&self, root: &RootHash) -> Result<Signed> {
        let all = match self {
            #[cfg(feature = "verity-sign")]
            Self::Key(signer) => return signer.sign(root),
            Self::Joined(all) => all,
        };
        all.iter().find(|signed| signed.root() == root).cloned().ok_or_else(|| {
            let found: Vec<String> = all.iter().map(|signed| signed.root().to_string()).collect();
            Error::new(Kind::Source, "the signature is of another root hash")
                .expected(root)
                .found(found.join(", "))
                .hint("sign the root hash that is expected, and build again")
        })
    }
}

impl Derived for Signature {
    fn needs(&self) -> Vec<usize> {
        vec![self.hash]
    }

    fn size(&self, _: &[Bytes]) -> Result<Bytes> {
        Ok(SIZE)
    }

    fn build(&self, needed: &[Needed], request: &Request<'_>) -> Result<Made> {
        let [hash] = needed else { return Err(Error::bug("a signature is of one root hash")) };
        let root: RootHash = super::derived::value(&hash.values, ROOT_HASH)?.parse()?;
        let signed = self.by.sign(&root)?;
        let bytes = signed.padded(request.length)?;
        let image = Slice::ready("signature of dm-verity", bytes).image().clone();
        let values = Values::from([(ROOT_HASH, root.to_string())]);
        Ok(Made { image, facts: None, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Seed;
    use crate::image::Builder;
    use crate::pour::Packer;
    use crate::verity::BlockSize;
    use crate::verity::signature::Certificate;
    use uuid::Uuid;

    fn hash(covers: Covers) -> Hash {
        let block = BlockSize::new(Bytes::new(512)).unwrap();
        let seed = Options::from_seed(Seed::new(Uuid::nil()));
        Hash { data: 0, options: Options { data_block_size: block, hash_block_size: block, ..seed }, covers }
    }

    fn build(derived: &dyn Derived, needed: Needed, length: u64) -> Result<Made> {
        let packer = Packer::default();
        derived.build(&[needed], &Request { length: Bytes::new(length), key: Uuid::nil(), packer: &packer })
    }

    fn needed(image: u64, partition: u64, values: Values) -> Needed {
        let image = Builder::new(Bytes::new(image)).finish().unwrap();
        Needed { image, length: Bytes::new(partition), values, blocks: None }
    }

    /// What systemd-repart 262 covers of a filesystem of 302,080 bytes in a partition of 303,104.
    #[test]
    fn a_partition_is_covered_to_its_end_or_as_far_as_it_has_contents() {
        for (covers, blocks) in [(Covers::Partition, 592), (Covers::Contents, 590)] {
            let hash = hash(covers);
            let size = hash.size(&[Bytes::new(303_104)]).unwrap();
            let made = build(&hash, needed(302_080, 303_104, Values::new()), size.get()).unwrap();
            let mut data_blocks = [0; 8];
            made.image.read(72, &mut data_blocks).unwrap();
            assert_eq!(u64::from_le_bytes(data_blocks), blocks);
            assert!(made.image.length() <= size);
            let root: RootHash = made.values[ROOT_HASH].parse().unwrap();
            assert_eq!(made.values[DATA_GUID], root.data_guid().to_string());
            assert_eq!(made.values[HASH_GUID], root.hash_guid().to_string());
        }
    }

    #[test]
    fn blocks_below_a_sector_are_refused() {
        let small = hash(Covers::Partition);
        small.check_sector_size(512).unwrap();
        let large = BlockSize::default();
        for (data, hashes, found) in [
            (small.options.data_block_size, large, "blocks of data with 512 bytes"),
            (large, small.options.data_block_size, "blocks of hashes with 512 bytes"),
        ] {
            let options = Options { data_block_size: data, hash_block_size: hashes, ..small.options.clone() };
            let error = Hash { options, ..small.clone() }.check_sector_size(4096).unwrap_err().to_string();
            assert!(error.contains("at least 4096 bytes") && error.contains(found), "{error}");
        }
        let options = Options { data_block_size: large, hash_block_size: large, ..small.options.clone() };
        Hash { options, ..small }.check_sector_size(4096).unwrap();
    }

    #[test]
    fn filesystems_with_smaller_blocks_are_refused() {
        let hash = hash(Covers::Partition);
        let large = Hash {
            options: Options { data_block_size: BlockSize::default(), ..hash.options.clone() },
            ..hash.clone()
        };
        let of = |size| Needed { blocks: Some(("ext4", size)), ..needed(4096, 4096, Values::new()) };
        hash.check_needed(&[of(1024)]).unwrap();
        large.check_needed(&[of(4096)]).unwrap();
        large.check_needed(&[needed(4096, 4096, Values::new())]).unwrap();
        let error = large.check_needed(&[of(1024)]).unwrap_err().to_string();
        assert!(error.contains("found: blocks of data with 4096 bytes, and ext4 with 1024"), "{error}");
    }

    #[test]
    fn hashes_that_do_not_fit_are_refused() {
        let hash = hash(Covers::Partition);
        let size = hash.size(&[Bytes::new(303_104)]).unwrap().get();
        let error = build(&hash, needed(1000, 303_104, Values::new()), size - 1).unwrap_err();
        assert_eq!((error.kind(), error.key()), (Kind::Capacity, Some("size")));
    }

    #[test]
    fn a_signature_is_of_the_root_hash_of_its_disk() {
        // A certificate without anything in it: the version is left out, and every name is empty.
        let parts = [0x30, 24, 0x30, 17, 2, 1, 7, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0];
        let bytes = [&parts[..], &[5, 0, 5, 0, 0x30, 0, 3, 1, 0]].concat();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("certificate");
        let text = crate::encoding::to_base64(&bytes);
        std::fs::write(&file, format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"))
            .unwrap();
        let certificate = Certificate::open(&file).unwrap();
        let root = "ab".repeat(32);
        let signed = Signed::with_rsa(root.parse().unwrap(), &certificate, &[1; 256]);
        let signature = Signature { hash: 0, by: By::Joined(Arc::from([signed.clone()])) };
        let of = |root: &str| needed(512, 512, Values::from([(ROOT_HASH, root.to_owned())]));
        assert_eq!(signature.size(&[Bytes::new(512)]).unwrap(), SIZE);
        let made = build(&signature, of(&root), SIZE.get()).unwrap();
        let mut bytes = vec![0; crate::units::usize_of(SIZE.get())];
        made.image.read(0, &mut bytes).unwrap();
        assert_eq!(bytes, signed.padded(SIZE).unwrap());
        let error = build(&signature, of(&"b0".repeat(32)), SIZE.get()).unwrap_err();
        assert_eq!(error.what(), "the signature is of another root hash");
        assert_eq!(build(&signature, of(&root), 100).unwrap_err().kind(), Kind::Capacity);
    }
}
