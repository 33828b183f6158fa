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

/// The first certificate of a signature, where it has one; `None` for what is no signature.
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
