//! `copy`: what was copied is what the kernel's mount shows, for any user who copies; and nothing is written elsewhere.

use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use crate::support::compare::{ALL, ALL_BUT_HOLES, Aspect, assert_same};
use crate::support::left_out;
use crate::support::program::{
    as_nobody, copy_to, diskwright, mkfs_erofs, mkfs_ext4, mkfs_squashfs, mkfs_vfat,
};
use crate::support::snapshot::{Kind, Snapshot};
use crate::support::tools::{Said, command, is_root, must, names_in, quick_scratch, run, scratch};
use crate::support::tree::{self, Maker};

fn copy(address: &str, folder: &Path, arguments: &[&str]) -> Said {
    run(diskwright().arg("copy").arg(address).arg(folder).args(arguments))
}

fn address(image: &Path, path: &str) -> String {
    format!("{}:{path}", image.display())
}

/// Everything that the source has, in each filesystem that keeps it.
#[test]
fn a_whole_tree_is_copied_as_it_was() {
    left_out::need_root("owners of copies");
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    tree::strange(&source, 2000, tree::Host::Linux);
    let expected = Snapshot::of(&source).without_host_labels();
    mkfs_ext4(&source, &image, &["--owner", "preserve"]);
    let out = folder.path().join("ext4");
    let said = copy(&address(&image, "/"), &out, &["--owner", "preserve"]);
    assert_eq!((said.code, said.error().as_str()), (0, ""));
    std::fs::remove_dir(out.join("lost+found")).unwrap();
    tree::date(&out, tree::USUAL);
    // The host counts the links of directories itself, as it did for the source.
    assert_same("the copy", &expected, &Snapshot::of(&out).without_host_labels(), &ALL);
    std::fs::remove_dir_all(&out).unwrap();
    mkfs_erofs(&source, &image, &["--owner", "preserve", "--compress", "lz4"]);
    let said = copy(&address(&image, "/"), &out, &["--owner", "preserve"]);
    assert_eq!((said.code, said.error().as_str()), (0, ""));
    assert_same("the copy", &expected, &Snapshot::of(&out).without_host_labels(), &ALL_BUT_HOLES);
}

#[test]
fn squashfs_and_fat_are_copied_too() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    tree::plain(&source);
    let expected = Snapshot::of(&source);
    let aspects = [Aspect::Mode, Aspect::Time, Aspect::Groups, Aspect::Bytes, Aspect::Target];
    for compress in ["none", "xz", "gzip", "lz4"] {
        mkfs_squashfs(&source, &image, &["--compress", compress]);
        let out = folder.path().join(compress);
        assert_eq!(copy(&address(&image, "/"), &out, &[]).code, 0);
        assert_same(compress, &expected, &Snapshot::of(&out), &aspects);
    }
    mkfs_vfat(&source.join("bin"), &image, &["--size", "8MiB"]);
    let out = folder.path().join("fat");
    assert_eq!(copy(&address(&image, "/"), &out, &[]).code, 0);
    let expected = Snapshot::of(&source.join("bin"));
    assert_same("FAT", &expected, &Snapshot::of(&out), &[Aspect::Bytes]);
}

