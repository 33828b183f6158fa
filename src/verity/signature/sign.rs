//! Signing with a private key.

use std::fmt;
use std::path::Path;

use rsa::PrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey};
use sha2::Sha256;

use super::certificate::{self, Certificate};
use super::{Signed, cms, pem};
use crate::error::{Error, Kind, Result};
use crate::verity::RootHash;

/// A private key with the certificate that says whose it is.
#[derive(Clone)]
pub struct Signer {
    key: PrivateKey,
    certificate: Certificate,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Signer {
    /// Reads an RSA key (PKCS#8 or PKCS#1) and its certificate, both in PEM.
    ///
    /// # Errors
    /// [`Kind::Source`] for a file that cannot be read, one that holds something else, and for a key that the certificate is
    /// not of.
    pub fn open(key: &Path, certificate: &Path) -> Result<Self> {
        let signer = Self { key: private_key(key)?, certificate: Certificate::open(certificate)? };
        let of_certificate = rsa::PublicKey::from_public_key_der(&signer.certificate.public_key).ok();
        if of_certificate.as_ref() != Some(signer.key.as_ref()) {
            return Err(Error::new(Kind::Source, "the private key does not fit the certificate")
                .at(key)
                .at(certificate)
                .hint("give the certificate that was made for this key"));
        }
        Ok(signer)
    }

    /// Signs a root hash: its text in lower-case hexadecimal digits, without a line end. RSA with PKCS#1 v1.5 over SHA-256
    /// has no random part, so the same root hash gives the same bytes.
    ///
    /// # Errors
    /// [`Kind::Source`] for a key that is too short for such a signature.
    pub fn sign(&self, root: &RootHash) -> Result<Signed> {
        let signature = self.key.pkcs1v15_sign::<Sha256>(root.to_string().as_bytes()).map_err(|error| {
            Error::new(Kind::Source, "the private key cannot sign a root hash").because(error)
        })?;
        Ok(Signed::with_rsa(root.clone(), &self.certificate, &signature))
    }
}

/// Reads a private key.
fn private_key(path: &Path) -> Result<PrivateKey> {
    let text = certificate::read(path, "cannot read the private key")?;
    let refused = || {
        Error::new(Kind::Source, "this is no private key that can sign a root hash")
            .at(path)
            .expected("an RSA key in PEM, which begins with -----BEGIN PRIVATE KEY-----")
    };
    let is_key = |block: &pem::Block| block.label.ends_with("PRIVATE KEY");
    let block = pem::blocks(&text).into_iter().find(is_key).ok_or_else(refused)?;
    let found = format!("-----BEGIN {}-----", block.label);
    let bytes = block.bytes.ok_or_else(refused)?;
    let key = match block.label.as_str() {
        "PRIVATE KEY" if cms::is_other_key(&bytes) => {
            return Err(refused()
                .found("a key of another kind, such as of elliptic curves, or for RSASSA-PSS alone")
                .why("RSA with PKCS#1 v1.5 gives the same signature every time; others do not")
                .hint("sign elsewhere and join the signature"));
        }
        "PRIVATE KEY" => PrivateKey::from_pkcs8_der(&bytes).ok(),
        "RSA PRIVATE KEY" => PrivateKey::from_pkcs1_der(&bytes).ok(),
        "ENCRYPTED PRIVATE KEY" => {
            return Err(refused()
                .found(found)
                .hint("decrypt it with `openssl pkey`, or sign elsewhere and join the signature"));
        }
        _ => None,
    };
    key.ok_or_else(|| {
        refused()
            .found(found)
            .why("RSA with PKCS#1 v1.5 gives the same signature every time; others do not")
            .hint("sign elsewhere and join the signature")
    })
}
