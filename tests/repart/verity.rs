//! Partitions of dm-verity: judged by veritysetup and by openssl.

use crate::run::{Folder, SEED, rows};
use crate::support::tools::{command, must, run};

const DATA: &str =
    "[Partition]\nType=usr\nFormat=ext4\nCopyFiles=/tree:/\nMinimize=best\nVerity=data\nVerityMatchKey=u\n";
const HASH: &str = "[Partition]\nType=usr-verity\nMinimize=best\nVerity=hash\nVerityMatchKey=u\n";
const SIGNATURE: &str = "[Partition]\nType=usr-verity-sig\nVerity=signature\nVerityMatchKey=u\n";

fn folder() -> Folder {
    Folder::new(&[
        ("tree/etc/a", "a"),
        ("tree/b", &"b".repeat(100_000)),
        ("repart.d/1.conf", DATA),
        ("repart.d/2.conf", HASH),
    ])
}

/// The hashes are those that veritysetup finds right, and the GUIDs the halves of the root hash.
#[test]
fn hashes_are_right_and_ids_follow_from_them() {
    for sector in ["512", "4096"] {
        let folder = folder();
        let arguments =
            ["--empty=create", "--size=auto", "--definitions=repart.d", "--split=yes", "--json=short", SEED];
        let own = ["--copy-source=.", "--architecture=x86-64", "image.raw"];
        let block = format!("--sector-size={sector}");
        let said = folder.repart(&[arguments.as_slice(), &[&block], &own].concat());
        assert_eq!(said.code, 0, "{}", said.error());
        let rows = rows(&said);
        let text = |row: usize, key: &str| rows[row][key].as_str().unwrap().to_owned();
        let root = text(0, "roothash");
        assert_eq!((root.len(), &root), (64, &text(1, "roothash")));
        assert_eq!(text(0, "uuid").replace('-', ""), root[..32]);
        assert_eq!(text(1, "uuid").replace('-', ""), root[32..]);
        let mut judge = command("veritysetup");
        judge.args(["verify", "image.usr-x86-64.raw", "image.usr-x86-64-verity.raw", &root]);
        assert_eq!(run(judge.current_dir(folder.0.path())).code, 0, "{sector}");
        // A flipped bit is seen.
        let path = folder.path("image.usr-x86-64.raw");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[5000] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let mut judge = command("veritysetup");
        judge.args(["verify", "image.usr-x86-64.raw", "image.usr-x86-64-verity.raw", &root]);
        assert_ne!(run(judge.current_dir(folder.0.path())).code, 0, "{sector}");
    }
}

#[test]
fn root_hashes_are_signed_here_or_elsewhere() {
    let folder = folder();
    folder.write("repart.d/3.conf", SIGNATURE);
    let mut openssl = command("openssl");
    openssl.args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj",
        "/CN=t",
    ]);
    must(openssl.current_dir(folder.0.path()));
    let usual = ["--split=yes", "--json=short", "--copy-source=.", "--architecture=x86-64"];
    let signed =
        folder.create(&[usual.as_slice(), &["--private-key=key.pem", "--certificate=cert.pem"]].concat());
    let root = rows(&signed)[2]["roothash"].as_str().unwrap().to_owned();
    let json = std::fs::read(folder.path("image.usr-x86-64-verity-sig.raw")).unwrap();
    // The text alone, as 262 has it.
    let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(value["rootHash"], root.as_str());
    let image = std::fs::read(folder.path("image.raw")).unwrap();
    folder.write("signature.b64", value["signature"].as_str().unwrap());
    folder.write("root", &root);
    must(
        command("openssl")
            .args(["base64", "-d", "-A", "-in", "signature.b64", "-out", "signature.der"])
            .current_dir(folder.0.path()),
    );
    let mut judge = command("openssl");
    judge.args([
        "smime",
        "-verify",
        "-content",
        "root",
        "-inform",
        "der",
        "-in",
        "signature.der",
        "-noverify",
        "-binary",
    ]);
    must(judge.current_dir(folder.0.path()));
    // The same signature, given.
    for joined in
        [format!("{root}:signature.der"), format!("{root}:base64:{}", value["signature"].as_str().unwrap())]
    {
        std::fs::remove_file(folder.path("image.raw")).unwrap();
        folder.create(&[usual.as_slice(), &[&format!("--join-signature={joined}")]].concat());
        assert!(std::fs::read(folder.path("image.raw")).unwrap() == image);
    }
    // Nobody signs, or somebody something else.
    let arguments = |own: &[&str]| {
        let usual = [
            "--empty=create",
            "--size=auto",
            "--definitions=repart.d",
            "--sector-size=512",
            SEED,
            "--copy-source=.",
        ];
        folder.repart(&[usual.as_slice(), own, &["other.raw"]].concat())
    };
    let said = arguments(&[]);
    assert!(
        said.code == 2 && said.error().contains("repart.d/3.conf:3: Verity=signature"),
        "{}",
        said.error()
    );
    let said = arguments(&[&format!("--join-signature={}:signature.der", root.replace('a', "b"))]);
    assert!(said.code != 0 && said.error().contains("another root hash"), "{}", said.error());
    assert!(!folder.path("other.raw").exists());
}

