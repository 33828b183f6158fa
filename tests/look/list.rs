//! `ls`, as coreutils lists the kernel's mount.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::kernel::{self, Mount};
use crate::support::program::{diskwright, mkfs_erofs, mkfs_ext4, mkfs_squashfs, mkfs_vfat};
use crate::support::tools::{command, is_root, must, quick_scratch, run};
use crate::support::tree::{self, Maker};

/// A tree with a bit of everything that a line of `ls -l` shows.
pub(crate) fn source(folder: &Path) -> std::path::PathBuf {
    let source = folder.join("source");
    let mut maker = Maker::new(&source);
    maker.directory("bin").directory("etc").directory("etc/conf.d").directory("empty").directory(".hidden");
    maker.file("bin/su", "su").mode("bin/su", 0o4755).file("bin/wall", "wall").mode("bin/wall", 0o2711);
    maker.file("etc/a.conf", "a").file("etc/b.conf", "bb").file("etc/.c.conf", "ccc").file("etc/d", "");
    maker.file("etc/conf.d/x.conf", "x").file("etc/conf.d/y", "y").file(".hidden/z.conf", "z");
    maker.sparse("hole", 9_000_000, &[(4_500_000, 5000)]).file("large", tree::noise(1, 1_234_567));
    maker.file("names", "three").link("names", "bin/names").link("names", "etc/names");
    maker.symlink("link", "etc/a.conf").symlink("to-directory", "etc").symlink("nowhere", "not/there");
    maker.special("pipe", rustix::fs::FileType::Fifo, (0, 0));
    maker.special("socket", rustix::fs::FileType::Socket, (0, 0));
    maker.directory("tmp").mode("tmp", 0o1777).file("secret", "s").mode("secret", 0o400);
    if is_root() {
        maker.mode("secret", 0);
        maker.special("tty", rustix::fs::FileType::CharacterDevice, (5, 1));
        maker.special("disk", rustix::fs::FileType::BlockDevice, (259, 12345));
        maker.owner("etc/b.conf", 70_000, 8).owner("link", 5, 600_000).owner("empty", 1, 2);
        maker.xattr("bin/wall", "security.capability", tree::capability());
    }
    let acl =
        tree::acl(&[(1, 7, u32::MAX), (2, 5, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]);
    maker.xattr("etc/d", "system.posix_acl_access", &acl).xattr("etc/a.conf", "user.comment", "a \"b\"");
    maker.xattr("etc/a.conf", "user.bytes", b"\x01\x02");
    maker.time("etc/d", (1, 5)).time("large", (4_000_000_000, 999_999_999)).time("names", (0, 0));
    maker.finish();
    source
}

/// coreutils' ls in the C locale and UTC.
fn coreutils(arguments: &[&str], path: &Path) -> String {
    let mut ls = command("ls");
    ls.env("LC_ALL", "C").env("TZ", "UTC").args(arguments).arg(path);
    must(&mut ls).text()
}

fn ours(arguments: &[&str], address: &str) -> String {
    must(diskwright().arg("ls").args(arguments).arg(address)).text()
}

/// Without lines of attributes, which coreutils does not show, and with or without the sums of directories.
fn plain(text: &str, sums: bool) -> Vec<String> {
    text.lines()
        .filter(|line| !line.starts_with("    ") && (sums || !line.starts_with("total ")))
        .map(str::to_owned)
        .collect()
}

/// Compares lists of a mounted image with those of the program.
fn judged(image: &Path, sums: bool) {
    let mount = Mount::new(image, "ro");
    let top = mount.path().to_str().unwrap().to_owned();
    let address = |path: &str| format!("{}:{path}", image.display());
    for path in ["/", "/etc", "/bin", "/empty", "/tmp", "/hole", "/link"] {
        let theirs = coreutils(&["-lnA", "--time-style=full-iso"], Path::new(&format!("{top}{path}")));
        let theirs = theirs.replace(&top, "");
        assert_eq!(plain(&ours(&["-lA"], &address(path)), sums), plain(&theirs, sums), "{path}");
    }
    let theirs = coreutils(&["-lnRA", "--time-style=full-iso"], Path::new(&format!("{top}/")));
    let theirs = theirs.replace(&format!("{top}/:"), "/:").replace(&top, "");
    assert_eq!(plain(&ours(&["-lRA"], &address("/")), sums), plain(&theirs, sums));
    for path in ["/", "/etc", "/to-directory", "/to-directory/", "/names"] {
        let theirs = coreutils(&["-1"], Path::new(&format!("{top}{path}"))).replace(&top, "");
        assert_eq!(ours(&[], &address(path)), theirs, "{path}");
    }
    let theirs = coreutils(&["-1R"], Path::new(&format!("{top}/")));
    assert_eq!(ours(&["-R"], &address("/")), theirs.replace(&format!("{top}/:"), "/:").replace(&top, ""));
    // Patterns are those of a shell.
    for pattern in
        ["/etc/*.conf", "/*/*.conf", "/etc/[ab].conf", "/etc/?.conf", "/*/conf.d", "/etc/.*.conf", "/b*"]
    {
        let shell =
            must(Command::new("sh").env("LC_ALL", "C").args(["-c", &format!("ls -d1 {top}{pattern}")]))
                .text();
        assert_eq!(ours(&["-d"], &address(pattern)), shell.replace(&top, ""), "{pattern}");
    }
    mount.unmount();
}

#[test]
fn lists_are_those_of_coreutils() {
    kernel::need();
    let folder = quick_scratch();
    let (source, image) = (source(folder.path()), folder.path().join("image.img"));
    mkfs_ext4(&source, &image, &["--owner", "preserve", "--size", "64MiB"]);
    judged(&image, true);
    for form in ["-t ext2 -b 1024", "-t ext4 -O inline_data"] {
        std::fs::remove_file(&image).unwrap();
        let mut mke2fs = command("mke2fs");
        must(mke2fs.args(["-q", "-F"]).args(form.split(' ')).arg("-d").arg(&source).arg(&image).arg("64M"));
        judged(&image, true);
    }
    // How much an inode occupies is something else than what it was compressed to.
    mkfs_squashfs(&source, &image, &["--owner", "preserve"]);
    judged(&image, false);
    for arguments in [&["--owner", "preserve"][..], &["--owner", "preserve", "--compress", "lz4"]] {
        mkfs_erofs(&source, &image, arguments);
        judged(&image, false);
    }
}

#[test]
fn attributes_stand_below_their_file() {
    let folder = quick_scratch();
    let (source, image) = (source(folder.path()), folder.path().join("image.img"));
    mkfs_ext4(&source, &image, &["--owner", "preserve"]);
    let address = |path: &str| format!("{}:{path}", image.display());
    let text = ours(&["-l"], &address("/etc/a.conf"));
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(lines, ["    user.bytes=0x0102", "    user.comment=\"a \\\"b\\\"\""]);
    if is_root() {
        let text = ours(&["-l"], &address("/bin/wall"));
        assert_eq!(text.lines().nth(1), Some("    security.capability=cap_net_raw=ep"));
    }
    let listed: Value = serde_json::from_str(&ours(&["--json", "-RA"], &address("/"))).unwrap();
    let files: BTreeMap<&str, &Value> =
        listed.as_array().unwrap().iter().map(|file| (file["path"].as_str().unwrap(), file)).collect();
    let file = files["/etc/a.conf"];
    assert_eq!(file["xattrs"]["user.bytes"], "0x0102");
    assert_eq!((&file["type"], &file["mode"], &file["size"]), (&"file".into(), &"0644".into(), &1.into()));
    assert_eq!(files["/large"]["mtime"], "2096-10-02T07:06:40.999999999Z");
    assert_eq!(
        (&files["/link"]["type"], &files["/link"]["target"]),
        (&"symlink".into(), &"etc/a.conf".into())
    );
    assert_eq!(files["/names"]["inode"], files["/bin/names"]["inode"]);
    assert_eq!(files["/names"]["links"], 3);
    assert!(files.contains_key("/.hidden/z.conf") && files["/hole"]["allocated"].as_u64().unwrap() < 20_000);
    if is_root() {
        assert_eq!(files["/bin/wall"]["capabilities"], "cap_net_raw=ep");
        assert_eq!(files["/disk"]["device"], serde_json::json!([259, 12345]));
    }
}

#[test]
fn no_name_breaks_a_line_or_commands_a_terminal() {
    let folder = quick_scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    tree::portable(&source);
    mkfs_ext4(&source, &image, &[]);
    let names = std::fs::read_dir(source.join("names")).unwrap().count();
    let text = ours(&["-A"], &format!("{}:/names", image.display()));
    assert_eq!(text.lines().count(), names);
    assert!(text.contains("newline\\x0a\n") && text.contains("tab\\x09bell\\x07escape\\x1b[31m\n"), "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    let listed: Value =
        serde_json::from_str(&ours(&["--json"], &format!("{}:/names", image.display()))).unwrap();
    let odd = listed.as_array().unwrap().iter().find(|file| file["path"] == "/names/\\xff\\xfe").unwrap();
    assert_eq!(odd["path_bytes"], "0x2f6e616d65732ffffe");
}

#[test]
fn a_pattern_finds_files_at_any_depth() {
    let folder = quick_scratch();
    let (source, image) = (source(folder.path()), folder.path().join("image.img"));
    mkfs_vfat(&source.join("etc"), &image, &["--size", "2MiB"]);
    let text = ours(&["-d"], &format!("{}:/**/*.conf", image.display()));
    assert_eq!(text, "/a.conf\n/b.conf\n/conf.d/x.conf\n");
    let said = run(diskwright().arg("ls").arg(format!("{}:/*.none", image.display())));
    assert!(said.code == 1 && said.error().contains("no such file"), "{}", said.error());
}
