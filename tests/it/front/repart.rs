//! `repart`: links below a root are those of the root, links of an image are followed inside of it, and the fstab is written
//! before the image that holds it. Each case is what systemd-repart 262.1 did with the same files.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::support::debugfs::debugfs;
use crate::support::program::diskwright;
use crate::support::tools::{Said, run, scratch};

/// A folder with a tree `r` and definitions `d`.
struct Folder(tempfile::TempDir);

impl Folder {
    /// One with these files, and with links as they are: where each leads, and its name.
    fn new(files: &[(&str, &str)], links: &[(&str, &str)]) -> Self {
        let folder = Self(scratch());
        for (name, text) in files {
            folder.write(name, text);
        }
        for (to, name) in links {
            let path = folder.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(to, path).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A new image, with the first partition in a file of its own.
    fn repart(&self, arguments: &[&str]) -> Said {
        for name in ["image.raw", "image.fs.raw"] {
            let _ = std::fs::remove_file(self.path(name));
        }
        let mut command = diskwright();
        command.current_dir(self.0.path()).args(["repart", "--empty=create", "--size=auto", "--split=yes"]);
        run(command.args(arguments).arg("image.raw"))
    }

    fn made(&self, arguments: &[&str]) -> Said {
        let said = self.repart(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {}", said.error());
        said
    }

    /// The bytes of a file in the filesystem of the first partition.
    fn cat(&self, name: &str) -> String {
        debugfs(&self.path("image.fs.raw"), &format!("cat {name}\n")).text()
    }

    /// What debugfs says of a name there.
    fn stat(&self, name: &str) -> String {
        debugfs(&self.path("image.fs.raw"), &format!("stat {name}\n")).text()
    }
}

const SEED: &str = "--seed=11111111-1111-2222-3333-444444444444";
const ROOT: [&str; 3] = ["--definitions=d", "--root=r", SEED];

/// A definition of a filesystem with these lines.
fn ext4(lines: &str) -> String {
    format!("[Partition]\nType=linux-generic\nFormat=ext4\nSplitName=fs\n{lines}\n")
}

#[test]
fn sources_are_found_inside_the_root() {
    let folder = Folder::new(
        &[("r/etc/hostname", "inside\n"), ("r/usr/lib/x", "library\n")],
        &[
            ("/etc", "r/conf"),
            ("../../../../../../../../../../etc", "r/up"),
            ("/usr/lib", "r/lib"),
            ("/proc", "r/none"),
            ("loop", "r/loop"),
        ],
    );
    for (lines, name, expected) in [
        ("CopyFiles=/conf:/c", "/c/hostname", "inside\n"),
        ("CopyFiles=/conf/hostname:/h", "/h", "inside\n"),
        ("CopyFiles=/up/hostname:/h", "/h", "inside\n"),
        ("CopyFiles=/up:/c", "/c/hostname", "inside\n"),
        ("CopyFiles=/lib/x:/y", "/y", "library\n"),
    ] {
        folder.write("d/1.conf", &ext4(lines));
        for arguments in [ROOT, ["--definitions=d", "--copy-source=r", SEED]] {
            folder.made(&arguments);
            assert!(folder.cat(name).ends_with(expected), "{lines} {arguments:?}: {}", folder.cat(name));
        }
    }
    for (line, what) in [
        ("CopyFiles=/none/version:/v", "cannot read the source: No such file or directory"),
        ("CopyFiles=/loop:/v", "too many symbolic links on the way"),
    ] {
        folder.write("d/1.conf", &ext4(line));
        let said = folder.repart(&ROOT);
        assert!(said.code == 1 && said.error().contains(what), "{line}: {}", said.error());
        assert!(said.error().contains(line), "{line}: {}", said.error());
    }
}

#[test]
fn blocks_specifiers_and_the_seed_are_found_inside_the_root() {
    let id = "0123456789abcdef0123456789abcdef";
    let folder = Folder::new(
        &[
            ("r/usr/lib/os-release", "ID=inside\nVERSION_ID=7\n"),
            ("r/etc/real-id", &format!("{id}\n")),
            ("r/blk/b", &"b".repeat(4096)),
            ("d/1.conf", "[Partition]\nType=linux-generic\nCopyBlocks=/lnk\nLabel=%o-%w\nSplitName=fs\n"),
            ("d/2.conf", "[Partition]\nType=linux-generic\nLabel=%m\n"),
        ],
        &[
            ("/usr/lib/os-release", "r/etc/os-release"),
            ("/etc/real-id", "r/etc/machine-id"),
            ("/blk/b", "r/lnk"),
        ],
    );
    let said = folder.made(&["--definitions=d", "--root=r", "--json=short"]);
    assert!(said.text().contains("\"label\":\"inside-7\""), "{}", said.text());
    assert!(said.text().contains(&format!("\"label\":\"{id}\"")), "{}", said.text());
    assert!(std::fs::read(folder.path("image.fs.raw")).unwrap().starts_with(&[b'b'; 4096]));
    // The seed is the machine id of the root.
    let seeded =
        folder.made(&["--definitions=d", "--root=r", "--json=short", &format!("--seed={id}")]).text();
    assert_eq!(said.text(), seeded);
}

#[test]
fn definitions_are_found_inside_the_root() {
    let definition = "[Partition]\nType=linux-generic\nSplitName=-\n";
    let folder = Folder::new(
        &[("r/etc/tgt", definition), ("r/opt/rd/40-d.conf", definition)],
        &[
            ("/etc/tgt", "r/etc/repart.d/30-c.conf"),
            ("/opt/rd", "r/usr/lib/repart.d"),
            ("/dev/null", "r/etc/repart.d/50-masked.conf"),
            ("/gone", "r/etc/repart.d/60-gone.conf"),
        ],
    );
    let text = folder.made(&["--root=r", SEED, "--json=short"]).text();
    // A folder is named by what it is, and a file by its link.
    for file in ["etc/repart.d/30-c.conf", "opt/rd/40-d.conf"] {
        assert!(text.contains(&format!("\"file\":\"{file}\"")), "{file}: {text}");
    }
    assert_eq!(text.matches("\"file\":").count(), 2, "{text}");
}

#[test]
fn targets_lead_through_links_of_the_image() {
    let folder = Folder::new(
        &[("r/usr/lib/n", "n"), ("r/data/f", "f")],
        &[("usr/lib", "r/lib"), ("/usr/lib", "r/alib"), ("nowhere", "r/dangling")],
    );
    for (line, name, what) in [
        ("CopyFiles=/data/f:/lib/y", "/usr/lib/y", "Type: regular"),
        ("CopyFiles=/data/f:/alib/y", "/usr/lib/y", "Type: regular"),
        ("CopyFiles=/data:/lib", "/usr/lib/f", "Type: regular"),
        ("MakeDirectories=/lib/q/r", "/usr/lib/q/r", "Type: directory"),
        ("MakeDirectories=/lib", "/lib", "Type: symlink"),
        ("MakeSymlinks=/lib/s:t", "/usr/lib/s", "Type: symlink"),
    ] {
        folder.write("d/1.conf", &ext4(&format!("CopyFiles=/:/\n{line}")));
        folder.made(&ROOT);
        assert!(folder.stat(name).contains(what), "{line}: {}", folder.stat(name));
        assert!(folder.stat("/lib").contains("Type: symlink"), "{line}");
    }
    for line in ["CopyFiles=/data/f:/dangling/f", "CopyFiles=/data/f:/lib"] {
        folder.write("d/1.conf", &ext4(&format!("CopyFiles=/:/\n{line}")));
        assert_eq!(folder.repart(&ROOT).code, 2, "{line}");
    }
}

#[test]
fn an_fstab_is_in_the_image_that_it_is_written_for() {
    let folder = Folder::new(&[("r/etc/x", ""), ("d/1.conf", "")], &[]);
    let arguments = [ROOT.as_slice(), &["--generate-fstab=/etc/fstab", "--append-fstab=auto"]].concat();
    for minimize in ["", "Minimize=best"] {
        folder.write("d/1.conf", &ext4(&format!("MountPoint=/%m\nCopyFiles=/\n{minimize}")));
        let _ = std::fs::remove_file(folder.path("r/etc/fstab"));
        folder.made(&arguments);
        let fstab = std::fs::read_to_string(folder.path("r/etc/fstab")).unwrap();
        // Specifiers stay as they are.
        let line = "UUID=7c4ae621-99c0-4720-9fb5-48bf01f80a6b /%m ext4 discard,rw,nodev,suid,exec 0 2";
        assert_eq!(fstab.lines().nth(1), Some(line), "{fstab}");
        assert!(folder.cat("/etc/fstab").ends_with(&fstab), "{minimize}: {}", folder.cat("/etc/fstab"));
        // Another run makes the same bytes.
        let bytes = std::fs::read(folder.path("image.raw")).unwrap();
        folder.made(&arguments);
        assert!(bytes == std::fs::read(folder.path("image.raw")).unwrap(), "{minimize}");
    }
    // Without --append-fstab there may be none, and where the image fails there is none behind.
    let arguments = [ROOT.as_slice(), &["--generate-fstab=/etc/fstab"]].concat();
    assert_eq!(folder.repart(&arguments).code, 2);
    std::fs::remove_file(folder.path("r/etc/fstab")).unwrap();
    folder.write("d/1.conf", &ext4("MountPoint=/a\nCopyFiles=/etc/x:/y\nMakeDirectories=/y/z"));
    assert_ne!(folder.repart(&arguments).code, 0);
    assert!(!folder.path("r/etc/fstab").exists() && !folder.path("image.raw").exists());
}

#[test]
fn without_a_mount_point_there_is_no_fstab() {
    let folder = Folder::new(&[("r/etc/x", "")], &[]);
    // Nothing is mounted without a filesystem.
    for lines in [ext4(""), "[Partition]\nType=linux-generic\nMountPoint=/a\n".to_owned()] {
        folder.write("d/1.conf", &lines);
        let beside = ["--generate-fstab=/none/fstab", "--generate-crypttab=/none/crypttab"];
        let said = folder.made(&[ROOT.as_slice(), &beside].concat());
        for key in ["MountPoint", "EncryptedVolume"] {
            let told = format!("{key}= is not specified for any eligible partitions, not generating /none/");
            assert!(said.error().contains(&told), "{}", said.error());
        }
    }
    folder.write("d/1.conf", &ext4("MountPoint=/a"));
    let said = folder.repart(&[ROOT.as_slice(), &["--generate-fstab=/none/fstab"]].concat());
    assert!(said.code == 1 && !folder.path("image.raw").exists(), "{}", said.error());
    // A link out of the tree is none.
    symlink(folder.path("outside"), folder.path("r/etc/fstab")).unwrap();
    let said = folder.repart(&[ROOT.as_slice(), &["--generate-fstab=/etc/fstab"]].concat());
    assert!(said.code == 1 && !folder.path("outside").exists(), "{}", said.error());
}

#[test]
fn definitions_are_refused_where_systemd_refuses_them() {
    let folder = Folder::new(&[("r/etc/x", "")], &[]);
    let one = |lines: &str| format!("[Partition]\nType=linux-generic\n{lines}\n");
    folder.write("d/1.conf", &one("Minimize="));
    folder.made(&ROOT);
    folder.write("d/1.conf", &one("VolumeName=x"));
    let said = folder.repart(&ROOT);
    assert!(said.code == 2 && said.error().contains("VolumeName= needs Encrypt="), "{}", said.error());
    folder.write("d/1.conf", &one("VolumeName=x\nVolumeName="));
    folder.made(&ROOT);
    // Marks want a filesystem.
    folder.write("d/1.conf", &one("AddValidateFS=yes\nSplitName=fs"));
    folder.made(&ROOT);
    assert!(folder.stat("/").contains("user.validatefs.gpt_label"), "{}", folder.stat("/"));
    // What is wrong in a definition that is left out does not matter.
    for lines in ["Minimize=guess", "SizeMinBytes=2M\nSizeMaxBytes=1M", "Verity=hash"] {
        folder.write("d/1.conf", &one("SplitName=fs"));
        folder.write("d/2.conf", &format!("[Partition]\nType=root\n{lines}\n"));
        for filter in ["--exclude-partitions=root", "--include-partitions=linux-generic"] {
            folder.made(&[ROOT.as_slice(), &[filter]].concat());
        }
        assert_eq!(folder.repart(&ROOT).code, 2, "{lines}");
    }
}