#[test]
fn anybody_can_copy_and_is_told_what_is_lost() {
    left_out::need_root("another user who copies");
    let folder = tempfile::Builder::new().prefix("diskwright").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let source = crate::list::source(folder.path());
    let (image, out) = (folder.path().join("image.img"), folder.path().join("out"));
    mkfs_ext4(&source, &image, &["--owner", "preserve"]);
    let program = copy_to(folder.path());
    let said = run(as_nobody(&program).arg("copy").arg(address(&image, "/")).arg(&out));
    assert_eq!(said.code, 0, "{}", said.error());
    for words in
        ["2 files lack devices", "2 files lack set-id bits", "1 file lacks the attribute security.capability"]
    {
        assert!(said.error().contains(words), "no `{words}` in {}", said.error());
    }
    assert_eq!(said.error().lines().count(), 3, "{}", said.error());
    let mut expected = Snapshot::of(&source).owned_by(65_534, 65_534).without_host_labels();
    for (path, entry) in &mut expected.0 {
        entry.mode &= if entry.kind == Kind::Directory { 0o7777 } else { 0o1777 };
        entry.xattrs.remove(b"security.capability".as_slice());
        if path.is_empty() {
            entry.links += 1;
        }
    }
    expected.0.retain(|_, entry| !matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice));
    let mut found = Snapshot::of(&out).without_host_labels();
    assert!(found.0.remove(b"lost+found".as_slice()).is_some());
    found.0.get_mut(b"".as_slice()).unwrap().mtime = expected.0[b"".as_slice()].mtime;
    assert_same("the copy", &expected, &found, &ALL);
    let mut theirs = as_nobody(&program);
    theirs.arg("copy").arg(address(&image, "/")).arg(folder.path().join("more"));
    let said = run(theirs.args(["--owner", "preserve"]));
    assert!(said.code == 2 && said.error().contains("--tar"), "{}", said.error());
}

#[test]
fn a_copy_goes_where_it_was_sent() {
    let folder = scratch();
    let (source, image) = (crate::list::source(folder.path()), folder.path().join("image.img"));
    mkfs_ext4(&source, &image, &[]);
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    // Into a folder that exists, under its own name; under another name.
    assert_eq!(copy(&address(&image, "/etc/conf.d"), &out, &[]).code, 0);
    assert_eq!(std::fs::read(out.join("conf.d/x.conf")).unwrap(), b"x");
    assert_eq!(copy(&address(&image, "/etc/a.conf"), &out.join("renamed"), &[]).code, 0);
    assert_eq!(std::fs::read(out.join("renamed")).unwrap(), b"a");
    assert_eq!(copy(&address(&image, "/etc/*.conf"), &out, &[]).code, 0);
    assert_eq!(names_in(&out), ["a.conf", "b.conf", "conf.d", "renamed"]);
    // A link is copied as a link.
    assert_eq!(copy(&address(&image, "/link"), &out, &[]).code, 0);
    assert_eq!(std::fs::read_link(out.join("link")).unwrap(), Path::new("etc/a.conf"));
    // The contents of a root go into a folder that exists.
    let into = folder.path().join("into");
    std::fs::create_dir(&into).unwrap();
    assert_eq!(copy(&address(&image, "/"), &into, &[]).code, 0);
    assert_eq!(std::fs::read(into.join("etc/a.conf")).unwrap(), b"a");
    // What exists stays, and nothing is left behind.
    for (path, target) in [("/etc/a.conf", &out), ("/etc", &out.join("renamed")), ("/", &into)] {
        let before = names_in(&out);
        let said = copy(&address(&image, path), target, &[]);
        assert!(said.code == 1 && said.error().contains("exists"), "{path}: {}", said.error());
        assert_eq!(names_in(&out), before);
    }
    let said = copy(&address(&image, "/etc/*.conf"), &folder.path().join("nowhere"), &[]);
    assert!(said.code == 2 && said.error().contains("need a folder that exists"), "{}", said.error());
    let said = copy(&address(&image, "/etc"), &folder.path().join("no/where"), &[]);
    assert!(said.code == 1 && !folder.path().join("no").exists(), "{}", said.error());
}

