//! What `copy` and `diff` do with several files, and with images of different sizes.

use std::fs::{File, read_to_string};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::support::program::{diskwright, mkfs_erofs, mkfs_ext4, mkfs_squashfs, mkfs_vfat};
use crate::support::tools::{command, must, names_in, quick_scratch, run};
use crate::support::tree;

/// The matches of a pattern are one copy: names of one inode stay so, and a warning counts all files.
#[test]
fn the_matches_of_a_pattern_are_one_copy() {
    let folder = quick_scratch();
    let (source, image) = (folder.path().join("source"), folder.path().join("image.img"));
    let mut maker = tree::Maker::new(&source);
    maker.directory("a").directory("a/below").file("a/one", "of one inode").file("a/su", "1");
    maker.file("a/sg", "2").mode("a/su", 0o4755).mode("a/sg", 0o2755);
    maker.link("a/one", "a/two").link("a/one", "a/below/three").finish();
    mkfs_ext4(&source, &image, &[]);
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let copy =
        |pattern: &str| run(diskwright().arg("copy").arg(format!("{}:{pattern}", image.display())).arg(&out));
    let said = copy("/a/*");
    assert_eq!(said.code, 0, "{}", said.error());
    let inode = |name: &str| std::fs::metadata(out.join(name)).unwrap().ino();
    assert_eq!((inode("one"), inode("one")), (inode("two"), inode("below/three")));
    assert_eq!(read_to_string(out.join("two")).unwrap(), "of one inode");
    let told: Vec<String> =
        said.error().lines().filter(|line| line.contains("set-id")).map(str::to_owned).collect();
    assert!(matches!(&*told, [line] if line.contains("2 files lack set-id bits")), "{told:?}");

    // Where one of them cannot be made, none is.
    for name in ["one", "sg", "su"] {
        std::fs::remove_file(out.join(name)).unwrap();
    }
    let before = names_in(&out);
    let said = copy("/a/*");
    assert!(said.code != 0 && said.error().contains("something of this name exists"), "{}", said.error());
    assert_eq!(names_in(&out), before);
}

fn diff(first: &Path, second: &Path) -> (i32, String) {
    let said = run(diskwright().arg("diff").arg(first).arg(second));
    (said.code, said.text())
}

/// Of two images without partitions the sizes are told, and no structure is named behind the end of the filesystem.
#[test]
fn sizes_of_images_without_partitions_are_told() {
    let folder = quick_scratch();
    let source = folder.path().join("source");
    tree::Maker::new(&source).file("FILE", "text").finish();
    for make in [mkfs_ext4, mkfs_vfat, mkfs_erofs, mkfs_squashfs] {
        let [one, two, three] = ["one.img", "two.img", "three.img"].map(|name| folder.path().join(name));
        make(&source, &one, &[]);
        let length = std::fs::metadata(&one).unwrap().len();
        let larger = length + (1 << 20);
        for other in [&two, &three] {
            must(command("cp").args([&one, other]));
            File::options().write(true).open(other).unwrap().set_len(larger).unwrap();
        }
        assert_eq!(diff(&one, &two), (1, format!("disk: size: {length} -> {larger}\n")));
        assert_eq!(diff(&two, &three), (0, String::new()));
        let at = larger - 4096;
        File::options().write(true).open(&three).unwrap().write_all_at(b"more", at).unwrap();
        let told = format!(
            "filesystem: bytes that no reader shows, from byte {at}, in what lies behind the filesystem\n"
        );
        assert_eq!(diff(&two, &three), (1, told));
        [one, two, three].iter().for_each(|image| std::fs::remove_file(image).unwrap());
    }
}
