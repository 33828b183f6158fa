//! X.509 certificates (RFC 5280), as much of one as a signature says of its signer.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::der::{self, Values};
use super::pem;
use crate::error::{Error, Kind, Result};

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The whole certificate in DER.
    pub(super) bytes: Vec<u8>,
    /// Who issued it, in DER.
    pub(super) issuer: Vec<u8>,
    /// Its number, in DER.
    pub(super) serial: Vec<u8>,
    /// The key that it is of, in DER (SubjectPublicKeyInfo).
    pub(super) public_key: Vec<u8>,
}

impl Certificate {
    /// Reads the first certificate of a file in PEM.
    ///
    /// # Errors
    /// [`Kind::Source`] for a file that cannot be read and for one that holds no certificate.
    pub fn open(path: &Path) -> Result<Self> {
        let text = read(path, "cannot read the certificate")?;
        let block = pem::blocks(&text).into_iter().find(|block| block.label == "CERTIFICATE");
        block.and_then(|block| block.bytes).and_then(|bytes| Self::parse(&bytes)).ok_or_else(|| {
            Error::new(Kind::Source, "this is no certificate")
                .at(path)
                .expected("an X.509 certificate in PEM, which begins with -----BEGIN CERTIFICATE-----")
        })
    }

    /// A certificate in DER: RFC 5280, section 4.1.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut whole = Values(bytes);
        let mut certificate = whole.enter(der::SEQUENCE)?;
        let mut signed = certificate.enter(der::SEQUENCE)?;
        // The version; without it the first.
        signed.skip(der::CONTEXT_0);
        let serial = signed.expect(der::INTEGER)?;
        let _algorithm = signed.expect(der::SEQUENCE)?;
        let issuer = signed.expect(der::SEQUENCE)?;
        let _validity = signed.expect(der::SEQUENCE)?;
        let _subject = signed.expect(der::SEQUENCE)?;
        let public_key = signed.expect(der::SEQUENCE)?;
        whole.0.is_empty().then(|| Self {
            bytes: bytes.to_vec(),
            issuer: issuer.whole.to_vec(),
            serial: serial.whole.to_vec(),
            public_key: public_key.whole.to_vec(),
        })
    }

    /// SHA-256 of the certificate in DER, by which systemd finds the one that it trusts.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }
}

/// The text of a file in PEM.
pub(super) fn read(path: &Path, what: &str) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(Kind::Source, what, path, error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
