//! Partitions of dm-verity: hashes of a data partition, and a signature of their root.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use super::definition::{CopyBlocks, Definition, Minimize, Verity};
use super::measure::Content;
use super::plan::{Part, SIGNATURE};
use super::{Level, Options};
use crate::container::{Format, OpenOptions, open};
use crate::disk::verity::{By, Covers, DATA_GUID, HASH_GUID, Hash, Signature};
use crate::disk::{Body, Guid, Work};
use crate::error::{Error, Kind, Result};
use crate::units::Bytes;
use crate::verity::signature::{Certificate, Signed};
use crate::verity::{self, BlockSize, Hashes, RootHash};

/// Who signs root hashes.
#[derive(Clone, Debug, Default)]
pub struct Signing {
    /// The private key, in PEM.
    pub private_key: Option<PathBuf>,
    /// Its certificate, in PEM.
    pub certificate: Option<PathBuf>,
    /// Signatures that were made elsewhere: the root hash, and PKCS#7 in DER.
    pub joined: Vec<(RootHash, Vec<u8>)>,
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

/// The hashes of data that is as small as it can be, where a member of the set is deferred. systemd-repart has them before it
/// looks at what is deferred (`context_minimize`).
pub(super) fn known(
    hash: &Definition,
    (data, content): (&Definition, &Content),
    options: &Options,
    (sector, work): (u32, &Work),
) -> Result<Option<Hashes>> {
    if hash.minimize == Minimize::Off || hash.copy_blocks.is_some() || !options.level.covers_image() {
        return Ok(None);
    }
    let image = match (&content.image, &data.copy_blocks) {
        (Some(image), _) => image.clone(),
        (None, Some(CopyBlocks::File(path))) => {
            open(path, &OpenOptions { format: Some(Format::Raw), allow_backing: false })?.image
        }
        (None, _) => return Ok(None),
    };
    let verity = self::options(hash, options, sector)?;
    let length = image.length().round_up(u64::from(verity.data_block_size.get()));
    verity::build(&verity, &image.whole(), length, &work.packer()).map(Some)
}

/// Where a partition of a set is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Member {
    /// Nowhere: it is deferred, or dropped, or there is none.
    #[default]
    Nowhere,
    /// It is made now, at this position in the disk.
    New(usize),
    /// It is on the disk already, with this GUID.
    There(Uuid),
}

/// The partitions of one set.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    pub(super) data: Member,
    pub(super) hash: Member,
    /// The hashes, where they are known although the set is not made as a whole.
    pub(super) known: Option<Arc<Hashes>>,
}

impl Set {
    /// The root hash that is known before anything is built: that which `known` has, or else [`Set::joined`].
    pub(super) fn root<'a>(&'a self, options: &'a Options) -> Option<&'a RootHash> {
        self.known.as_ref().map(|known| &known.root).or_else(|| self.joined(options))
    }

    /// The GUID that follows from the known root hash for a partition of the set that has none of its own.
    fn guid_of(&self, definition: &Definition) -> Option<Uuid> {
        let root = self.known.as_ref().filter(|_| definition.uuid.is_none()).map(|known| &known.root)?;
        match definition.verity {
            Verity::Data => Some(root.data_guid()),
            Verity::Hash => Some(root.hash_guid()),
            Verity::Signature | Verity::Off => None,
        }
    }

    /// The signature that was made elsewhere of what is on the disk already. The GUIDs of data and hashes tell the root hash.
    pub(super) fn joined<'a>(&self, options: &'a Options) -> Option<&'a RootHash> {
        let (Member::There(data), Member::There(hash)) = (self.data, self.hash) else { return None };
        let mut roots = options.signing.joined.iter().map(|(root, _)| root);
        roots.find(|root| (root.data_guid(), root.hash_guid()) == (data, hash))
    }
}

