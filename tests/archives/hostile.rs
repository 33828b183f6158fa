//! Archives from strangers: members that leave, links, damage, bombs. None reads or writes a file of the host.

use std::path::Path;

use super::{made, mkfs};
use crate::support::ext4::view;
use crate::support::program::diskwright;
use crate::support::tools::{command, must, quick_scratch, run};

/// A header of a member, with its checksum.
fn header(name: &str, kind: u8, size: u64, link: &str) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(157, link);
    put(257, "ustar\x0000");
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A member with its contents.
fn member(name: &str, kind: u8, contents: &[u8], link: &str) -> Vec<u8> {
    let mut bytes = header(name, kind, u64::try_from(contents.len()).unwrap(), link);
    bytes.extend_from_slice(contents);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str) -> Vec<u8> {
    member(name, b'0', b"contents", "")
}

fn symlink(name: &str, to: &str) -> Vec<u8> {
    member(name, b'2', b"", to)
}

/// libarchive writes each attribute twice, with one coded name; a version of sparse files that is not known is no plain file.
#[test]
fn records_of_other_programs_are_read_or_told() {
    let folder = quick_scratch();
    let out = folder.path().join("out.img");
    let coded = record("SCHILY.xattr.user.s%2Bp", "v") + &record("LIBARCHIVE.xattr.user.s%2Bp", "dg==");
    let nameless = record("SCHILY.xattr.user.", "v");
    let list = coded + &nameless + &record("SCHILY.acl.ace", "owner@:rw:fd:allow");
    let archive = written(folder.path(), &[member("x", b'x', list.as_bytes(), ""), file("f")]);
    let said = made(&archive, &out, &[]);
    for words in
        ["an access control list ace is left out", "an extended attribute without a name is left out"]
    {
        assert!(said.error().contains(words), "{}", said.error());
    }
    let found = crate::support::debugfs::view(&out);
    let names: Vec<&[u8]> = found.0[b"f".as_slice()].xattrs.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [b"user.s+p"]);
    let sparse = record("GNU.sparse.major", "2") + &record("GNU.sparse.minor", "0");
    let archive = written(folder.path(), &[member("x", b'x', sparse.as_bytes(), ""), file("f")]);
    let said = mkfs(&archive, &out, &[]);
    assert!(said.code == 1 && said.error().contains("version 2.0, of f"), "{}", said.error());
}

/// A character device of these numbers.
fn device(name: &str, major: &str, minor: &str) -> Vec<u8> {
    let mut block = header(name, b'3', 0, "");
    block[329..336].copy_from_slice(major.as_bytes());
    block[337..344].copy_from_slice(minor.as_bytes());
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let length = (1..).find(|digits| (rest + digits).to_string().len() == *digits).unwrap() + rest;
    format!("{length} {key}={value}\n")
}

fn written(folder: &Path, members: &[Vec<u8>]) -> std::path::PathBuf {
    let path = folder.join("hostile.tar");
    std::fs::write(&path, [members.concat(), vec![0; 1024]].concat()).unwrap();
    path
}

#[test]
fn members_that_leave_the_archive_are_refused() {
    let folder = quick_scratch();
    let out = folder.path().join("out.img");
    let outside = folder.path().join("outside");
    std::fs::write(&outside, "of the host").unwrap();
    for (members, words) in [
        (vec![file("../outside")], &["a member leaves the archive", "../outside"][..]),
        (vec![file("a/../../outside")], &["a member leaves the archive"]),
        (vec![symlink("a", ".."), file("a/outside")], &["by a symbolic link", "a/outside"]),
        (vec![symlink("a", "b/../.."), file("a/outside")], &["by a symbolic link"]),
        (vec![member("a", b'1', b"", "../outside")], &["a member leaves the archive", "../outside"]),
        (vec![member("a", b'1', b"", "outside")], &["a hard link leads to a member that is not there"]),
        (vec![member("a", b'1', b"", "/etc/passwd")], &["a hard link leads to a member", "/etc/passwd"]),
        (vec![symlink("a", "b"), symlink("b", "a"), file("a/c")], &["too many symbolic links"]),
        (vec![symlink("a", "")], &["cannot lead there"]),
        (vec![device("null", "7777777", "0000000")], &["a device of the archive", "null", "4095:1048575"]),
        (vec![file("a"), file("a/b")], &["below one that is not a directory", "a/b"]),
        (vec![file("a\nb/../c")], &["the path of a member goes up", "a\\x0ab"]),
    ] {
        let archive = written(folder.path(), &members);
        let said = mkfs(&archive, &out, &[]);
        assert_eq!(said.code, 1, "{}", said.error());
        for word in words.iter().copied().chain(["hostile.tar"]) {
            assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
        }
        assert!(!out.exists());
    }
    assert_eq!(std::fs::read(&outside).unwrap(), b"of the host");
}

