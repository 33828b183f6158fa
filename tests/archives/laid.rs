//! Several sources over one another, and metadata for what they bring.

use std::path::Path;

use super::gnu_tar;
use crate::support::ext4::{assert_clean, view};
use crate::support::program::{build, diskwright};
use crate::support::snapshot::Snapshot;
use crate::support::tools::{Said, quick_scratch, run};
use crate::support::{debugfs, tools};

/// A folder with a system as a tar, and what lies over it.
fn project() -> tempfile::TempDir {
    let folder = quick_scratch();
    let base = folder.path().join("base");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("base/etc/passwd", "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n");
    write("base/etc/group", "root:x:0:\nadm:x:4:\nwww-data:x:33:\n");
    write("base/etc/hostname", "base\n");
    write("base/usr/bin/ping", "ping");
    write("base/usr/bin/tool", "tool");
    write("base/usr/share/doc/a/readme", "doc");
    write("base/usr/share/doc/b/readme", "doc");
    write("base/var/cache/x", "cache");
    write("base/boot/old/file", "old");
    write("overlay/etc/hostname", "overlay\n");
    write("overlay/etc/motd", "motd\n");
    write("overlay/boot/old", "a file where a folder was");
    write("www/index.html", "index");
    let archive = folder.path().join("base.tar");
    gnu_tar(&base, &["--owner=5", "--group=6", "-cf", archive.to_str().unwrap(), "."]);
    folder
}

fn manifest(contents: &str) -> String {
    format!(
        "version = 1\n[disk]\ntable = \"none\"\nsize = \"32MiB\"\n[[partition]]\nfilesystem = {{ type = \"ext4\" }}\ncontents = [\n{contents}\n]\n"
    )
}

fn built(folder: &Path, contents: &str) -> (Snapshot, Said) {
    let (path, out) = (folder.join("disk.toml"), folder.join("disk.img"));
    std::fs::write(&path, manifest(contents)).unwrap();
    let said = build(&path, &out);
    assert_clean(&out);
    (debugfs::view(&out).without_lost_and_found(), said)
}

fn refused(folder: &Path, contents: &str, words: &[&str]) {
    let (path, out) = (folder.join("disk.toml"), folder.join("none.img"));
    std::fs::write(&path, manifest(contents)).unwrap();
    let said = run(diskwright().arg("build").arg(&path).arg("-o").arg(&out));
    assert!(said.code != 0 && !out.exists(), "{}", said.error());
    for word in words {
        assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
    }
}

#[test]
fn later_entries_replace_where_they_are_told_to() {
    let folder = project();
    let (found, said) = built(
        folder.path(),
        r#"  { tar = "base.tar", target = "/", exclude = ["var/cache/*", "usr/share/doc"] },
  { source = "overlay", target = "/", replace = true },
  { text = "last\n", target = "/etc/motd", replace = true, owner = "root:adm" },
  { symlink = "tool", target = "/usr/bin/ping", replace = true },
  { directory = true, target = "/tmp" },
  { directory = true, target = "/tmp", mode = "1777", replace = true },"#,
    );
    let entry = |name: &str| found.0.get(name.as_bytes());
    assert_eq!(entry("etc/hostname").unwrap().size, 8);
    assert_eq!((entry("etc/motd").unwrap().size, entry("etc/motd").unwrap().gid), (5, 4));
    assert_eq!(entry("usr/bin/ping").unwrap().target, b"tool");
    assert_eq!(entry("boot/old").unwrap().size, 25);
    assert_eq!((entry("etc/passwd").unwrap().uid, entry("etc/passwd").unwrap().gid), (5, 6));
    assert_eq!(entry("etc/hostname").unwrap().uid, 0);
    assert_eq!(entry("tmp").unwrap().mode, 0o1777);
    for gone in ["var/cache/x", "usr/share/doc", "boot/old/file"] {
        assert!(entry(gone).is_none(), "{gone}");
    }
    assert!(entry("var/cache").is_some() && entry("usr/share").is_some());
    assert!(!said.error().contains("replaces nothing"), "{}", said.error());
}

