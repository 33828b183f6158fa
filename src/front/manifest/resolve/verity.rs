//! Which partition verifies which, and what the hashes and signatures of one are made with.

use std::sync::Arc;

use super::super::Manifest;
use super::super::schema;
use super::Reading;
use super::entry::quoted;
use crate::disk::verity::{By, Covers, DATA_GUID, HASH_GUID, Hash, Signature};
use crate::disk::{Body, Guid};
use crate::encoding::from_hex;
use crate::error::{Error, Kind, Result};
use crate::key::KeyPath;
use crate::units::Bytes;
use crate::values::shown;
use crate::verity::signature::{Certificate, Signed};
use crate::verity::{BlockSize, Options};

/// The partitions of a manifest that have to do with dm-verity.
#[derive(Debug, Default)]
pub(super) struct Verified {
    /// Each partition with hashes, and the one that they are of.
    pairs: Vec<(usize, usize)>,
    signatures: Vec<usize>,
}

impl Verified {
    pub(super) fn new(manifest: &Manifest) -> Result<Self> {
        let mut verified = Self::default();
        for (number, partition) in manifest.written.partition.iter().enumerate() {
            if partition.signature.is_some() {
                verified.signatures.push(number);
            }
            let Some(verity) = &partition.verity else { continue };
            let path = KeyPath::top("partition").index(number).key("verity").key("data");
            let data = named(manifest, &verity.data, &path)?;
            if data == number {
                return Err(manifest.refuse(&path, "the hashes of a partition are in another one"));
            }
            if let Some((earlier, _)) = verified.pairs.iter().find(|(_, other)| *other == data) {
                return Err(manifest.refuse(&path, "two partitions have the hashes of one").found(format!(
                    "partition {} has those of {}",
                    earlier + 1,
                    quoted(&verity.data)
                )));
            }
            verified.pairs.push((number, data));
        }
        Ok(verified)
    }

    /// The partition with the hashes of the partition `name`, which is written at `path`.
    pub(super) fn hashes_of(&self, manifest: &Manifest, name: &str, path: &KeyPath) -> Result<usize> {
        let data = named(manifest, name, path)?;
        let found = self.pairs.iter().find(|(_, other)| *other == data);
        found.map(|(hashes, _)| *hashes).ok_or_else(|| {
            manifest
                .refuse(path, "the partition has no root hash")
                .found(quoted(name))
                .hint(format!("give another partition verity = {{ data = \"{}\" }}", shown(name)))
        })
    }

    /// Where the GUID of a partition comes from, if the manifest gives none.
    pub(super) fn guid(&self, number: usize) -> Guid {
        for (hashes, data) in &self.pairs {
            if number == *hashes {
                return Guid::Derived { of: *hashes, value: HASH_GUID };
            }
            if number == *data {
                return Guid::Derived { of: *hashes, value: DATA_GUID };
            }
        }
        Guid::Seed
    }

    /// Whether a partition is verified, or has hashes or a signature. A write to it makes it useless.
    pub(super) fn concerns(&self, number: usize) -> bool {
        self.signatures.contains(&number)
            || self.pairs.iter().any(|(hashes, data)| number == *hashes || number == *data)
    }
}

/// The partition with this label, or of this type, which is written at `path`.
pub(super) fn named(manifest: &Manifest, name: &str, path: &KeyPath) -> Result<usize> {
    let partitions = &manifest.written.partition;
    let numbers = |of: fn(&schema::Partition) -> Option<&String>| -> Vec<usize> {
        let with =
            partitions.iter().enumerate().filter(|(_, partition)| of(partition).is_some_and(|it| it == name));
        with.map(|(number, _)| number).collect()
    };
    let labels = numbers(|partition| partition.label.as_ref());
    let found = if labels.is_empty() { numbers(|partition| partition.kind.as_ref()) } else { labels };
    match found.as_slice() {
        [only] => Ok(*only),
        [] => {
            let known = partitions.iter().filter_map(|it| it.label.as_ref().or(it.kind.as_ref()));
            let known: Vec<String> = known.map(|name| quoted(name)).collect();
            let error = manifest.refuse(path, "no partition has this label or type").found(quoted(name));
            Err(match known.is_empty() {
                true => error.expected("`label` or `type` of one"),
                false => error.expected(format!("one of {}", known.join(", "))),
            })
        }
        several => {
            let numbers: Vec<String> = several.iter().map(|number| (number + 1).to_string()).collect();
            Err(manifest
                .refuse(path, "several partitions have this label or type")
                .found(format!("{}: partitions {}", quoted(name), numbers.join(", ")))
                .hint("give the one that is meant a label of its own"))
        }
    }
}

