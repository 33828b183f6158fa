//! EROFS, SquashFS and systemd-repart's definitions, against the newest programs that make the same. The last group needs
//! root, openssl, dosfstools and mtools.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::others::Newest;
use crate::run::{Case, Group, program};
use crate::{jobs, trees};

/// A store of at least 45,000 files and 1.7 GB into images that are only read.
pub(crate) fn run(folder: &Path) {
    let tree = trees::store(folder);
    let newest = Newest::find();
    erofs(folder, &tree, newest.as_ref());
    squashfs(folder, &tree, newest.as_ref());
    if let Some(newest) = newest {
        repart(folder, &tree, &newest);
    }
}

/// `mkfs` of this program.
fn ours(kind: &str, options: &[&str], tree: &Path, image: &Path) -> Case {
    let name = format!("diskwright mkfs {kind} {}", options.join(" "));
    Case::new(&name, program())
        .args(["mkfs", kind])
        .args([tree, Path::new("-o"), image])
        .args(options)
        .makes(image)
}

fn erofs(folder: &Path, tree: &Path, newest: Option<&Newest>) {
    let image = folder.join("out.img");
    let workers = format!("--workers={}", jobs());
    let theirs = |options: &[&str]| {
        newest.map(|newest| {
            let name = format!("mkfs.erofs {}", options.join(" "));
            newest.case(&name, "bin/mkfs.erofs").args(options).args([&image]).args([tree]).makes(&image)
        })
    };
    let mut plain = vec![ours("erofs", &[], tree, &image), ours("ext4", &[], tree, &image)];
    plain.extend(theirs(&[]));
    Group { title: "readonly: a store into EROFS", cases: plain }.run();
    let zstd = |chunk| ours("erofs", &["--compress", "zstd", "--level", "3", "--chunk", chunk], tree, &image);
    let mut packed = vec![zstd("64KiB"), zstd("128KiB"), zstd("1MiB")];
    packed.extend(theirs(&["-zzstd,level=3", "-C65536", &workers]));
    Group { title: "readonly: a store into EROFS by zstd", cases: packed }.run();
    let mut fast = vec![ours("erofs", &["--compress", "lz4", "--chunk", "64KiB"], tree, &image)];
    fast.extend(theirs(&["-zlz4", "-C65536", &workers]));
    Group { title: "readonly: a store into EROFS by lz4", cases: fast }.run();
}

fn squashfs(folder: &Path, tree: &Path, newest: Option<&Newest>) {
    let image = folder.join("out.img");
    for (title, options, theirs) in [
        (
            "readonly: a store into SquashFS by zstd",
            &["--compress", "zstd", "--level", "3"][..],
            &["-comp", "zstd", "-Xcompression-level", "3"][..],
        ),
        ("readonly: a store into SquashFS by gzip", &["--compress", "gzip"], &["-comp", "gzip"]),
    ] {
        let mut cases = vec![ours("squashfs", options, tree, &image)];
        cases.extend(newest.map(|newest| {
            newest
                .case(&format!("mksquashfs {}", theirs.join(" ")), "bin/mksquashfs")
                .args([tree, &image])
                .args(["-quiet", "-no-progress", "-noappend", "-processors", &jobs()])
                .args(theirs)
                .makes(&image)
        }));
        Group { title, cases }.run();
    }
}

/// The definitions of an appliance, without the key's path.
const DEFINITIONS: [(&str, &str); 4] = [
    ("10-esp.conf", "Type=esp\nFormat=vfat\nSizeMinBytes=64M\nSizeMaxBytes=64M\n"),
    (
        "20-usr.conf",
        "Type=usr\nFormat=erofs\nCopyFiles=/store:/\nMinimize=best\nVerity=data\nVerityMatchKey=usr\n",
    ),
    ("30-verity.conf", "Type=usr-verity\nVerity=hash\nVerityMatchKey=usr\nMinimize=best\n"),
    ("40-sig.conf", "Type=usr-verity-sig\nVerity=signature\nVerityMatchKey=usr\n"),
];

/// An ESP, a store as EROFS, its hash tree and a signature.
fn repart(folder: &Path, tree: &Path, newest: &Newest) {
    let own = folder.join("repart");
    let _ = std::fs::remove_dir_all(&own);
    std::fs::create_dir_all(own.join("bin")).expect("a folder can be made");
    std::fs::create_dir_all(own.join("definitions")).expect("a folder can be made");
    for (name, text) in DEFINITIONS {
        let path = own.join("definitions").join(name);
        std::fs::write(path, format!("[Partition]\n{text}")).expect("a file can be written");
    }
    // systemd-repart finds the program of a filesystem by the path.
    let maker = own.join("bin/mkfs.erofs");
    let text = format!("#!/bin/sh\nexec {} \"$@\"\n", newest.words("bin/mkfs.erofs"));
    std::fs::write(&maker, text).expect("a file can be written");
    let permissions = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&maker, permissions).expect("a file of one's own can be made a program");
    let key = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=bench -days 30";
    let made = Command::new("openssl").args(key.split(' ')).current_dir(&own).stderr(Stdio::null()).status();
    assert!(made.is_ok_and(|status| status.success()), "openssl makes a key");
    let (image, path) = (own.join("out.img"), own.display());
    let source = tree.parent().expect("a tree is in a folder").display();
    let options = [
        "--seed=12345678-1234-1234-1234-123456789abc".to_owned(),
        "--empty=create".to_owned(),
        "--size=auto".to_owned(),
        "--offline=yes".to_owned(),
        format!("--definitions={path}/definitions"),
        format!("--copy-source={source}"),
        format!("--private-key={path}/key.pem"),
        format!("--certificate={path}/cert.pem"),
    ];
    let script = format!(
        "PATH={path}/bin:$PATH SOURCE_DATE_EPOCH=1700000000 exec {} \"$@\"",
        newest.words("bin/systemd-repart")
    );
    let cases = vec![
        Case::new("diskwright repart", program())
            .args(["repart"])
            .args(&options)
            .args([&image])
            .makes(&image),
        Case::new("systemd-repart", "sh")
            .args(["-c", &script, "sh"])
            .args(&options)
            .args([&image])
            .makes(&image),
    ];
    Group { title: "readonly: an ESP, a store as EROFS, dm-verity and a signature", cases }.run();
}