/// A link leads to a place in the image, whatever the host has there.
#[test]
fn links_lead_to_places_in_the_image() {
    let folder = quick_scratch();
    let members = [
        symlink("lib", "usr/lib"),
        symlink("abs", "/etc"),
        file("lib/a"),
        file("abs/passwd"),
        file("/opt//./b"),
        member("c", b'1', b"", "/lib/a"),
    ];
    let (archive, out) = (written(folder.path(), &members), folder.path().join("out.img"));
    made(&archive, &out, &[]);
    let found = view(&out);
    for name in ["usr/lib/a", "etc/passwd", "opt/b", "c"] {
        assert_eq!(found.0[name.as_bytes()].size, 8, "{name}");
    }
    assert_eq!(found.0[b"etc/passwd".as_slice()].digest, found.0[b"c".as_slice()].digest);
}

/// It opens no file but its own, the archive and the output.
#[test]
fn no_other_file_of_the_host_is_opened() {
    let folder = quick_scratch();
    let members = [
        symlink("abs", "/etc"),
        file("abs/hostname"),
        member("null", b'3', b"", ""),
        symlink("x", "/proc/self/mem"),
    ];
    let (archive, out) = (written(folder.path(), &members), folder.path().join("out.img"));
    let mut traced = command("strace");
    traced.args(["-f", "-e", "trace=open,openat,openat2,readlink,readlinkat", "-o"]);
    let log = folder.path().join("log");
    traced
        .arg(&log)
        .arg(crate::support::program::path())
        .args(["mkfs", "ext4"])
        .arg(&archive)
        .arg("-o")
        .arg(&out);
    must(&mut traced);
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("hostile.tar"), "{log}");
    for name in ["/etc/hostname", "/etc\"", "/proc/self/mem"] {
        assert!(!log.contains(name), "{name} in\n{log}");
    }
}

#[test]
fn damage_is_told() {
    let folder = quick_scratch();
    let out = folder.path().join("out.img");
    let path = folder.path().join("damaged.tar");
    let whole = [file("a"), file("b"), vec![0; 1024]].concat();
    let mut flipped = whole.clone();
    flipped[1024] ^= 1;
    let gz = {
        std::fs::write(&path, &whole).unwrap();
        must(command("gzip").arg("-c").arg(&path)).out
    };
    let mut broken = gz.clone();
    let last = broken.len() - 5;
    broken[last] ^= 1;
    for (bytes, words) in [
        (Vec::new(), &["is a file that holds something"][..]),
        (b"no archive".to_vec(), &["the archive is not a tar"]),
        (vec![b'x'; 5000], &["the archive is not a tar"]),
        (whole[..515].to_vec(), &["ends in the middle", "a"]),
        (whole[..1030].to_vec(), &["ends in the middle"]),
        (member("x", b'x', record("path", "a").as_bytes(), ""), &["ends in the middle of a member"]),
        (flipped, &["the archive is damaged", "at byte 1024"]),
        (gz[..gz.len() / 2].to_vec(), &["cannot decompress the archive"]),
        (broken, &["cannot decompress the archive"]),
        ([b"BZh91AY&SY".as_slice(), &[0; 600]].concat(), &["bzip2", "bzip2 -dc"]),
        (header("a", b'0', 1 << 40, ""), &["ends in the middle of a member"]),
        (header("a", b'x', 1 << 40, ""), &["too much metadata"]),
        (header("a", b'L', 1 << 30, ""), &["too much metadata"]),
        (member("x", b'x', b"9 path=a", ""), &["a pax header of the archive is damaged"]),
        (
            [member("x", b'x', record("uid", "-1").as_bytes(), ""), file("a")].concat(),
            &["no user that can be kept"],
        ),
        (
            [member("x", b'x', record("mtime", "x").as_bytes(), ""), file("a")].concat(),
            &["no time that can be kept"],
        ),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        let said = mkfs(&path, &out, &[]);
        assert_eq!(said.code, 1, "{words:?}: {}", said.error());
        for word in words {
            assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
        }
        assert!(!out.exists());
    }
    std::fs::write(&path, &whole).unwrap();
    made(&path, &out, &[]);
}