impl Reading<'_> {
    /// What a partition holds that follows from another one.
    pub(super) fn derived(&self, written: &schema::Partition, path: &KeyPath) -> Result<Option<Body>> {
        if let Some(verity) = &written.verity {
            return self.hashes(verity, &path.key("verity")).map(Some);
        }
        match &written.signature {
            Some(signature) => self.signature(signature, &path.key("signature")).map(Some),
            None => Ok(None),
        }
    }

    fn hashes(&self, written: &schema::Verity, path: &KeyPath) -> Result<Body> {
        let block = |key: &'static str, size: Option<Bytes>| match size {
            Some(size) => BlockSize::new(size).map_err(|error| self.manifest.place(error, &path.key(key))),
            None => Ok(BlockSize::default()),
        };
        let derived = Options::from_seed(self.seed);
        let salt = match &written.salt {
            None => derived.salt,
            Some(digits) => {
                from_hex(digits.as_bytes()).filter(|salt| salt.len() <= 256).ok_or_else(|| {
                    self.manifest
                        .refuse(&path.key("salt"), "this is no salt")
                        .expected("hexadecimal digits, two a byte, of at most 256 bytes")
                        .found(quoted(digits))
                })?
            }
        };
        let options = Options {
            algorithm: written.algorithm.unwrap_or_default(),
            data_block_size: block("data_block_size", written.data_block_size)?,
            hash_block_size: block("hash_block_size", written.hash_block_size)?,
            salt,
            uuid: written.uuid.map_or(derived.uuid, |uuid| uuid.0),
            ..derived
        };
        let data = named(self.manifest, &written.data, &path.key("data"))?;
        Ok(Body::Derived(Arc::new(Hash { data, options, covers: Covers::Partition })))
    }

    fn signature(&self, written: &schema::Signature, path: &KeyPath) -> Result<Body> {
        let hash = self.verified.hashes_of(self.manifest, &written.data, &path.key("data"))?;
        let place = |key: &'static str| move |error: Error| self.manifest.place(error, &path.key(key));
        let certificate = written.certificate.as_deref().map(|file| self.manifest.path(file));
        let by = match (&written.private_key, certificate, &written.root_hash, &written.pkcs7) {
            (Some(key), Some(certificate), None, None) => {
                signer(&self.manifest.path(key), &certificate).map_err(place("private_key"))?
            }
            (None, certificate, Some(root), Some(pkcs7)) => {
                let root = root.parse().map_err(place("root_hash"))?;
                let file = self.manifest.path(pkcs7);
                let bytes = std::fs::read(&file)
                    .map_err(|error| Error::io(Kind::Source, "cannot read the signature", &file, error))
                    .map_err(place("pkcs7"))?;
                let certificate = certificate.map(|file| Certificate::open(&file)).transpose();
                let certificate = certificate.map_err(place("certificate"))?;
                let signed = Signed::joined(root, bytes, certificate.as_ref());
                By::Joined(Arc::from([signed.map_err(|error| error.at(&file)).map_err(place("pkcs7"))?]))
            }
            _ => {
                return Err(self
                    .manifest
                    .refuse(path, "it is not clear who signs")
                    .expected("private_key and certificate, or root_hash and pkcs7"));
            }
        };
        Ok(Body::Derived(Arc::new(Signature { hash, by })))
    }
}

/// The signer with this key.
#[cfg(feature = "verity-sign")]
fn signer(key: &std::path::Path, certificate: &std::path::Path) -> Result<By> {
    crate::verity::signature::Signer::open(key, certificate).map(|signer| By::Key(Arc::new(signer)))
}

/// Without the feature nothing is signed here.
#[cfg(not(feature = "verity-sign"))]
fn signer(key: &std::path::Path, _: &std::path::Path) -> Result<By> {
    Err(Error::new(Kind::Usage, "this diskwright was built without signing")
        .at(key)
        .hint("sign elsewhere and give root_hash and pkcs7, or build it with the feature verity-sign"))
}
