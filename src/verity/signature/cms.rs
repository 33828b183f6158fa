//! The one shape of a signature that is written here: CMS `SignedData` (RFC 5652, section 5) without the signed text,
//! without signed attributes, with the certificate, as systemd-repart has OpenSSL write it.

use super::certificate::Certificate;
use super::der::{self, Values, value};

/// 1.2.840.113549.1.7.1, `id-data`.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.7.2, `id-signedData`.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.1.1, `rsaEncryption`.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 2.16.840.1.101.3.4.2.1, `id-sha256`.
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

/// What `signature`, made with the RSA key of `certificate` over a SHA-256, is as CMS.
pub(super) fn signed_data(certificate: &Certificate, signature: &[u8]) -> Vec<u8> {
    let object = |name: &[u8]| value(der::OBJECT, &[name]);
    let algorithm = |name: &[u8]| value(der::SEQUENCE, &[&object(name), &value(der::NULL, &[])]);
    let one = value(der::INTEGER, &[&[1]]);
    let signer = value(
        der::SEQUENCE,
        &[
            &one,
            &value(der::SEQUENCE, &[&certificate.issuer, &certificate.serial]),
            &algorithm(SHA256),
            &algorithm(RSA),
            &value(der::OCTET_STRING, &[signature]),
        ],
    );
    let signed = value(
        der::SEQUENCE,
        &[
            &one,
            &value(der::SET, &[&algorithm(SHA256)]),
            &value(der::SEQUENCE, &[&object(DATA)]),
            &value(der::CONTEXT_0, &[&certificate.bytes]),
            &value(der::SET, &[&signer]),
        ],
    );
    value(der::SEQUENCE, &[&object(SIGNED_DATA), &value(der::CONTEXT_0, &[&signed])])
}

/// What one signer says.
#[cfg(feature = "verity-sign")]
#[derive(Clone, Copy, Debug)]
pub(super) struct SignerInfo<'a> {
    /// What the text is hashed with: the name of an algorithm as an object.
    pub(super) digest: &'a [u8],
    /// Attributes, which are signed in place of the text.
    pub(super) attributes: Option<Values<'a>>,
    pub(super) signature: &'a [u8],
}

/// `SignedData` behind its version and digests (RFC 5652, section 5.1), where the first value is what is signed.
fn signed(bytes: &[u8]) -> Option<Values<'_>> {
    let mut content = Values(bytes).enter(der::SEQUENCE)?;
    content.expect(der::OBJECT)?;
    let mut signed = content.enter(der::CONTEXT_0)?.enter(der::SEQUENCE)?;
    signed.expect(der::INTEGER)?;
    signed.expect(der::SET)?;
    Some(signed)
}

/// Who signed: RFC 5652, section 5.3. Empty for bytes that are no signature.
#[cfg(feature = "verity-sign")]
pub(super) fn signers(bytes: &[u8]) -> Vec<SignerInfo<'_>> {
    let infos = || -> Option<Values<'_>> {
        let mut signed = signed(bytes)?;
        signed.expect(der::SEQUENCE)?;
        // Certificates, and lists of those that were withdrawn.
        signed.skip(der::CONTEXT_0);
        signed.skip(der::CONTEXT_1);
        signed.enter(der::SET)
    };
    let mut infos = infos().unwrap_or(Values(&[]));
    std::iter::from_fn(|| infos.enter(der::SEQUENCE)).filter_map(signer).collect()
}

#[cfg(feature = "verity-sign")]
fn signer(mut info: Values<'_>) -> Option<SignerInfo<'_>> {
    info.expect(der::INTEGER)?;
    let _who = info.next()?;
    let digest = info.enter(der::SEQUENCE)?.expect(der::OBJECT)?.contents;
    let mut rest = info;
    let attributes = rest.enter(der::CONTEXT_0);
    if attributes.is_some() {
        info = rest;
    }
    info.expect(der::SEQUENCE)?;
    let signature = info.expect(der::OCTET_STRING)?.contents;
    Some(SignerInfo { digest, attributes, signature })
}

/// Whether a signature holds what it signs (RFC 5652, section 5.2, eContent).
pub(super) fn is_attached(bytes: &[u8]) -> bool {
    let content = || -> Option<Values<'_>> {
        let mut inner = signed(bytes)?.enter(der::SEQUENCE)?;
        inner.expect(der::OBJECT)?;
        inner.enter(der::CONTEXT_0)
    };
    content().is_some()
}

/// Whether a private key (RFC 5208, section 5) is for something else than RSA with any padding. One that is for RSASSA-PSS alone
/// is (RFC 4055, section 1.2).
#[cfg(feature = "verity-sign")]
pub(super) fn is_other_key(bytes: &[u8]) -> bool {
    let algorithm = || -> Option<&[u8]> {
        let mut key = Values(bytes).enter(der::SEQUENCE)?;
        key.expect(der::INTEGER)?;
        Some(key.enter(der::SEQUENCE)?.expect(der::OBJECT)?.contents)
    };
    algorithm().is_some_and(|name| name != RSA)
}

/// The first certificate of a signature, where it has one; `None` for bytes that are no signature.
pub(super) fn certificate(bytes: &[u8]) -> Option<Option<Certificate>> {
    let mut whole = Values(bytes);
    let mut content = whole.enter(der::SEQUENCE)?;
    if !whole.0.is_empty() || content.expect(der::OBJECT)?.contents != SIGNED_DATA {
        return None;
    }
    let mut signed = content.enter(der::CONTEXT_0)?.enter(der::SEQUENCE)?;
    let _version = signed.expect(der::INTEGER)?;
    let _digests = signed.expect(der::SET)?;
    let _content = signed.expect(der::SEQUENCE)?;
    let first = signed.enter(der::CONTEXT_0).and_then(|mut certificates| certificates.next());
    Some(first.and_then(|first| Certificate::parse(first.whole)))
}