#[test]
fn names_are_those_of_the_image() {
    let folder = project();
    let (found, _) = built(
        folder.path(),
        r#"  { tar = "base.tar", target = "/" },
  { source = "www", target = "/var/www", owner = "www-data:www-data" },
  { metadata = true, target = "/usr/bin/ping", mode = "0750", owner = "www-data:adm", set_xattrs = { "security.capability" = "cap_net_raw+ep", "user.note" = "0x0a00" } },
  { metadata = true, target = "/usr/share/*", below = true, owner = "0:33", mtime = 99 },"#,
    );
    let entry = |name: &str| &found.0[name.as_bytes()];
    for name in ["var/www", "var/www/index.html"] {
        assert_eq!((entry(name).uid, entry(name).gid), (33, 33), "{name}");
    }
    assert_eq!((entry("var").uid, entry("var").gid), (5, 6));
    let ping = entry("usr/bin/ping");
    assert_eq!((ping.mode, ping.uid, ping.gid), (0o750, 33, 4));
    assert_eq!(ping.xattrs[b"user.note".as_slice()], b"\n\0");
    assert_eq!(ping.xattrs[b"security.capability".as_slice()][..8], [1, 0, 0, 2, 0, 0x20, 0, 0]);
    for name in ["usr/share/doc", "usr/share/doc/a/readme"] {
        assert_eq!((entry(name).uid, entry(name).gid, entry(name).mtime.0), (0, 33, 99), "{name}");
    }
    assert_eq!(entry("usr/share").gid, 6);
}

/// getcap(8) reads back what setcap(8) would have set.
#[test]
fn capabilities_are_what_setcap_sets() {
    crate::support::left_out::need_root("setcap(8) works only as root");
    let folder = tools::scratch();
    let path = folder.path().join("program");
    for text in [
        "cap_net_raw+ep",
        "cap_chown,cap_kill=p",
        "cap_setuid=eip",
        "cap_bpf,cap_perfmon=ep cap_sys_time+eip",
    ] {
        std::fs::write(&path, "").unwrap();
        tools::must(tools::command("setcap").arg(text).arg(&path));
        let mut value = [0; 64];
        let length = rustix::fs::lgetxattr(&path, "security.capability", &mut value[..]).unwrap();
        let ours = diskwright_xattr(text);
        assert_eq!(value[..length], ours, "{text}");
    }
}

fn diskwright_xattr(text: &str) -> Vec<u8> {
    diskwright::tree::Xattr::from_text("security.capability", text).unwrap().value
}