/// What a partition of a set holds, and where its GUID comes from; `None` where that is not known now: what it follows from
/// is deferred.
pub(super) fn body(
    (definition, part): (&Definition, &Part),
    set: &Set,
    options: &Options,
    sector: u32,
) -> Result<Option<(Option<Body>, Guid)>> {
    use Member::{New, There};
    let given = Guid::Given(part.guid);
    // What is copied is what it is.
    if definition.copy_blocks.is_some() && matches!(definition.verity, Verity::Hash | Verity::Signature) {
        return Ok(None);
    }
    if let Some(known) = &set.known {
        let body = match definition.verity {
            Verity::Hash => Some(Body::Image(known.image.clone())),
            Verity::Signature => {
                let bytes = signer(definition, options)?.sign(&known.root)?.padded(SIGNATURE)?;
                Some(Body::Bytes(bytes.into()))
            }
            Verity::Data | Verity::Off => None,
        };
        return Ok(Some((body, set.guid_of(definition).map_or(given, Guid::Given))));
    }
    let follows = |of: usize, value| match definition.uuid {
        Some(_) => Guid::Given(part.guid),
        None => Guid::Derived { of, value },
    };
    Ok(match (definition.verity, set.data, set.hash) {
        (Verity::Data, _, New(hash)) => Some((None, follows(hash, DATA_GUID))),
        (Verity::Hash, There(_), _) => {
            let error = Error::new(Kind::Manifest, "the data of these hashes is on the disk already")
                .why("its GUID would not be that of the root hash, so that nothing finds it")
                .hint("make data and hashes together, or defer both");
            return Err(definition.place(error, "Verity"));
        }
        (Verity::Hash, New(data), New(own)) => {
            let minimized = definition.minimize != Minimize::Off;
            let covers = match minimized && options.level.covers_image() {
                true => Covers::Contents,
                false => Covers::Partition,
            };
            let hashes = Hash { data, options: self::options(definition, options, sector)?, covers };
            Some((Some(Body::Derived(Arc::new(hashes))), follows(own, HASH_GUID)))
        }
        (Verity::Signature, New(_), New(hash)) => {
            let by = signer(definition, options)?;
            Some((Some(Body::Derived(Arc::new(Signature { hash, by }))), given))
        }
        (Verity::Signature, There(_), There(_)) => {
            let bytes = later(definition, set, options)?;
            Some((Some(Body::Bytes(bytes.into())), given))
        }
        _ => None,
    })
}

/// The signature of partitions that are on the disk already.
fn later(definition: &Definition, set: &Set, options: &Options) -> Result<Vec<u8>> {
    let Some(root) = set.joined(options) else {
        let error =
            Error::new(Kind::Usage, "no signature is of the root hash of the partitions that are there");
        let error = error.expected("a joined signature of that root hash");
        let error = match (set.data, set.hash) {
            (Member::There(data), Member::There(hash)) => {
                error.found(format!("partitions {data} and {hash}"))
            }
            _ => error,
        };
        return Err(definition
            .place(error, "Verity")
            .why("the root hash of what is there is not computed again, and systemd-repart leaves the partition empty")
            .hint("a deferred partition is left out for now"));
    };
    signer(definition, options)?.sign(root)?.padded(SIGNATURE)
}

/// The GUID of a new partition, where that is not the one that was given to it: it follows from a root hash that is known, or
/// would follow from one that is not made now. systemd writes `zeros` for the latter.
pub(super) fn guid(definition: &Definition, set: &Set, zeros: bool) -> Option<Uuid> {
    let made = matches!((set.data, set.hash), (Member::New(_), Member::New(_))) || set.known.is_some();
    let follows = matches!(definition.verity, Verity::Data | Verity::Hash) && definition.uuid.is_none();
    set.guid_of(definition).or_else(|| (zeros && follows && !made).then(Uuid::nil))
}

/// What is told of a partition of hashes or of a signature that nothing is written to.
pub(super) fn left_empty(definition: &Definition, options: &Options) -> Option<String> {
    if !matches!(definition.verity, Verity::Hash | Verity::Signature) || definition.copy_blocks.is_some() {
        return None;
    }
    let file = crate::text::printable_path(options.shown(&definition.path));
    Some(format!(
        "{file}: the partition stays empty, for what it follows from is deferred; defer it too, so that it is made later"
    ))
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
    if !signing.joined.is_empty() {
        let certificate = signing.certificate.as_deref().map(Certificate::open).transpose()?;
        let joined = signing.joined.iter();
        let signed =
            joined.map(|(root, pkcs7)| Signed::joined(root.clone(), pkcs7.clone(), certificate.as_ref()));
        return Ok(By::Joined(signed.collect::<Result<_>>()?));
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