/// A signature by a key that the certificate does not know verifies nowhere.
#[test]
fn a_key_of_another_certificate_is_refused() {
    let folder = folder();
    folder.write("repart.d/3.conf", SIGNATURE);
    for name in ["one", "two"] {
        let mut openssl = command("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=t"]);
        openssl.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")]);
        must(openssl.current_dir(folder.0.path()));
    }
    let usual = ["--empty=create", "--size=auto", "--definitions=repart.d", SEED, "--copy-source=."];
    let own = ["--architecture=x86-64", "--private-key=one.key", "--certificate=two.crt", "image.raw"];
    let said = folder.repart(&[usual.as_slice(), &own].concat());
    assert_eq!(said.code, 1);
    for words in ["the private key does not fit the certificate", "one.key"] {
        assert!(said.error().contains(words), "{}", said.error());
    }
    assert!(!folder.path("image.raw").exists());
}

/// A key with its certificate, and a signature by it of `root`, as openssl makes it.
fn sign(folder: &Folder, root: &str, out: &str) {
    let openssl = |arguments: &[&str]| must(command("openssl").args(arguments).current_dir(folder.0.path()));
    if !folder.path("key.pem").exists() {
        let key = ["-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"];
        openssl(&[["req", "-x509", "-subj", "/CN=t"].as_slice(), &key].concat());
    }
    folder.write("root", root);
    let files = ["-in", "root", "-inkey", "key.pem", "-signer", "cert.pem", "-out", out];
    openssl(&[["smime", "-sign", "-binary", "-noattr", "-outform", "der"].as_slice(), &files].concat());
}

/// As systemd-repart 262.1 does it: the signature is put into the image that is there, whose GUIDs tell the root hash. Without
/// one it leaves the partition empty, with a key too; here that is an error.
#[test]
fn a_deferred_signature_is_joined_later() {
    let folder = folder();
    folder.write("repart.d/3.conf", SIGNATURE);
    let said = folder.create(&[
        "--json=short",
        "--copy-source=.",
        "--architecture=x86-64",
        "--defer-partitions=usr-verity-sig",
    ]);
    let rows = rows(&said);
    assert_eq!(rows[2]["roothash"], rows[0]["roothash"]);
    let before = std::fs::read(folder.path("image.raw")).unwrap();
    let offset = usize::try_from(rows[2]["offset"].as_u64().unwrap()).unwrap();
    assert!(before[offset..offset + 16384].iter().all(|byte| *byte == 0));
    let root = rows[0]["roothash"].as_str().unwrap();
    sign(&folder, root, "signature.der");
    let again = |own: &[&str]| {
        let usual = ["--dry-run=no", "--definitions=repart.d", "--sector-size=512", SEED, "--copy-source=."];
        folder.repart(
            &[usual.as_slice(), own, &["--architecture=x86-64", "--json=short", "image.raw"]].concat(),
        )
    };
    for own in [[].as_slice(), &["--private-key=key.pem", "--certificate=cert.pem"]] {
        let said = again(own);
        assert!(
            said.code == 2 && said.error().contains("a joined signature of that root hash"),
            "{}",
            said.error()
        );
    }
    assert!(std::fs::read(folder.path("image.raw")).unwrap() == before);
    let said = again(&[&format!("--join-signature={root}:signature.der"), "--certificate=cert.pem"]);
    assert_eq!(said.code, 0, "{}", said.error());
    let activities: Vec<_> = crate::run::rows(&said).iter().map(|row| row["activity"].clone()).collect();
    assert_eq!(activities, ["unchanged", "unchanged", "create"]);
    assert!(crate::run::rows(&said).iter().all(|row| row["roothash"] == root));
    let after = std::fs::read(folder.path("image.raw")).unwrap();
    let text = std::str::from_utf8(&after[offset..offset + 16384]).unwrap().trim_end_matches('\0');
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(value["rootHash"], root);
    // Nothing else has changed but the table and its backup.
    assert!(after[1 << 20..offset] == before[1 << 20..offset]);
}