#[test]
fn an_included_path_brings_its_directories() {
    let folder = project();
    for source in [r#"tar = "base.tar""#, r#"source = "base""#] {
        let (found, _) = built(
            folder.path(),
            &format!(
                "  {{ {source}, target = \"/\", include = [\"etc\", \"usr/*/ping\"], exclude = [\"./etc/grou?\"] }},"
            ),
        );
        let names: Vec<&[u8]> = found.0.keys().map(Vec::as_slice).collect();
        let expected: [&[u8]; 7] =
            [b"", b"etc", b"etc/hostname", b"etc/passwd", b"usr", b"usr/bin", b"usr/bin/ping"];
        assert_eq!(names, expected, "{source}");
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let folder = project();
    let base = r#"  { tar = "base.tar", target = "/" },"#;
    refused(
        folder.path(),
        &format!("{base}\n  {{ source = \"overlay\", target = \"/\" }},"),
        &["two entries for one target"],
    );
    for (entry, words) in [
        (
            r#"{ text = "", target = "/x", owner = "nobody:adm" }"#,
            &["there is no user `nobody` in the image", "/etc/passwd"][..],
        ),
        (r#"{ text = "", target = "/x", owner = "www-dat:adm" }"#, &["did you mean `www-data`?"]),
        (r#"{ text = "", target = "/x", owner = "root:2x" }"#, &["an owner is"]),
        (
            r#"{ tar = "base.tar", target = "/t", include = ["etc", "nothing"] }"#,
            &["nothing of the source matches", "found: nothing"],
        ),
        (
            r#"{ source = "base", target = "/t", include = ["no/*"] }"#,
            &["nothing of the source matches", "found: no/*"],
        ),
        (r#"{ metadata = true, target = "/none", mode = "0644" }"#, &["nothing is there", "/none"]),
        (r#"{ metadata = true, target = "/etc" }"#, &["the entry changes nothing"]),
        (
            r#"{ metadata = true, target = "/etc", set_xattrs = { "security.capability" = "net_raw" } }"#,
            &["the attribute cannot have this value", "disk.toml:9"],
        ),
        (
            r#"{ metadata = true, target = "/etc", set_xattrs = { "note" = "x" } }"#,
            &["user., trusted., security. or system."],
        ),
        (r#"{ tar = "none.tar", target = "/t" }"#, &["the source does not exist", "none.tar", "disk.toml:9"]),
        (r#"{ tar = "www", target = "/t" }"#, &["an archive is a file that holds something"]),
        (
            r#"{ tar = "-", target = "/t" }, { cpio = "-", target = "/u" }"#,
            &["a second archive is read from standard input", "disk.toml:9"],
        ),
        (r#"{ cpio = "base.tar", target = "/t" }"#, &["the archive is not a cpio"]),
        (r#"{ oci = "base.tar", target = "/t" }"#, &["the source is not an image of a container"]),
        (r#"{ tar = "base.tar", target = "/t", mode = "0755" }"#, &["`mode` means nothing for a tar"]),
        (
            r#"{ metadata = true, target = "/etc", set_xattrs = { "foo.bar" = "x" } }"#,
            &["an attribute cannot have this name", "found: `foo.bar`"],
        ),
        (r#"{ text = "", target = "/x", exclude = ["a"] }"#, &["`exclude` means nothing for a text"]),
        (
            r#"{ tar = "x.tar", target = "/x", one_file_system = true }"#,
            &["`one_file_system` means nothing for a tar"],
        ),
    ] {
        refused(folder.path(), &format!("{base}\n  {entry},"), words);
    }
}

#[test]
fn an_entry_that_replaces_nothing_is_told() {
    let folder = project();
    let (found, said) = built(
        folder.path(),
        r#"  { tar = "base.tar", target = "/" },
  { text = "x", target = "/etc/new", replace = true },"#,
    );
    assert!(found.0.contains_key(b"etc/new".as_slice()));
    assert!(
        said.error().contains("/etc/new is to replace something, and replaces nothing"),
        "{}",
        said.error()
    );
}

/// Directories of the second source lie where the first one has links, as /bin to usr/bin, or a file.
#[test]
fn directories_in_the_place_of_links_are_told() {
    let folder = project();
    let contents = |second: &str| {
        format!(
            r#"  {{ text = "x", target = "/usr/bin/sh" }},
  {{ symlink = "usr/bin", target = "/bin" }},
  {{ text = "x", target = "/opt" }},
  {second},"#
        )
    };
    let second = r#"{ source = "www", target = "/bin", replace = true }"#;
    let (found, said) = built(folder.path(), &contents(second));
    assert!(found.0.contains_key(b"bin/index.html".as_slice()));
    assert!(
        said.error().contains("take the place of symbolic links, and hide what those led to: /bin"),
        "{}",
        said.error()
    );
    let second = r#"{ tar = "base.tar", target = "/opt", replace = true }"#;
    let (found, said) = built(folder.path(), &contents(second));
    assert!(found.0.contains_key(b"opt/etc/hostname".as_slice()));
    assert!(!said.error().contains("symbolic links"), "{}", said.error());
}

/// Only the directories above what matches come with it, from a folder and from an archive.
#[test]
fn an_included_pattern_brings_no_empty_directories() {
    let folder = project();
    for source in ["source = \"base\"", "tar = \"base.tar\""] {
        let (found, _) = built(
            folder.path(),
            &format!(
                "  {{ {source}, target = \"/\", include = [\"**/readme\", \"var/**\"], exclude = [\"var/cache/**\"] }},"
            ),
        );
        let names: Vec<&[u8]> = found.0.keys().map(Vec::as_slice).filter(|name| !name.is_empty()).collect();
        let expected: [&[u8]; 9] = [
            b"usr",
            b"usr/share",
            b"usr/share/doc",
            b"usr/share/doc/a",
            b"usr/share/doc/a/readme",
            b"usr/share/doc/b",
            b"usr/share/doc/b/readme",
            b"var",
            b"var/cache",
        ];
        assert_eq!(names, expected, "{source}");
    }
}

/// What was replaced leaves nothing: neither links, nor holes, nor names that are too long.
#[test]
fn a_tar_over_a_tar_is_the_second() {
    let folder = project();
    let (found, _) = built(
        folder.path(),
        r#"  { tar = "base.tar", target = "/" },
  { tar = "base.tar", target = "/", replace = true },"#,
    );
    let out = folder.path().join("disk.img");
    let twice = view(&out);
    built(folder.path(), r#"  { tar = "base.tar", target = "/" },"#);
    assert_eq!(twice, view(&out));
    assert!(found.0.len() > 10);
}
