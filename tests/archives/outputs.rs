//! Several outputs of one build: made from one read, all or none, each the same as by itself.

use std::path::Path;

use crate::support::program::{diskwright, project};
use crate::support::reads;
use crate::support::tools::{Said, command, digest, must, names_in, run, scratch};
use crate::support::tree::{Maker, noise};

/// The manifest of a disk without outputs; its tree is made once.
fn plain(folder: &Path) -> std::path::PathBuf {
    let made = std::fs::read_to_string(folder.join("which")).ok();
    let path = made.map_or_else(|| project(folder)[0].clone(), Into::into);
    std::fs::write(folder.join("which"), path.to_str().unwrap()).unwrap();
    path
}

/// The manifest of a disk, with more lines at its end.
fn manifest(folder: &Path, more: &str) -> std::path::PathBuf {
    let manifest = plain(folder);
    let text = std::fs::read_to_string(&manifest).unwrap();
    let path = folder.join("several.toml");
    std::fs::write(&path, format!("{text}\n{more}")).unwrap();
    path
}

/// `diskwright build` of a manifest in `folder`/out, where outputs without a folder go.
fn build(folder: &Path, manifest: &Path, arguments: &[&str]) -> Said {
    let out = folder.join("out");
    std::fs::create_dir_all(&out).unwrap();
    run(diskwright().current_dir(&out).arg("build").arg(manifest).args(arguments))
}

/// Every form but those that make the disk longer.
const FORMS: [&str; 11] = [
    "a.img",
    "b.qcow2",
    "c.vhd",
    "d.vdi",
    "e.vmdk",
    "f.vhdx",
    "g.raw.zst",
    "h.raw.gz",
    "i.raw.xz",
    "j.simg",
    "k.ova",
];

#[test]
fn each_of_several_outputs_is_what_it_is_alone() {
    let folder = scratch();
    let plain = plain(folder.path());
    let alone = folder.path().join("alone");
    std::fs::create_dir(&alone).unwrap();
    for name in FORMS {
        must(diskwright().current_dir(&alone).arg("build").arg(&plain).args(["-o", name]));
    }
    let expected: Vec<String> = FORMS.iter().map(|name| digest(&alone.join(name))).collect();
    // With a raw one among them, and without, when they are made from a file that has no name.
    for first in [0, 1] {
        let forms = &FORMS[first..];
        let list: String = forms.iter().map(|name| format!("[[output]]\npath = \"{name}\"\n")).collect();
        let several = manifest(folder.path(), &list);
        let flags: Vec<&str> = forms.iter().flat_map(|name| ["-o", name]).collect();
        for (manifest, arguments) in [(&several, &["--jobs", "3"][..]), (&plain, flags.as_slice())] {
            let said = build(folder.path(), manifest, arguments);
            assert_eq!(said.code, 0, "{}", said.error());
            let out = folder.path().join("out");
            assert_eq!(names_in(&out).len(), forms.len());
            for (name, expected) in FORMS.iter().zip(&expected).skip(first) {
                assert_eq!(&digest(&out.join(name)), expected, "{name} of {} outputs", forms.len());
            }
            std::fs::remove_dir_all(out).unwrap();
        }
    }
}

/// The bytes that are read from files below the sources of the manifest.
fn read_bytes(folder: &Path, manifest: &Path, arguments: &[&str]) -> u64 {
    let out = folder.join("out");
    std::fs::create_dir_all(&out).unwrap();
    let mut build = diskwright();
    reads::below(&folder.join("tree"), build.arg("build").arg(manifest).args(arguments).current_dir(&out))
}