/// Links of the host in the folder, and names in the image that would lead elsewhere.
#[test]
fn nothing_is_written_outside_of_the_folder() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    let outside = folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let mut maker = Maker::new(&source);
    maker
        .symlink("aa", outside.as_os_str().as_encoded_bytes())
        .directory("ab")
        .file("ab/file", "written elsewhere");
    maker.symlink("file", "../outside/file").finish();
    let mut mke2fs = command("mke2fs");
    must(
        mke2fs
            .args(["-q", "-F", "-O", "^metadata_csum,^has_journal", "-d"])
            .arg(&source)
            .arg(&image)
            .arg("2M"),
    );
    let untouched = || assert!(names_in(&outside).is_empty(), "{:?}", names_in(&outside));
    // A link of the host where the image has a directory, and where it has a file.
    for name in ["ab", "file"] {
        let out = folder.path().join(format!("out-{name}"));
        std::fs::create_dir(&out).unwrap();
        std::os::unix::fs::symlink(
            if name == "ab" { outside.clone() } else { outside.join("file") },
            out.join(name),
        )
        .unwrap();
        let said = copy(&address(&image, "/"), &out, &[]);
        assert_eq!(said.code, 1, "{name}: {}", said.error());
        untouched();
    }
    // Two names that are the same: a link, and a directory that would be made behind it.
    let bytes = std::fs::read(&image).unwrap();
    let at = bytes.windows(4).position(|window| window == [2, 2, b'a', b'b']).expect("the entry of ab");
    let hostile = File::options().write(true).open(&image).unwrap();
    hostile.write_all_at(b"aa", u64::try_from(at + 2).unwrap()).unwrap();
    let out = folder.path().join("out");
    let said = copy(&address(&image, "/"), &out, &[]);
    assert!(said.code == 1 && said.error().contains("the same name twice"), "{}", said.error());
    assert!(!out.exists());
    untouched();
    // A name that leads up.
    hostile.write_all_at(b"..", u64::try_from(at + 2).unwrap()).unwrap();
    let said = copy(&address(&image, "/"), &out, &[]);
    untouched();
    let names = names_in(folder.path());
    assert!(!names.iter().any(|name| name == "file"), "{names:?}: {}", said.error());
    // A slash in a name.
    hostile.write_all_at(b"a/", u64::try_from(at + 2).unwrap()).unwrap();
    let _ = std::fs::remove_dir_all(&out);
    let said = copy(&address(&image, "/"), &out, &[]);
    assert!(said.code == 1 && said.error().contains("a name in it is not valid"), "{}", said.error());
    assert!(!out.exists());
    let left: Vec<_> = names_in(folder.path());
    assert!(!left.iter().any(|name| name.as_encoded_bytes().starts_with(b".diskwright")), "{left:?}");
}

/// A directory that holds itself, and a file that is cut off.
#[test]
fn a_damaged_image_is_one_error_and_no_copy() {
    let folder = quick_scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    let mut maker = Maker::new(&source);
    maker.directory("one").directory("one/two").file("one/two/three", tree::noise(1, 900_000)).finish();
    let mut mke2fs = command("mke2fs");
    must(mke2fs.args(["-q", "-F", "-t", "ext2", "-d"]).arg(&source).arg(&image).arg("4M"));
    crate::support::debugfs::damage(&image, "ln /one /one/two/loop\n");
    let out = folder.path().join("out");
    let said = copy(&address(&image, "/"), &out, &[]);
    assert!(
        said.code == 1 && said.error().contains("a directory has two names, or holds itself"),
        "{}",
        said.error()
    );
    assert!(said.error().contains("/one/two/loop") && !out.exists(), "{}", said.error());
    let listed = run(diskwright().args(["ls", "-R"]).arg(address(&image, "/")));
    assert!(listed.code == 1 && listed.error().contains("holds itself") && listed.text().contains("three"));
    let length = std::fs::metadata(&image).unwrap().len();
    File::options().write(true).open(&image).unwrap().set_len(length / 2).unwrap();
    let said = copy(&address(&image, "/"), &out, &[]);
    assert!(said.code == 1 && said.error().contains("longer than what holds it"), "{}", said.error());
    assert_eq!(said.error().matches("error:").count(), 1);
}

/// `copy --tar` into `tar -x`.
fn through_tar(address: &str, out: &Path, extract: &[&str]) {
    std::fs::create_dir(out).unwrap();
    let archive = out.with_extension("tar");
    let mut ours = diskwright();
    ours.arg("copy").arg(address).arg("--tar").stdout(File::create(&archive).unwrap()).stderr(Stdio::piped());
    let said = ours.spawn().unwrap().wait_with_output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let mut tar = command("tar");
    must(tar.args(extract).arg("-f").arg(&archive).arg("-C").arg(out));
    std::fs::remove_file(archive).unwrap();
}