#[test]
fn what_is_not_kept_is_told() {
    let folder = quick_scratch();
    let records = [record("NEW.key", "1"), record("SCHILY.acl.access", "user:joe:rwx")].concat();
    let members = [
        member("x", b'x', records.as_bytes(), ""),
        file("a"),
        member("x", b'x', record("NEW.key", "1").as_bytes(), ""),
        file("b"),
        member("c", b'Q', b"contents", ""),
        [vec![0; 512], file("behind")].concat(),
    ];
    let (archive, out) = (written(folder.path(), &members), folder.path().join("out.img"));
    let said = made(&archive, &out, &[]).error();
    for words in [
        "the unknown pax key NEW.key is left out, of a and one other member",
        "an access control list that names users without a number is left out, of a",
        "the unknown type Q is taken as that of a file, of c",
        "what follows the end of the archive is not read",
    ] {
        assert!(said.contains(words), "no `{words}` in\n{said}");
    }
    let found = view(&out);
    assert!(found.0.contains_key(b"c".as_slice()) && !found.0.contains_key(b"behind".as_slice()));
}

/// Attributes as the kernel would keep them, of members that say more.
#[test]
fn attributes_that_linux_does_not_store_are_left_out() {
    let folder = quick_scratch();
    let long = format!("SCHILY.xattr.user.{}", "n".repeat(251));
    let most = format!("SCHILY.xattr.user.{}", "m".repeat(250));
    let access = |text: &str| record("SCHILY.acl.access", text);
    let member = |name: &str, kind: u8, link: &str, records: &[String]| {
        [member("x", b'x', records.concat().as_bytes(), ""), member(name, kind, b"", link)].concat()
    };
    let default = record("SCHILY.acl.default", "");
    let value = "\u{2}\0\0\0\u{1}\0\u{7}\0";
    let members = [
        // As GNU tar writes a directory with one list and not the other, and one that says no more than its mode.
        member("d", b'5', "", &[access("user::rwx,user:55:rwx,group::r-x,mask::rwx,other::r-x"), default]),
        member("same", b'0', "", &[access("user::rw-,group::r--,other::r--")]),
        member("wrong", b'0', "", &[access("user::rw-,user:7:r--,group::r--,other::r--")]),
        member("bytes", b'0', "", &[record("SCHILY.xattr.system.posix_acl_access", value)]),
        member("long", b'0', "", &[record(&long, "v"), record(&most, "v")]),
        member("link", b'2', "same", &[record("SCHILY.xattr.user.a", "v")]),
    ];
    let (archive, out) = (written(folder.path(), &members), folder.path().join("out.img"));
    let said = made(&archive, &out, &[]).error();
    for words in [
        "an access control list that Linux does not take is left out, of wrong and one other member",
        "an extended attribute with a name of over 255 bytes is left out, of long",
        "an attribute of users is left out where only files and directories have some, of link",
    ] {
        assert!(said.contains(words), "no `{words}` in\n{said}");
    }
    let found = crate::support::debugfs::view(&out);
    let names = |path: &str| found.0[path.as_bytes()].xattrs.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names("d"), [b"system.posix_acl_access"]);
    assert_eq!(names("long"), [most.strip_prefix("SCHILY.xattr.").unwrap().as_bytes()]);
    for path in ["same", "wrong", "bytes", "link"] {
        assert!(names(path).is_empty(), "{path}");
    }
}

/// The size of a directory says how large it may become, and no data follow its header.
#[test]
fn a_directory_with_a_size_has_no_data() {
    let folder = quick_scratch();
    let members = [header("d/", b'5', 4096, ""), file("f")];
    let (archive, out) = (written(folder.path(), &members), folder.path().join("out.img"));
    let listed = must(command("tar").arg("-tf").arg(&archive));
    assert_eq!(listed.text(), "d/\nf\n");
    made(&archive, &out, &[]);
    assert!(view(&out).0.contains_key(b"f".as_slice()));
}

