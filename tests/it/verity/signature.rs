//! Signatures of root hashes, before openssl.

use std::path::{Path, PathBuf};

use diskwright::verity::RootHash;
use diskwright::verity::signature::{Certificate, SIZE, Signed, Signer};

use crate::support::tools::{command, must, run, scratch};

/// A key of `kind` and a certificate for it, in `folder` under `name`.
pub(super) fn pair(folder: &Path, name: &str, kind: &str) -> (PathBuf, PathBuf) {
    let (key, certificate) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.crt")));
    let mut request = command("openssl");
    request
        .args(["req", "-x509", "-newkey", kind, "-nodes", "-days", "36500", "-subj"])
        .arg(format!("/O=Trial/CN={name}"));
    if kind == "ec" {
        request.args(["-pkeyopt", "ec_paramgen_curve:P-256"]);
    }
    must(request.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
    (key, certificate)
}

fn root() -> RootHash {
    "5b55c5c46563746d6d3dcb7508989b6e5f58565564e2b35b8cd68a5fba6095d8".parse().unwrap()
}

/// Whether openssl takes `pkcs7` for a signature of `root` with `certificate`, in both of its ways.
pub(super) fn verified(folder: &Path, pkcs7: &[u8], root: &str, certificate: &Path) -> bool {
    let (signature, content) = (folder.join("signature.der"), folder.join("content"));
    std::fs::write(&signature, pkcs7).unwrap();
    std::fs::write(&content, root).unwrap();
    let said = ["smime", "cms"].map(|way| {
        let mut verify = command("openssl");
        verify.args([way, "-verify", "-inform", "der", "-binary", "-purpose", "any"]);
        verify.arg("-in").arg(&signature).arg("-content").arg(&content).arg("-CAfile").arg(certificate);
        run(&mut verify).code == 0
    });
    assert_eq!(said[0], said[1]);
    said[0]
}

#[test]
fn a_signature_is_that_of_openssl() {
    let folder = scratch();
    let folder = folder.path();
    for kind in ["rsa:2048", "rsa:4096"] {
        let (key, certificate) = pair(folder, kind, kind);
        let signed = Signer::open(&key, &certificate).unwrap().sign(&root()).unwrap();
        assert!(verified(folder, signed.pkcs7(), &root().to_string(), &certificate));
        assert!(!verified(folder, signed.pkcs7(), &root().to_string().to_uppercase(), &certificate));
        let (_, other) = pair(folder, "other", kind);
        assert!(!verified(folder, signed.pkcs7(), &root().to_string(), &other));
        // The same options as those by which systemd-repart has it made: the same bytes.
        let content = folder.join("content");
        std::fs::write(&content, root().to_string()).unwrap();
        let out = folder.join("theirs.der");
        let mut sign = command("openssl");
        sign.args(["smime", "-sign", "-binary", "-noattr", "-md", "sha256", "-outform", "der"]);
        must(
            sign.arg("-signer")
                .arg(&certificate)
                .arg("-inkey")
                .arg(&key)
                .arg("-in")
                .arg(&content)
                .arg("-out")
                .arg(&out),
        );
        assert!(std::fs::read(&out).unwrap() == signed.pkcs7());
        // Joined, it is the same again.
        let joined = Signed::joined(root(), std::fs::read(&out).unwrap(), None).unwrap();
        assert_eq!(joined.padded(SIZE).unwrap(), signed.padded(SIZE).unwrap());
        let read = Certificate::open(&certificate).unwrap();
        let bytes = std::fs::read(&out).unwrap();
        Signed::joined(root(), bytes.clone(), Some(&read)).unwrap();
        // By another key, of another root hash, with a bit that is wrong.
        let other = Certificate::open(&other).unwrap();
        let changed = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            bytes
        };
        for (root, bytes, certificate) in [
            (root(), bytes.clone(), &other),
            ("0".repeat(64).parse().unwrap(), bytes.clone(), &read),
            (root(), changed(bytes.len() - 1), &read),
        ] {
            let error = Signed::joined(root, bytes, Some(certificate)).unwrap_err();
            assert_eq!(error.what(), "the signature does not verify with the certificate");
        }
        // With attributes, which are signed in place of the text, and with another digest.
        for digest in ["sha256", "sha384", "sha512"] {
            let mut sign = command("openssl");
            sign.args(["cms", "-sign", "-binary", "-outform", "der", "-md", digest, "-in"]).arg(&content);
            must(sign.arg("-signer").arg(&certificate).arg("-inkey").arg(&key).arg("-out").arg(&out));
            let bytes = std::fs::read(&out).unwrap();
            Signed::joined(root(), bytes.clone(), Some(&read)).unwrap();
            Signed::joined("0".repeat(64).parse().unwrap(), bytes, Some(&read)).unwrap_err();
        }
        let fingerprint = must(
            command("openssl").args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(&certificate),
        );
        let digits = fingerprint.text().trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
        assert!(
            signed.json().contains(&format!(r#""certificateFingerprint":"{digits}""#)),
            "{}",
            signed.json()
        );
        assert_eq!(read.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect::<String>(), digits);
    }
}

#[test]
fn keys_of_other_forms_and_for_other_certificates_are_told_apart() {
    let folder = scratch();
    let folder = folder.path();
    let (key, certificate) = pair(folder, "one", "rsa:2048");
    let (_, other) = pair(folder, "two", "rsa:2048");
    let error = Signer::open(&key, &other).unwrap_err();
    assert_eq!(error.what(), "the private key does not fit the certificate");
    assert!(error.to_string().contains("one.key") && error.to_string().contains("two.crt"), "{error}");
    // PKCS#1, with the certificate in the same file.
    let old = folder.join("old.pem");
    must(command("openssl").args(["rsa", "-traditional", "-in"]).arg(&key).arg("-out").arg(&old));
    let both = [std::fs::read(&old).unwrap(), std::fs::read(&certificate).unwrap()].concat();
    std::fs::write(&old, both).unwrap();
    let signed = Signer::open(&old, &old).unwrap().sign(&root()).unwrap();
    assert_eq!(signed, Signer::open(&key, &certificate).unwrap().sign(&root()).unwrap());
    // What is no RSA key that can be read.
    let (curve, of_curve) = pair(folder, "curve", "ec");
    let locked = folder.join("locked.pem");
    let mut lock = command("openssl");
    must(lock.args(["pkey", "-aes256", "-passout", "pass:x", "-in"]).arg(&key).arg("-out").arg(&locked));
    let (pss, of_pss) = pair(folder, "pss", "rsa-pss");
    for (key, certificate) in
        [(&curve, &of_curve), (&pss, &of_pss), (&locked, &certificate), (&certificate, &certificate)]
    {
        let error = Signer::open(key, certificate).unwrap_err();
        assert_eq!(error.what(), "this is no private key that can sign a root hash", "{}", key.display());
    }
    assert_eq!(Signer::open(&key, &key).unwrap_err().what(), "this is no certificate");
    assert_eq!(Signer::open(&folder.join("no"), &key).unwrap_err().what(), "cannot read the private key");
    // A signature of it, where it is not the one of an RSA key here: by openssl, joined.
    let content = folder.join("content");
    std::fs::write(&content, root().to_string()).unwrap();
    let out = folder.join("curve.der");
    let mut sign = command("openssl");
    sign.args(["cms", "-sign", "-binary", "-noattr", "-outform", "der", "-in"]).arg(&content);
    must(sign.arg("-signer").arg(&of_curve).arg("-inkey").arg(&curve).arg("-out").arg(&out));
    let joined = Signed::joined(root(), std::fs::read(&out).unwrap(), None).unwrap();
    assert!(verified(folder, joined.pkcs7(), &root().to_string(), &of_curve));
    // With the text inside, openssl verifies it, and the kernel does not.
    let attached = folder.join("attached.der");
    let mut sign = command("openssl");
    sign.args(["cms", "-sign", "-nodetach", "-binary", "-noattr", "-outform", "der", "-in"]).arg(&content);
    must(sign.arg("-signer").arg(&certificate).arg("-inkey").arg(&key).arg("-out").arg(&attached));
    let error = Signed::joined(root(), std::fs::read(&attached).unwrap(), None).unwrap_err();
    assert!(error.to_string().contains("expected: a detached signature"), "{error}");
    // Only RSA is checked.
    let of_curve = Certificate::open(&of_curve).unwrap();
    assert_eq!(Signed::joined(root(), std::fs::read(&out).unwrap(), Some(&of_curve)).unwrap(), joined);
    let of_key = Certificate::open(&certificate).unwrap();
    Signed::joined(root(), std::fs::read(&out).unwrap(), Some(&of_key)).unwrap_err();
    assert_ne!(joined.json(), signed.json());
}
