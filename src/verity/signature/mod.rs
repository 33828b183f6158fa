//! Signatures of root hashes, and the partition that holds one: a JSON object, followed by zeros.
//!
//! The signature is detached PKCS#7 in DER over the text of the root hash. A `Signer` makes it with a private key, or it is
//! made elsewhere, where the key is, and joined.
//!
//! Source: systemd 262, `src/repart/repart.c`; Discoverable Partitions Specification, "Verity signature partition".

mod certificate;
mod cms;
mod der;
mod pem;
#[cfg(feature = "verity-sign")]
mod sign;
#[cfg(test)]
mod tests;
#[cfg(feature = "verity-sign")]
mod verify;

pub use certificate::Certificate;
#[cfg(feature = "verity-sign")]
pub use sign::Signer;

use super::RootHash;
use crate::encoding::{to_base64, to_hex};
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, KIB, u64_of, usize_of};

/// How large a partition for a signature is where nobody says otherwise, as systemd-repart makes it.
pub const SIZE: Bytes = Bytes::new(16 * KIB);

/// A root hash that somebody vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    root: RootHash,
    fingerprint: [u8; 32],
    pkcs7: Vec<u8>,
}

impl Signed {
    /// A signature whose one part, RSA with PKCS#1 v1.5 over SHA-256 of the root hash's text, was made with the key of this
    /// certificate: by a `Signer`, or by a device that lets no key out.
    #[must_use]
    pub fn with_rsa(root: RootHash, certificate: &Certificate, rsa: &[u8]) -> Self {
        Self { root, fingerprint: certificate.fingerprint(), pkcs7: cms::signed_data(certificate, rsa) }
    }

    /// A signature that was made elsewhere: PKCS#7 in DER. A certificate that is given must be of the key that signed this root
    /// hash; keys other than RSA are not checked, and nothing is without the feature `verity-sign`. Where no certificate is
    /// given it is the one inside, and the signature is checked where it is trusted, and not here.
    ///
    /// # Errors
    /// [`Kind::Source`] for bytes that are no signature, where there is no certificate, and for a signature by another key or of
    /// another text.
    pub fn joined(root: RootHash, pkcs7: Vec<u8>, certificate: Option<&Certificate>) -> Result<Self> {
        let inside = cms::certificate(&pkcs7).ok_or_else(|| {
            Error::new(Kind::Source, "this is no signature of a root hash")
                .expected("PKCS#7 SignedData in DER")
        })?;
        // The kernel supplies the root hash, and refuses a signature that has some text already (pkcs7_supply_detached_data).
        if cms::is_attached(&pkcs7) {
            return Err(Error::new(
                Kind::Source,
                "the signature holds a text, and the kernel takes none that does",
            )
            .expected("a detached signature, as of `openssl cms -sign` without -nodetach"));
        }
        #[cfg(feature = "verity-sign")]
        if let Some(certificate) = certificate
            && verify::is_signed(certificate, &pkcs7, root.to_string().as_bytes()) == Some(false)
        {
            return Err(Error::new(Kind::Source, "the signature does not verify with the certificate")
                .expected(format!("a signature of {root}, in lower-case digits without a line end"))
                .why("another key made it, it is of another text, or not by RSA with PKCS#1 v1.5 over SHA-256, 384 or 512")
                .hint("give the certificate of the key that signed, or sign the root hash again"));
        }
        let certificate = certificate.or(inside.as_ref()).ok_or_else(|| {
            Error::new(Kind::Source, "the signature has no certificate inside, and none is given")
                .hint("give the certificate of the signer")
        })?;
        Ok(Self { root, fingerprint: certificate.fingerprint(), pkcs7 })
    }

    /// The root hash that is signed.
    #[must_use]
    pub const fn root(&self) -> &RootHash {
        &self.root
    }

    /// The signature: PKCS#7 in DER.
    #[must_use]
    pub fn pkcs7(&self) -> &[u8] {
        &self.pkcs7
    }

    /// What stands in the partition, without the zeros behind it.
    #[must_use]
    pub fn json(&self) -> String {
        // Digits only, so nothing has to be escaped.
        format!(
            r#"{{"rootHash":"{}","certificateFingerprint":"{}","signature":"{}"}}"#,
            self.root,
            to_hex(&self.fingerprint),
            to_base64(&self.pkcs7)
        )
    }

    /// What stands in a partition of `size`, followed by at least one zero, as systemd reads it.
    ///
    /// # Errors
    /// [`Kind::Capacity`] for a partition that is too small.
    pub fn padded(&self, size: Bytes) -> Result<Vec<u8>> {
        let mut bytes = self.json().into_bytes();
        if u64_of(bytes.len()) >= size.get() {
            return Err(Error::new(
                Kind::Capacity,
                "the signature of a root hash does not fit its partition",
            )
            .expected(format!("at most {} bytes and a zero", size.get().saturating_sub(1)))
            .found(format!("{} bytes", bytes.len())));
        }
        bytes.resize(usize_of(size.get()), 0);
        Ok(bytes)
    }
}
