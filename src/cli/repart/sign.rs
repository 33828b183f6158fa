//! Who signs the root hashes of dm-verity.

use std::path::PathBuf;

use crate::encoding::from_base64;
use crate::error::{Error, Kind, Result};
use crate::front::repart::Signing;
use crate::verity::RootHash;

/// Who signs root hashes.
#[derive(Debug, clap::Args)]
pub(super) struct Sign {
    /// Private key that root hashes are signed with: RSA, in PEM
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// Its certificate, in PEM
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Signature made elsewhere: the root hash, a colon, and a file with PKCS#7 in DER, or base64: and the same
    #[arg(long, value_name = "HASH:SIG")]
    join_signature: Vec<String>,
    /// Only file: keys of providers and engines of OpenSSL are not used
    #[arg(long, value_name = "SOURCE", hide = true)]
    private_key_source: Option<String>,
    /// Only file
    #[arg(long, value_name = "SOURCE", hide = true)]
    certificate_source: Option<String>,
}

impl Sign {
    pub(super) fn signing(&self) -> Result<Signing> {
        for (flag, source) in [
            ("--private-key-source", &self.private_key_source),
            ("--certificate-source", &self.certificate_source),
        ] {
            if source.as_deref().is_some_and(|source| source != "file") {
                return Err(Error::new(Kind::Usage, "this option of systemd-repart is not done")
                    .at_flag(flag)
                    .expected("file")
                    .why("OpenSSL is not used, and its providers and engines are not either")
                    .hint("sign elsewhere, and give the signature by --join-signature="));
            }
        }
        let joined = self.join_signature.iter().map(|text| joined(text)).collect::<Result<Vec<_>>>()?;
        Ok(Signing { private_key: self.private_key.clone(), certificate: self.certificate.clone(), joined })
    }
}

/// A root hash and its signature.
fn joined(text: &str) -> Result<(RootHash, Vec<u8>)> {
    let refuse = |what: &str| Error::new(Kind::Usage, what).at_flag("--join-signature").found(text);
    let parts = text.split_once(':').filter(|(root, _)| !root.is_empty());
    let (root, signature) = parts.ok_or_else(|| {
        refuse("this is no root hash with its signature").expected("HASH:FILE or HASH:base64:TEXT")
    })?;
    let bytes = match signature.strip_prefix("base64:") {
        Some(text) => from_base64(text.as_bytes()).ok_or_else(|| refuse("the signature is no base64"))?,
        None => std::fs::read(signature)
            .map_err(|error| Error::io(Kind::Source, "cannot read the signature", signature, error))?,
    };
    let root =
        root.parse().map_err(|error: Error| error.with_kind(Kind::Usage).at_flag("--join-signature"))?;
    Ok((root, bytes))
}
