//! Looking into images, against the kernel's mount and the tools of the formats. It needs root, 7zip and e2fsprogs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::{Case, Group, program};
use crate::trees;

/// An image that the kernel has mounted.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, folder: &Path) -> Self {
        let at = folder.join("mounted");
        std::fs::create_dir_all(&at).expect("the folder of the mount can be made");
        done(Command::new("mount").args(["-o", "loop,ro"]).args([image, &at]));
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn done(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
}

fn ours(name: &str, arguments: &[&Path]) -> Case {
    Case::new(&format!("diskwright {name}"), program()).args([Path::new(name)]).args(arguments)
}

/// A store of small files in a raw image, and 100,000 small files for the report.
pub(crate) fn run(folder: &Path) {
    let image = folder.join("look.img");
    let tree = trees::store(folder);
    done(Command::new(program()).args(["mkfs", "ext4"]).arg(&tree).arg("-o").arg(&image));
    let mounted = Mounted::new(&image, folder);
    let list = vec![
        Case::new("find -ls, of the mount", "find").args([&mounted.0]).args(["-ls"]),
        ours("ls", &[Path::new("-lRA"), &image]),
        ours("ls", &[Path::new("-R"), Path::new("--json"), &image]),
        Case::new("7zz l", "7zz").args(["l", "-bd"]).args([&image]),
    ];
    Group { title: "look: all names of a store of small files", cases: list }.run();
    let copy = folder.join("copy");
    let copies = vec![
        Case::new("cp -a, of the mount", "cp").args([Path::new("-a"), &mounted.0, &copy]).makes(&copy),
        ours("copy", &[Path::new("--owner"), Path::new("preserve"), &image, &copy]).makes(&copy),
    ];
    Group { title: "look: all files of it, into a folder", cases: copies }.run();
    drop(mounted);
    let checks =
        vec![Case::new("e2fsck -fn", "e2fsck").args(["-fn"]).args([&image]), ours("check", &[&image])];
    Group { title: "look: its faults", cases: checks }.run();
    overlays(folder, &image);
    let (many, page) = (trees::many(folder, 100_000), folder.join("report.html"));
    done(Command::new(program()).args(["mkfs", "ext4"]).arg(&many).arg("-o").arg(&image));
    let reports = vec![
        ours("report", &[&image]).per(100_000),
        ours("report", &[Path::new("-o"), &page, &image]).makes(&page).per(100_000),
    ];
    Group { title: "look: what fills an image of 100,000 files", cases: reports }.run();
}

/// Two overlays on one image: all data lies in the same place of the same file.
fn overlays(folder: &Path, image: &Path) {
    let [one, other] = ["one.qcow2", "other.qcow2"].map(|name| folder.join(name));
    for overlay in [&one, &other] {
        let _ = std::fs::remove_file(overlay);
        done(Command::new(program()).arg("create").arg(overlay).arg("-b").arg(image).args(["-F", "raw"]));
    }
    let cases = vec![
        ours("ls", &[Path::new("-lRA"), image]),
        ours("diff", &[Path::new("--allow-backing"), &one, &other]),
        Case::new("cmp, of the image with itself", "cmp").args([image, &folder.join("same.img")]),
    ];
    let _ = std::fs::remove_file(folder.join("same.img"));
    std::fs::hard_link(image, folder.join("same.img")).expect("the image can have another name");
    Group { title: "look: the differences of two overlays on it", cases }.run();
}