/// Each set of partitions gets the signature of its own root hash.
#[test]
fn several_signatures_are_joined() {
    let other =
        |text: &str| text.replace("usr", "root").replace("=u\n", "=r\n").replace("/tree:/", "/tree/etc:/etc");
    let folder = folder();
    for (name, text) in
        [("3", SIGNATURE.to_owned()), ("4", other(DATA)), ("5", other(HASH)), ("6", other(SIGNATURE))]
    {
        folder.write(&format!("repart.d/{name}.conf"), &text);
    }
    let usual = ["--json=short", "--copy-source=.", "--architecture=x86-64", "--split=yes"];
    let deferred = "--defer-partitions=usr-verity-sig,root-verity-sig";
    let rows = rows(&folder.create(&[usual.as_slice(), &[deferred]].concat()));
    let roots: Vec<_> = [0, 3].map(|row| rows[row]["roothash"].as_str().unwrap().to_owned()).to_vec();
    assert_ne!(roots[0], roots[1]);
    sign(&folder, &roots[0], "0.der");
    sign(&folder, &roots[1], "1.der");
    let joined: Vec<String> =
        (0..2).map(|number| format!("--join-signature={}:{number}.der", roots[number])).collect();
    std::fs::remove_file(folder.path("image.raw")).unwrap();
    folder.create(&[usual.as_slice(), &[&joined[1], &joined[0]]].concat());
    for (name, root) in [("usr", &roots[0]), ("root", &roots[1])] {
        let text = std::fs::read(folder.path(&format!("image.{name}-x86-64-verity-sig.raw"))).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["rootHash"], root.as_str());
    }
}

/// What would stay empty without a word is told or refused.
#[test]
fn hashes_of_what_is_not_written_now_are_told() {
    let folder = folder();
    // Hashes that are minimized are made all the same.
    folder.write("repart.d/2.conf", &HASH.replace("Minimize=best\n", ""));
    let usual = ["--copy-source=.", "--architecture=x86-64"];
    let said = folder.create(&[usual.as_slice(), &["--defer-partitions=usr"]].concat());
    assert!(said.error().contains("2.conf: the partition stays empty"), "{}", said.error());
    std::fs::remove_file(folder.path("image.raw")).unwrap();
    folder.create(&[usual.as_slice(), &["--defer-partitions=usr-verity"]].concat());
    let again = ["--dry-run=no", "--definitions=repart.d", "--sector-size=512", SEED];
    let said = folder.repart(&[again.as_slice(), &usual, &["image.raw"]].concat());
    assert!(
        said.code == 2 && said.error().contains("the data of these hashes is on the disk already"),
        "{}",
        said.error()
    );
}

