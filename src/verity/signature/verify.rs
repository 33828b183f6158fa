//! Checks signatures that were made elsewhere.

use rsa::PublicKey;
use rsa::pkcs8::{AssociatedOid, DecodePublicKey};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::certificate::Certificate;
use super::cms::{self, SignerInfo};
use super::der::{self, Values};

/// The object names of SHA-256, SHA-384 and SHA-512 begin with this (2.16.840.1.101.3.4.2) and end with 1, 2 and 3.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
/// 1.2.840.113549.1.9.4, `id-messageDigest` (RFC 5652, section 11.2).
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];

/// Whether the key of `certificate` signed `text`; `None` for a key that is not RSA, which is not checked here.
pub(super) fn is_signed(certificate: &Certificate, pkcs7: &[u8], text: &[u8]) -> Option<bool> {
    let key = PublicKey::from_public_key_der(&certificate.public_key).ok()?;
    let good = |signer: &SignerInfo<'_>| match signer.digest.strip_prefix(SHA2) {
        Some([1]) => verifies::<Sha256>(&key, signer, text),
        Some([2]) => verifies::<Sha384>(&key, signer, text),
        Some([3]) => verifies::<Sha512>(&key, signer, text),
        _ => false,
    };
    Some(cms::signers(pkcs7).iter().any(good))
}

/// RSA with PKCS#1 v1.5, over the text, or over attributes that have its digest (RFC 5652, section 5.4).
fn verifies<D: Digest + AssociatedOid>(key: &PublicKey, signer: &SignerInfo<'_>, text: &[u8]) -> bool {
    let Some(attributes) = signer.attributes else {
        return key.pkcs1v15_verify::<D>(text, signer.signature).is_ok();
    };
    let signed = der::value(der::SET, &[attributes.0]);
    message_digest(attributes) == Some(&D::digest(text)[..])
        && key.pkcs1v15_verify::<D>(&signed, signer.signature).is_ok()
}

/// The digest of the text among the attributes of a signature.
fn message_digest(mut attributes: Values<'_>) -> Option<&[u8]> {
    loop {
        let mut attribute = attributes.enter(der::SEQUENCE)?;
        if attribute.expect(der::OBJECT)?.contents == MESSAGE_DIGEST {
            return attribute.enter(der::SET)?.expect(der::OCTET_STRING).map(|digest| digest.contents);
        }
    }
}