#[test]
fn an_archive_without_an_end_may_be_cut_off() {
    let folder = quick_scratch();
    let (path, out) = (folder.path().join("cut.tar"), folder.path().join("out.img"));
    // With and without the rest of its last block.
    for length in [1024, 700] {
        std::fs::write(&path, &file("a")[..length]).unwrap();
        let said = made(&path, &out, &[]).error();
        assert!(said.contains("its end is not marked, so it may be cut off"), "{said}");
    }
}

/// A signal while an archive comes in leaves nothing behind.
#[test]
fn a_pipe_that_ends_early_leaves_nothing() {
    let folder = quick_scratch();
    let out = folder.path().join("out.img");
    let part = folder.path().join("part");
    std::fs::write(&part, &file("a")[..515]).unwrap();
    let mut program = diskwright();
    program.args(["mkfs", "ext4", "-", "-o"]).arg(&out).stdin(std::fs::File::open(&part).unwrap());
    let said = run(&mut program);
    assert_eq!(said.code, 1);
    assert!(
        said.error().contains("standard input") && said.error().contains("ends in the middle"),
        "{}",
        said.error()
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// The seeds of the fuzz target, each with bytes changed, cut off and doubled: an archive or an error for people, never a bug.
#[test]
fn damaged_seeds_are_archives_or_errors_for_people() {
    use diskwright::archive::{Archive, Format, Place};
    use diskwright::disk::{Contents, Disk, Partition, Payload, Work};
    use diskwright::error::Kind;
    use diskwright::tree::{Rules, xattr::Patterns};

    let folder = quick_scratch();
    let path = folder.path().join("archive");
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/archive");
    let mut seeds: Vec<_> = std::fs::read_dir(seeds).unwrap().map(|seed| seed.unwrap().path()).collect();
    seeds.sort();
    let (mut good, mut bad) = (0, 0);
    for seed in &seeds {
        let whole = std::fs::read(seed).unwrap();
        let (kind, whole) = whole.split_first().unwrap();
        let random = crate::support::tree::noise(u64::from(*kind) + 7, 4096);
        for round in 0..120_usize {
            let number = |at: usize| {
                let at = (round * 16 + at) % (random.len() - 8);
                usize::try_from(u64::from_le_bytes(random[at..at + 8].try_into().unwrap()) >> 1).unwrap()
            };
            let mut bytes = whole.to_vec();
            match round % 4 {
                0 => bytes.truncate(number(0) % bytes.len()),
                1 => {
                    let piece = bytes[number(0) % bytes.len()..].to_vec();
                    bytes.extend(piece);
                }
                _ => {
                    for change in 0..=number(8) % 4 {
                        let at = number(change) % bytes.len();
                        bytes[at] = number(change + 3).to_le_bytes()[0];
                    }
                }
            }
            for block in bytes.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            std::fs::write(&path, &bytes).unwrap();
            let format = match kind {
                0 => Format::TarOrCpio,
                1 => Format::Cpio,
                _ => Format::Container { image: None, platform: None },
            };
            let archive = Archive { place: Place::Path(path.clone()), format };
            let payload = Payload::Archive { archive, rules: Rules::default(), xattrs: Patterns::default() };
            let contents = Contents::new().entry("/", payload);
            let ext4 = diskwright::filesystem::ext4::Options::default();
            let partition = Partition::new(diskwright::table::Type::LINUX).filesystem(ext4, contents);
            let seed = diskwright::identity::Seed::new(uuid::Uuid::nil());
            match Disk::bare(seed).partition(partition).build(&Work { jobs: 1, ..Work::default() }) {
                Ok(_) => good += 1,
                Err(error) => {
                    let message = error.to_string();
                    assert!(error.kind() != Kind::Bug, "{message}");
                    assert!(!message.chars().any(|c| c.is_control() && c != '\n'), "{message:?}");
                    bad += 1;
                }
            }
        }
    }
    assert!(good > 20 && bad > 200, "{good} and {bad}");
}