#[test]
fn sources_are_read_once_for_all_outputs() {
    let folder = scratch();
    let plain = manifest(folder.path(), "");
    // A scan reads a small file twice if it was written a moment ago.
    let tree = folder.path().join("tree");
    must(command("find").arg(tree).args(["-exec", "touch", "-h", "-d", "@1000000000", "{}", "+"]));
    let once = read_bytes(folder.path(), &plain, &["-o", "a.img"]);
    assert!(once > 1_000_000, "{once}");
    for outputs in [
        &["-o", "a.img", "-o", "b.qcow2", "-o", "c.raw.zst"][..],
        &["-o", "b.qcow2", "-o", "c.ova", "-o", "d.tar.gz"],
    ] {
        assert_eq!(read_bytes(folder.path(), &plain, outputs), once, "{outputs:?}");
    }
    // Two builds read twice, so the sum would show it.
    let two: u64 =
        ["a.img", "b.qcow2"].iter().map(|name| read_bytes(folder.path(), &plain, &["-o", name])).sum();
    assert_eq!(two, 2 * once);
}

/// A pool is packed before it is laid out. What is compressed is read for that alone, and so are small files; long files that
/// stay as they are are read again while the disk is written.
#[test]
fn what_a_pool_compresses_is_read_once() {
    let folder = scratch();
    let mut maker = Maker::new(&folder.path().join("tree"));
    for number in 0..40_u32 {
        let line = format!("line {number} of a text that is long and says little\n");
        maker.file(format!("text-{number}"), line.repeat(1000));
        maker.file(format!("small-{number}"), noise(number.into(), 10_000));
    }
    maker.finish();
    let read = |filesystem: &str| {
        let manifest = folder.path().join("disk.toml");
        let text = format!(
            "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nfilesystem = {{ {filesystem} }}\n\
             contents = [ {{ source = \"tree\", target = \"/\" }} ]\n"
        );
        std::fs::write(&manifest, text).unwrap();
        read_bytes(folder.path(), &manifest, &["-o", "a.img"])
    };
    // The first reads small files twice where they were written a moment ago.
    read("type = \"ext4\"");
    let once = read("type = \"ext4\"");
    assert!(once > 2_000_000, "{once}");
    for compress in ["lz4", "gzip-6"] {
        assert_eq!(read(&format!("type = \"zfs\", compress = \"{compress}\"")), once, "{compress}");
    }
    // Of the texts, which are longer than what is kept, each byte is read twice, and of the other files once.
    let long: u64 = (0..40)
        .map(|number| folder.path().join(format!("tree/text-{number}")))
        .map(|path| std::fs::metadata(path).unwrap().len())
        .sum();
    assert_eq!(read("type = \"zfs\", compress = \"off\""), once + long);
}