#[test]
fn an_archive_has_everything() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    tree::strange(&source, 500, tree::Host::Linux);
    mkfs_ext4(&source, &image, &["--owner", "preserve"]);
    let out = folder.path().join("out");
    through_tar(&address(&image, "/"), &out, &["-xp", "--xattrs", "--xattrs-include=*", "--numeric-owner"]);
    let mut expected = Snapshot::of(&source).without_host_labels();
    // No archive has sockets.
    expected.0.retain(|_, entry| entry.kind != Kind::Socket);
    std::fs::remove_dir(out.join("lost+found")).unwrap();
    let mut found = Snapshot::of(&out).without_host_labels();
    let root = expected.0[b"".as_slice()].clone();
    found.0.insert(Vec::new(), root);
    for snapshot in [&mut expected, &mut found] {
        for entry in snapshot.0.values_mut().filter(|entry| entry.kind == Kind::Socket) {
            entry.links = 1;
        }
    }
    let aspects: &[Aspect] = if is_root() {
        &ALL_BUT_HOLES
    } else {
        &[Aspect::Time, Aspect::Links, Aspect::Groups, Aspect::Bytes, Aspect::Target]
    };
    assert_same("tar", &expected, &found, aspects);
}

/// Lists of access as `tar --acls` takes them, which does not look at the attributes.
#[test]
fn an_archive_has_acls_as_text() {
    left_out::need_root("ACLs in an archive");
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    let acl =
        tree::acl(&[(1, 7, u32::MAX), (2, 5, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]);
    let mut maker = Maker::new(&source);
    maker.file("file", "f").directory("d").xattr("file", "system.posix_acl_access", &acl);
    maker.xattr("d", "system.posix_acl_default", &acl).finish();
    mkfs_ext4(&source, &image, &["--owner", "preserve"]);
    let out = folder.path().join("out");
    through_tar(&address(&image, "/"), &out, &["-xp", "--acls", "--numeric-owner"]);
    for (path, name) in [("file", "system.posix_acl_access"), ("d", "system.posix_acl_default")] {
        let xattrs = &Snapshot::of(&out).0[path.as_bytes()].xattrs;
        assert_eq!(xattrs.get(name.as_bytes()), Some(&acl), "{path}");
    }
}

/// The error names the folder, and not the name that the copy would have had meanwhile.
#[test]
fn a_folder_that_cannot_be_written_is_named_as_it_is() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    tree::plain(&source);
    mkfs_ext4(&source, &image, &[]);
    let said = copy(&address(&image, "/"), &folder.path().join("no/where"), &[]);
    assert!(said.code == 1 && said.error().contains("entity not found"), "{}", said.error());
    assert!(!said.error().contains(".diskwright-"), "{}", said.error());
}

/// Holes take no space in an archive, and are there after it.
#[test]
fn holes_of_an_archive_are_holes() {
    let folder = scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    let mut maker = Maker::new(&source);
    maker.sparse("middle", 900 << 20, &[(450 << 20, 5000), (700 << 20, 4096)]).sparse("all", 300 << 20, &[]);
    maker.sparse("end", 50 << 20, &[((50 << 20) - 4096, 4096)]).finish();
    mkfs_ext4(&source, &image, &[]);
    let out = folder.path().join("out");
    through_tar(&address(&image, "/"), &out, &["-x"]);
    std::fs::remove_dir(out.join("lost+found")).unwrap();
    let aspects = [Aspect::Mode, Aspect::Bytes, Aspect::Holes];
    let (mut expected, mut found) = (Snapshot::of(&source), Snapshot::of(&out));
    for snapshot in [&mut expected, &mut found] {
        snapshot.0.remove(b"".as_slice());
    }
    assert_same("tar", &expected, &found, &aspects);
    let mut ours = diskwright();
    let archive = must(ours.arg("copy").arg(address(&image, "/")).arg("--tar"));
    assert!(archive.out.len() < 100_000, "{} bytes", archive.out.len());
}
