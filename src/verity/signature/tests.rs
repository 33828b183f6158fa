use super::*;

/// A certificate of the shape of RFC 5280, with these fields.
fn certificate(version: bool) -> Vec<u8> {
    let empty = der::value(der::SEQUENCE, &[]);
    let issuer = der::value(der::SEQUENCE, &[&der::value(der::SET, &[])]);
    let version = if version { der::value(der::CONTEXT_0, &[&[2, 1, 2]]) } else { Vec::new() };
    let signed =
        der::value(der::SEQUENCE, &[&version, &[2, 1, 7], &empty, &issuer, &empty, &empty, &empty, &[5, 0]]);
    der::value(der::SEQUENCE, &[&signed, &empty, &[3, 1, 0]])
}

fn root() -> RootHash {
    "00ff".repeat(16).parse().unwrap()
}

#[test]
fn a_certificate_is_read_with_and_without_a_version() {
    for version in [false, true] {
        let bytes = certificate(version);
        let read = Certificate::parse(&bytes).unwrap();
        assert_eq!(
            (&read.bytes, &read.serial[..], &read.issuer[..]),
            (&bytes, &[2, 1, 7][..], &[48, 2, 49, 0][..])
        );
        for cut in 0..bytes.len() {
            assert_eq!(Certificate::parse(&bytes[..cut]), None);
        }
        assert_eq!(Certificate::parse(&[bytes, vec![0]].concat()), None);
    }
}

#[test]
fn a_joined_signature_stands_with_its_certificate() {
    let inside = Certificate::parse(&certificate(true)).unwrap();
    let pkcs7 = cms::signed_data(&inside, &[1; 256]);
    let signed = Signed::joined(root(), pkcs7.clone(), None).unwrap();
    assert_eq!((signed.root(), signed.pkcs7()), (&root(), &pkcs7[..]));
    let json: serde_json::Value = serde_json::from_str(&signed.json()).unwrap();
    assert_eq!(json["rootHash"], root().to_string());
    assert_eq!(json["certificateFingerprint"], to_hex(&inside.fingerprint()));
    assert_eq!(json["signature"], to_base64(&pkcs7));
    let other = Certificate::parse(&certificate(false)).unwrap();
    let joined = Signed::joined(root(), pkcs7.clone(), Some(&other)).unwrap();
    assert_eq!(joined.fingerprint, other.fingerprint());
    for cut in [0, 1, 20, pkcs7.len() - 1] {
        let error = Signed::joined(root(), pkcs7[..cut].to_vec(), None).unwrap_err();
        assert_eq!(error.what(), "this is no signature of a root hash", "{cut}");
    }
}

#[test]
fn a_signature_without_a_certificate_needs_one() {
    let of = Certificate::parse(&certificate(true)).unwrap();
    // What signs, without what it is signed with.
    let pkcs7 = cms::signed_data(&Certificate { bytes: Vec::new(), ..of.clone() }, &[1; 256]);
    let error = Signed::joined(root(), pkcs7.clone(), None).unwrap_err();
    assert_eq!(error.what(), "the signature has no certificate inside, and none is given");
    Signed::joined(root(), pkcs7, Some(&of)).unwrap();
}

#[test]
fn a_partition_has_a_zero_behind_the_signature() {
    let pkcs7 = cms::signed_data(&Certificate::parse(&certificate(true)).unwrap(), &[1; 256]);
    let signed = Signed::joined(root(), pkcs7, None).unwrap();
    let (json, length) = (signed.json(), u64_of(signed.json().len()));
    let padded = signed.padded(SIZE).unwrap();
    assert_eq!(u64_of(padded.len()), SIZE.get());
    assert_eq!(&padded[..json.len()], json.as_bytes());
    assert!(padded[json.len()..].iter().all(|byte| *byte == 0));
    assert_eq!(signed.padded(Bytes::new(length + 1)).unwrap().last(), Some(&0));
    assert_eq!(signed.padded(Bytes::new(length)).unwrap_err().kind(), Kind::Capacity);
}