/// `--make-ddi=`: a signed EROFS with its hashes, by definitions that are built in.
#[test]
fn extensions_are_signed_images() {
    let folder = Folder::new(&[
        ("tree/usr/lib/extension-release.d/extension-release.x", "ID=_any\n"),
        ("tree/usr/bin/tool", "tool"),
        ("tree/etc/not", "not in a sysext"),
    ]);
    let mut openssl = command("openssl");
    openssl.args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj",
        "/CN=t",
    ]);
    must(openssl.current_dir(folder.0.path()));
    let arguments = [
        "-S",
        "-s",
        "tree",
        "--private-key=key.pem",
        "--certificate=cert.pem",
        "--json=short",
        "--split=yes",
        SEED,
    ];
    let said = folder.repart(&[arguments.as_slice(), &["--architecture=x86-64", "x.raw"]].concat());
    assert_eq!(said.code, 0, "{}", said.error());
    let rows = rows(&said);
    let types: Vec<_> = rows.iter().map(|row| row["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["root-x86-64", "root-x86-64-verity", "root-x86-64-verity-sig"]);
    let root = rows[0]["roothash"].as_str().unwrap();
    let mut judge = command("veritysetup");
    judge.args(["verify", "x.root-x86-64.raw", "x.root-x86-64-verity.raw", root]);
    assert_eq!(run(judge.current_dir(folder.0.path())).code, 0);
    must(command("fsck.erofs").arg("x.root-x86-64.raw").current_dir(folder.0.path()));
}

/// As systemd-repart 262.1, which makes hashes of data that is as small as it can be before it looks at what is deferred.
#[test]
fn the_root_hash_of_what_is_minimized_is_known_where_a_partition_is_deferred() {
    let folder = folder();
    let own = ["--copy-source=.", "--architecture=x86-64", "--json=short", "--split=yes"];
    let whole = rows(&folder.create(&own));
    let hashes = std::fs::read(folder.path("image.usr-x86-64-verity.raw")).unwrap();
    for (deferred, number) in [("usr", 2), ("usr-verity", 1)] {
        let defer = format!("--defer-partitions={deferred}");
        let made = rows(&folder.create(&[own.as_slice(), &[&defer]].concat()));
        for (made, whole) in made.iter().zip(&whole) {
            for key in ["uuid", "roothash", "offset", "raw_size"] {
                assert_eq!(made[key], whole[key], "{deferred} {key}");
            }
        }
        let table = folder.shell("sfdisk -d image.raw").text().to_lowercase();
        let uuids: Vec<&str> = whole.iter().map(|row| row["uuid"].as_str().unwrap()).collect();
        let there: Vec<bool> = uuids.iter().map(|uuid| table.contains(*uuid)).collect();
        assert_eq!(there, [number == 1, number == 2], "{table}");
    }
    folder.create(&[own.as_slice(), &["--defer-partitions=usr"]].concat());
    assert_eq!(std::fs::read(folder.path("image.usr-x86-64-verity.raw")).unwrap(), hashes);
}

/// As systemd-repart 262.1, apart from the UUIDs, which are zeros there.
#[test]
fn hashes_and_a_signature_may_be_copied() {
    let folder = Folder::new(&[]);
    let all = [("data", 1 << 20), ("hash", 64 << 10), ("signature", 16 << 10)];
    for (number, (verity, size)) in all.into_iter().enumerate() {
        folder.write(verity, &verity[..1].repeat(size));
        let kind = ["usr", "usr-verity", "usr-verity-sig"][number];
        let text = format!(
            "[Partition]\nType={kind}\nVerity={verity}\nVerityMatchKey=u\nCopyBlocks=/{verity}\nSplitName={verity}\n"
        );
        folder.write(&format!("repart.d/{number}.conf"), &text);
    }
    let own = ["--root=.", "--architecture=x86-64", "--json=short", "--split=yes"];
    let said = folder.create(&own);
    assert_eq!(said.error(), "");
    for row in rows(&said) {
        assert_eq!(row["roothash"], "TBD");
        assert_ne!(row["uuid"], "00000000-0000-0000-0000-000000000000");
    }
    for (verity, size) in all {
        let bytes = std::fs::read(folder.path(&format!("image.{verity}.raw"))).unwrap();
        assert_eq!(bytes[..size], std::fs::read(folder.path(verity)).unwrap(), "{verity}");
    }
    let faithful = folder.create(&[own.as_slice(), &["--faithful"]].concat());
    let zeros =
        rows(&faithful).iter().filter(|row| row["uuid"] == "00000000-0000-0000-0000-000000000000").count();
    assert_eq!(zeros, 2);
    // Hashes of other data, and a signature that cannot be made.
    for (name, text) in [
        ("0", "Type=usr\nVerity=data\nFormat=squashfs\nMakeDirectories=/x"),
        ("2", "Type=usr-verity-sig\nVerity=signature"),
    ] {
        let path = format!("repart.d/{name}.conf");
        let old = std::fs::read_to_string(folder.path(&path)).unwrap();
        folder.write(&path, &format!("[Partition]\n{text}\nVerityMatchKey=u\n"));
        let usual = ["--empty=create", "--size=auto", "--definitions=repart.d", SEED, "other.raw"];
        let said = folder.repart(&[&own[..], &usual].concat());
        assert_eq!(said.code, 2);
        assert!(said.error().contains("one partition is copied and one is not"), "{}", said.error());
        folder.write(&path, &old);
    }
}

/// As systemd-repart 262.1: what FileSystemSectorSize= has below the sectors of the disk counts as these.
#[test]
fn sectors_of_filesystems_and_blocks_of_hashes_are_at_least_those_of_the_disk() {
    let folder = Folder::new(&[
        ("repart.d/1.conf", "[Partition]\nType=esp\nFormat=vfat\nFileSystemSectorSize=512\n"),
        (
            "repart.d/2.conf",
            "[Partition]\nType=usr\nVerity=data\nVerityMatchKey=u\nCopyBlocks=/data\nFileSystemSectorSize=512\n",
        ),
        (
            "repart.d/3.conf",
            "[Partition]\nType=usr-verity\nVerity=hash\nVerityMatchKey=u\nMinimize=best\nFileSystemSectorSize=1024\nSplitName=h\n",
        ),
        (
            "repart.d/4.conf",
            "[Partition]\nType=srv\nFormat=erofs\nMinimize=best\nMakeDirectories=/a\nFileSystemSectorSize=512\nSplitName=e\n",
        ),
        ("data", &"data".repeat(1 << 18)),
    ]);
    let own = ["--root=.", "--architecture=x86-64", "--json=short", "--split=yes", "--sector-size=4096"];
    assert_eq!(rows(&folder.create(&own))[0]["raw_size"], 260 << 20);
    let hashes = std::fs::read(folder.path("image.h.raw")).unwrap();
    // The superblock of dm-verity has both sizes of blocks at byte 64.
    assert_eq!(hashes[64..72], [0, 16, 0, 0, 0, 16, 0, 0]);
    // That of EROFS has the exponent of its blocks at byte 12.
    assert_eq!(std::fs::read(folder.path("image.e.raw")).unwrap()[1024 + 12], 12);
}
