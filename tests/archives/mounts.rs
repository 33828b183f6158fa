//! A source in which other filesystems are mounted, compared with what tar takes of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::debugfs;
use crate::support::program::diskwright;
use crate::support::tools::{Said, command, must, own_mounts, run, scratch};

/// Mounts below `source` a tmpfs with content, over a file another one, and a directory of the same filesystem; then runs
/// `program` with these mounts.
fn mounted(source: &Path, program: &Command) -> Said {
    let script = r#"
        source=$0
        mount -t tmpfs -o mode=750 tmpfs "$source/mnt"
        mkdir -p "$source/mnt/inner/deeper"; echo hidden > "$source/mnt/inner/file"
        mount --bind "$source/mnt/inner/file" "$source/file"
        mount --bind "$source/usr" "$source/same"
        exec "$@""#;
    let mut unshare = own_mounts(&[], "a source with mounts");
    unshare.args(["sh", "-ec", script]).arg(source).arg(program.get_program()).args(program.get_args());
    run(unshare.current_dir(source.parent().unwrap()))
}

fn source(folder: &Path) -> std::path::PathBuf {
    let source = folder.join("source");
    for name in ["mnt", "usr/lib", "same"] {
        std::fs::create_dir_all(source.join(name)).unwrap();
    }
    std::fs::write(source.join("mnt/covered"), "1").unwrap();
    std::fs::write(source.join("file"), "own").unwrap();
    std::fs::write(source.join("usr/lib/code"), "2").unwrap();
    source
}

/// The names of an image, without those that every ext4 has.
fn names(image: &Path) -> BTreeSet<String> {
    let names = debugfs::names(image).into_keys().map(|name| String::from_utf8(name).unwrap());
    names.filter(|name| !name.is_empty() && name != "lost+found").collect()
}

#[test]
fn other_filesystems_are_left_out_as_tar_leaves_them_out() {
    let folder = scratch();
    let source = source(folder.path());
    let tar = |arguments: &[&str]| -> BTreeSet<String> {
        let archive = folder.path().join("expected.tar");
        let mut tar = command("tar");
        tar.arg("-C").arg(&source).args(arguments).arg("-cf").arg(&archive).arg(".");
        let said = mounted(&source, &tar);
        assert_eq!(said.code, 0, "{}", said.error());
        let listed = must(command("tar").arg("-tf").arg(&archive)).text();
        let plain = |line: &str| line.trim_start_matches("./").trim_end_matches('/').to_owned();
        listed.lines().map(plain).filter(|name| !name.is_empty()).collect()
    };
    let image = folder.path().join("out.img");
    let manifest = folder.path().join("disk.toml");
    for (whole, of_tar) in [(false, &["--one-file-system"][..]), (true, &[])] {
        let expected = tar(of_tar);
        assert_eq!(expected.contains("mnt/inner/file"), whole, "{expected:?}");
        for name in ["mnt", "file", "same/lib/code"] {
            assert!(expected.contains(name), "{expected:?}");
        }
        let mut mkfs = diskwright();
        mkfs.args(["mkfs", "ext4", "source", "-o"]).arg(&image).args(if whole { &[][..] } else { of_tar });
        std::fs::write(
            &manifest,
            format!(
                "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nfilesystem = {{ type = \"ext4\" }}\n\
                 contents = [{{ source = \"source\", target = \"/\", one_file_system = {} }}]\n",
                !whole
            ),
        )
        .unwrap();
        let mut build = diskwright();
        build.arg("build").arg(&manifest).arg("-o").arg(&image);
        for program in [mkfs, build] {
            let said = mounted(&source, &program);
            assert_eq!(said.code, 0, "{}", said.error());
            assert_eq!(names(&image), expected);
            must(command("e2fsck").arg("-fn").arg(&image));
            // The directory has the metadata of what is mounted there, and a file what is mounted over it.
            let shown = debugfs::debugfs(&image, "stat /mnt\ncat /file\n").text();
            assert!(shown.contains("Mode:  0750") && shown.contains("hidden"), "{shown}");
        }
    }
}

#[test]
fn a_source_that_is_another_filesystem_is_taken_whole() {
    let folder = scratch();
    let source = source(folder.path());
    let image = folder.path().join("out.img");
    let mut mkfs = diskwright();
    mkfs.args(["mkfs", "ext4", "source/mnt", "--one-file-system", "-o"]).arg(&image);
    let said = mounted(&source, &mkfs);
    assert_eq!(said.code, 0, "{}", said.error());
    let expected = ["inner", "inner/deeper", "inner/file"].map(str::to_owned);
    assert_eq!(names(&image), BTreeSet::from(expected));
}