#[test]
fn keys_of_an_output_decide_about_it_alone() {
    let folder = scratch();
    let several = manifest(
        folder.path(),
        r#"
[[output]]
path = "one"
format = "qcow2"
compress = "zstd"
level = 9
cluster_size = "128KiB"
sha256 = true
[[output]]
path = "sub/two.img"
bmap = true
sha256 = true
[[output]]
path = "three.bin"
package = "zstd"
level = 1
split = "1MiB"
[[output]]
path = "four.vhd"
subformat = "fixed"
"#,
    );
    let out = folder.path().join("out");
    std::fs::create_dir_all(out.join("sub")).unwrap();
    let said = build(folder.path(), &several, &["--json"]);
    assert_eq!(said.code, 0, "{}", said.error());
    let report: serde_json::Value = serde_json::from_str(&said.text()).unwrap();
    assert_eq!(report["outputs"].as_array().unwrap().len(), 4);
    assert_eq!(report["outputs"][2], serde_json::json!({ "output": "three.bin", "format": "zstd" }));
    let script = "
        sha256sum -c --quiet one.sha256; cd sub; sha256sum -c --quiet two.img.sha256; cd ..
        qemu-img info one | grep -q 'cluster_size: 131072'; qemu-img info one | grep -q 'compression type: zstd'
        qemu-img compare -q -f raw -F qcow2 sub/two.img one
        cat three.bin.[0-9]* | zstd -dc | cmp - sub/two.img
        qemu-img compare -q -f raw -F vpc sub/two.img four.vhd
        truncate -s 1G target; bmaptool --quiet copy --bmap sub/two.img.bmap sub/two.img target
        cmp -n $(stat -c %s sub/two.img) sub/two.img target; sgdisk -v sub/two.img | grep -q 'No problems found'";
    must(command("bash").args(["-euc", script]).current_dir(&out));
    // A folder of `-o` is where the outputs go.
    let other = folder.path().join("other");
    std::fs::create_dir_all(other.join("sub")).unwrap();
    let said = build(folder.path(), &several, &["-o", other.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{}", said.error());
    assert_eq!(digest(&other.join("one")), digest(&out.join("one")));
    // A file of `-o` takes the place of all outputs.
    let said = build(folder.path(), &several, &["-o", other.join("only.img").to_str().unwrap()]);
    assert_eq!(said.code, 0, "{}", said.error());
    assert_eq!(digest(&other.join("only.img")), digest(&out.join("sub/two.img")));
}

/// The disk is one, so its length is one that all of its outputs can have.
#[test]
fn outputs_have_one_length_that_fits_all() {
    let folder = scratch();
    let plain = manifest(folder.path(), "");
    let said = build(folder.path(), &plain, &["-o", "a.img", "-o", "b.tar.gz", "-o", "c.qcow2"]);
    assert_eq!(said.code, 0, "{}", said.error());
    let out = folder.path().join("out");
    let script = "
        test $(stat -c %s a.img) = 1073741824; tar -xzf b.tar.gz; cmp a.img disk.raw
        qemu-img compare -q -f raw -F qcow2 a.img c.qcow2
        sgdisk -v a.img | grep -q 'No problems found'";
    must(command("bash").args(["-euc", script]).current_dir(&out));
    for (multiple, length) in [("3MiB", 3 << 20), ("16MiB", 16 << 20)] {
        let said = build(folder.path(), &plain, &["-o", "m.img", "--size-multiple", multiple]);
        assert_eq!(said.code, 0, "{}", said.error());
        assert_eq!(std::fs::metadata(out.join("m.img")).unwrap().len() % length, 0, "{multiple}");
        must(command("sgdisk").arg("-v").arg(out.join("m.img")));
    }
    let said = build(folder.path(), &plain, &["-o", "m.img", "--size-multiple", "0"]);
    assert!(said.code == 2 && said.error().contains("--size-multiple"), "{}", said.error());
}

#[test]
fn lists_of_outputs_that_make_no_sense_are_refused_with_their_lines() {
    let folder = scratch();
    let text = |lines: &[&str]| lines.iter().map(|line| format!("[[output]]\n{line}\n")).collect::<String>();
    for (more, arguments, words) in [
        (
            text(&["path = \"a.img\"", "path = \"a.img\""]),
            &[][..],
            &["two outputs have one name", "several.toml:", "output[0].path"][..],
        ),
        (text(&["path = \"a.img\"", "path = \"./a.img\""]), &[], &["two outputs have one name"]),
        (
            text(&["path = \"a.img\"\nsha256 = true", "path = \"a.img.sha256\"\nformat = \"raw\""]),
            &[],
            &["two outputs have one name"],
        ),
        (
            text(&["path = \"a.qcow2\"\npackage = \"zstd\""]),
            &[],
            &["zstd is not for", "package = \"zstd\"", "qcow2"],
        ),
        (
            text(&["path = \"a.x\"\nformat = \"qcow2\"\npackage = \"xz\""]),
            &[],
            &["xz is not for this format", "compresses itself"],
        ),
        (text(&["path = \"a.qcow2.zst\""]), &[], &["does not tell its format"]),
        (
            text(&["path = \"a.img\"\ncompress = \"zstd\""]),
            &[],
            &["raw does not have compression", "compress = \"zstd\""],
        ),
        (text(&["path = \"a.raw.zst\"\ncompress = \"zstd\""]), &[], &["zstd decides by itself"]),
        (text(&["path = \"a.img\"\nlevel = 3"]), &[], &["raw does not have levels"]),
        (text(&["path = \"a.raw.xz\"\nlevel = 12"]), &[], &["xz does not have this level", "level = 12"]),
        (text(&["path = \"a.vhd\"\ncluster_size = 4096"]), &[], &["vpc does not have a cluster size"]),
        (text(&["path = \"a.qcow2\"\nbmap = true"]), &[], &["the blocks of a raw disk", "bmap = true"]),
        (text(&["path = \"a.img\"\nsplit = 0"]), &[], &["parts of no bytes"]),
        (text(&["path = \"a.img\"\nsize_multiple = 0"]), &[], &["multiple of nothing"]),
        (text(&["path = \"\""]), &[], &["not the name of a file"]),
        (text(&["path = \"-\""]), &[], &["standard output"]),
        (text(&["path = \"https://example.org/a.img\""]), &[], &["URL"]),
        (text(&["format = \"raw\""]), &[], &["the key `path` is missing"]),
        (text(&["path = \"a.img\"\nformats = \"raw\""]), &[], &["unknown key `formats`", "format"]),
        (
            text(&["path = \"a.img\""]),
            &["--format", "qcow2"],
            &["the manifest names its outputs", "--format"],
        ),
        (text(&["path = \"a.img\""]), &["--sha256"], &["the manifest names its outputs", "--sha256"]),
        (String::new(), &["-o", "a.img", "-o", "-"], &["standard output"]),
        (String::new(), &["-o", "a.img", "-o", "a.img"], &["two outputs have one name"]),
        (String::new(), &["-o", "a.qcow2", "-o", "b.vdi", "--bmap"], &["no output is a raw disk"]),
        (
            String::new(),
            &["-o", "a.qcow2", "-o", "b.raw", "--format", "raw"],
            &["the names of several outputs decide about their formats", "--format"],
        ),
    ] {
        let several = manifest(folder.path(), &more);
        let said = build(folder.path(), &several, arguments);
        assert_eq!(said.code, 2, "{more} {arguments:?}: {}", said.error());
        for word in words {
            assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
        }
        assert!(names_in(&folder.path().join("out")).is_empty(), "{more}");
    }
    // One folder by two names.
    std::os::unix::fs::symlink("out", folder.path().join("other")).unwrap();
    let several = manifest(folder.path(), "");
    let said = build(folder.path(), &several, &["-o", "../out/a.img", "-o", "../other/a.img"]);
    assert!(said.code == 2 && said.error().contains("two outputs have one name"), "{}", said.error());
    assert!(names_in(&folder.path().join("out")).is_empty());
    let path = manifest(folder.path(), &text(&["path = \"a.img\""]));
    let text = std::fs::read_to_string(&path).unwrap().replace("[disk]", "[disk]\nsubformat = \"fixed\"");
    std::fs::write(&path, text).unwrap();
    let said = build(folder.path(), &path, &[]);
    assert!(said.code == 2 && said.error().contains("means nothing beside [[output]]"), "{}", said.error());
}

#[test]
fn all_outputs_appear_or_none() {
    let folder = scratch();
    let out = folder.path().join("out");
    std::fs::create_dir_all(out.join("three.img")).unwrap();
    std::fs::write(out.join("one.img"), "old").unwrap();
    let plain = manifest(folder.path(), "");
    for last in ["three.img", "no/where.img"] {
        let said = build(folder.path(), &plain, &["-o", "one.img", "-o", "two.qcow2", "-o", last]);
        assert_ne!(said.code, 0, "{last}");
        assert_eq!(std::fs::read_to_string(out.join("one.img")).unwrap(), "old");
        assert_eq!(names_in(&out).len(), 2, "{last}");
    }
    // No file may be longer than the raw disk's first MiB, so the raw one fails when it is written.
    let script = "ulimit -f 1024; trap '' XFSZ; exec \"$@\"";
    let build = diskwright();
    let said = run(command("bash")
        .args(["-c", script, "bash"])
        .arg(build.get_program())
        .args(build.get_args())
        .arg("build")
        .arg(&plain)
        .args(["-o", "one.img", "-o", "two.raw.zst"])
        .current_dir(&out));
    assert_ne!(said.code, 0);
    assert_eq!(std::fs::read_to_string(out.join("one.img")).unwrap(), "old");
    assert_eq!(names_in(&out).len(), 2);
}

/// What joins the parts by their numbers gets no part of an earlier build.
#[test]
fn parts_of_an_earlier_build_go_with_it() {
    let folder = scratch();
    let plain = manifest(folder.path(), "");
    let out = folder.path().join("out");
    let split = |size: &str| build(folder.path(), &plain, &["-o", "p.img", "--sha256", "--split", size]);
    let parts = || -> Vec<String> {
        let names = names_in(&out).into_iter().map(|name| name.into_string().unwrap());
        names.filter(|name| !name.ends_with("sha256")).collect()
    };
    let said = split("1MiB");
    assert_eq!(said.code, 0, "{}", said.error());
    let many = parts();
    assert!(many.len() > 6, "{many:?}");
    let said = split("4MiB");
    assert_eq!(said.code, 0, "{}", said.error());
    let few = parts();
    assert!(few.len() < many.len() && !few.is_empty(), "{few:?}");
    must(
        command("bash")
            .args(["-euc", "cat p.img.[0-9]* > p.img; sha256sum -c --quiet p.img.sha256; rm p.img"])
            .current_dir(&out),
    );
    // What is no part of it stays: another name, a folder, and a file behind a gap, which is told.
    for (stray, is_folder) in [("p.img.900", true), ("p.img.901", false)] {
        let before = digest(&out.join("p.img.000"));
        if is_folder {
            std::fs::create_dir(out.join(stray)).unwrap();
        } else {
            std::fs::write(out.join(stray), "old").unwrap();
        }
        let said = split("8MiB");
        assert!(said.code == 1 && said.error().contains(stray), "{}", said.error());
        assert!(said.error().contains("has the name of a further part"), "{}", said.error());
        assert_eq!(digest(&out.join("p.img.000")), before);
        if is_folder {
            std::fs::remove_dir(out.join(stray)).unwrap();
        } else {
            std::fs::remove_file(out.join(stray)).unwrap();
        }
    }
    assert_eq!(parts(), few);
}

/// A name need not be UTF-8, and may have what ends a line: sha256sum reads what is said of it, and its end tells the format.
#[test]
fn strange_names_are_names() {
    use std::os::unix::ffi::OsStrExt;
    let folder = scratch();
    let plain = manifest(folder.path(), "");
    let out = folder.path().join("out");
    std::fs::create_dir_all(&out).unwrap();
    for name in [&b"n\xff.raw.zst"[..], b"a\nb\\c\rd.img"] {
        let name = std::ffi::OsStr::from_bytes(name);
        must(diskwright().current_dir(&out).arg("build").arg(&plain).arg("--sha256").arg("-o").arg(name));
        let mut sums = name.to_owned();
        sums.push(".sha256");
        must(command("sha256sum").args(["-c", "--quiet", "--strict"]).arg(&sums).current_dir(&out));
        let own = must(command("sha256sum").arg(name).current_dir(&out)).out;
        assert_eq!(std::fs::read(out.join(&sums)).unwrap(), own);
    }
    must(command("zstd").args(["-tq"]).arg(std::ffi::OsStr::from_bytes(b"n\xff.raw.zst")).current_dir(&out));
    // Where the name tells nothing, the ends of all packages are told too.
    let said = build(folder.path(), &plain, &["-o", "a.unknown"]);
    for word in [".raw.zst", ".ova", ".vma", ".box", "qcow2"] {
        assert!(said.code == 2 && said.error().contains(word), "no `{word}` in\n{}", said.error());
    }
}
