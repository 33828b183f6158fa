//! Partitions of dm-verity: hashes of a data partition, and a signature of their root.

use std::path::PathBuf;
use std::sync::Arc;

use super::definition::{Definition, Verity};
use super::plan::Part;
use super::{Level, Options};
use crate::disk::verity::{By, Covers, DATA_GUID, HASH_GUID, Hash, Signature};
use crate::disk::{Body, Guid};
use crate::error::{Error, Kind, Result};
use crate::units::Bytes;
use crate::verity::signature::{Certificate, Signed};
use crate::verity::{self, BlockSize, RootHash};

/// Who signs root hashes.
#[derive(Clone, Debug, Default)]
pub struct Signing {
    /// The private key, in PEM.
    pub private_key: Option<PathBuf>,
    /// Its certificate, in PEM.
    pub certificate: Option<PathBuf>,
    /// Signatures that were made elsewhere: the root hash in hexadecimal digits, and PKCS#7 in DER.
    pub joined: Vec<(String, Vec<u8>)>,
}

/// What decides the hashes of a partition. `sector` is that of filesystems, where no block size is written.
pub(super) fn options(hash: &Definition, options: &Options, sector: u32) -> Result<verity::Options> {
    let block = |size: Option<u32>| {
        let size = size.or(hash.sector_size).unwrap_or(sector);
        BlockSize::new(Bytes::new(size.into())).map_err(|error| hash.place(error, "VerityDataBlockSizeBytes"))
    };
    Ok(verity::Options {
        data_block_size: block(hash.data_block_size)?,
        hash_block_size: block(hash.hash_block_size)?,
        ..verity::Options::from_seed(options.seed)
    })
}

/// How large the hashes of so much data are.
pub(super) fn size(hash: &Definition, data: Bytes, options: &Options, sector: u32) -> Result<Bytes> {
    let verity = self::options(hash, options, sector)?;
    verity::size(&verity, data).map_err(|error| hash.place(error, "Minimize"))
}

/// The partitions of one set, by their positions in the disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Set {
    pub(super) data: Option<usize>,
    pub(super) hash: Option<usize>,
}

/// What a partition of a set holds, and where its GUID comes from; `None` where that is not known now: what it follows from
/// is deferred.
pub(super) fn body(
    (definition, part): (&Definition, &Part),
    set: Set,
    options: &Options,
    sector: u32,
) -> Result<Option<(Option<Body>, Guid)>> {
    let given = Guid::Given(part.guid);
    let follows = |of: usize, value| match definition.uuid {
        Some(_) => Guid::Given(part.guid),
        None => Guid::Derived { of, value },
    };
    Ok(match (definition.verity, set.data, set.hash) {
        (Verity::Off, ..) | (Verity::Data | Verity::Signature, _, None) | (Verity::Hash, None, _) => None,
        (Verity::Data, _, Some(hash)) => Some((None, follows(hash, DATA_GUID))),
        (Verity::Hash, Some(data), hash) => {
            let minimized = definition.minimize != super::definition::Minimize::Off;
            let covers = match minimized && options.level.covers_image() {
                true => Covers::Contents,
                false => Covers::Partition,
            };
            let hashes = Hash { data, options: self::options(definition, options, sector)?, covers };
            let own = hash.ok_or_else(|| Error::bug("a partition of hashes has no position"))?;
            Some((Some(Body::Derived(Arc::new(hashes))), follows(own, HASH_GUID)))
        }
        (Verity::Signature, _, Some(hash)) => {
            let by = signer(definition, options)?;
            Some((Some(Body::Derived(Arc::new(Signature { hash, by }))), given))
        }
    })
}

/// Who signs.
fn signer(definition: &Definition, options: &Options) -> Result<By> {
    let signing = &options.signing;
    let missing = || {
        let error = Error::new(Kind::Usage, "there is nobody who signs the root hash");
        definition
            .place(error, "Verity")
            .expected("a private key and its certificate, or a signature made elsewhere that is joined")
            .hint("a deferred partition is left out for now")
    };
    if let Some((root, pkcs7)) = signing.joined.first() {
        let root: RootHash = root.parse()?;
        let certificate = signing.certificate.as_deref().map(Certificate::open).transpose()?;
        let signed = Signed::joined(root, pkcs7.clone(), certificate.as_ref())?;
        return Ok(By::Joined(Arc::new(signed)));
    }
    match (&signing.private_key, &signing.certificate) {
        #[cfg(feature = "verity-sign")]
        (Some(key), Some(certificate)) => {
            Ok(By::Key(Arc::new(crate::verity::signature::Signer::open(key, certificate)?)))
        }
        _ => Err(missing()),
    }
}

/// How long the file of a signature is: its text, or the whole partition where `level` has it so.
pub(super) fn text_length(partition: &[u8], level: Level) -> Option<Bytes> {
    let text = partition.iter().position(|byte| *byte == 0).filter(|_| level.splits_bare_signatures());
    text.map(|length| Bytes::new(crate::units::u64_of(length)))
}
