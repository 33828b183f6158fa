//! Damage that `check` must find as fsck.fat does: the dirty bit, labels, and the entries `.` and `..`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::program::{diskwright, mkfs_vfat};
use crate::support::tools::{command, must, quick_scratch, run};
use crate::support::{fat, tree};

/// Where the fields are that tests change.
#[derive(Clone, Copy)]
struct Places {
    /// The boot sector's byte with the dirty bit; its label is six bytes behind it.
    state: u64,
    /// The root directory, which begins with the label.
    root: u64,
    /// The only directory below it, which begins with `.` and `..`.
    directory: u64,
}

impl Places {
    fn of(image: &Path) -> Self {
        let file = File::open(image).unwrap();
        let number = |offset: u64, length: usize| {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes[..length], offset).unwrap();
            u64::from_le_bytes(bytes)
        };
        let (sector, is_wide) = (number(11, 2), number(22, 2) == 0);
        let per_fat = if is_wide { number(36, 4) } else { number(22, 2) };
        let root = (number(14, 2) + number(16, 1) * per_fat) * sector;
        let data = root + number(17, 2) * 32;
        assert_eq!(number(root + 32 + 11, 1), 0x10, "the second entry is not the directory");
        let directory = data + (number(root + 32 + 26, 2) - 2) * number(13, 1) * sector;
        Self { state: if is_wide { 65 } else { 37 }, root, directory }
    }

    const fn label(self) -> u64 {
        self.state + 6
    }
}

/// What `check` says of an image, and its exit code.
fn check(image: &Path) -> (i32, String) {
    let said = run(diskwright().arg("check").arg(image));
    (said.code, format!("{}{}", said.text(), said.error()))
}

/// Bytes to write, and words of the fault that they are.
type Damage = (u64, &'static [u8], &'static str);

fn damage(at: Places) -> Vec<Damage> {
    let (root, dot, dotdot) = (at.root, at.directory, at.directory + 32);
    vec![
        (at.state, &[1], "boot sector: the volume was not unmounted"),
        (at.label(), b"X", "its label is \"XBC\", and that of the root directory \"ABC\""),
        (at.label(), b"NO NAME    ", "it has no label, and the root directory has \"ABC\""),
        (root, b"abc", "its label is \"ABC\", and that of the root directory \"abc\""),
        (root, b"A+C", "/: its label is not valid: it holds one of"),
        (root, b"A\"C", "/: its label is not valid: it holds one of"),
        (root, b"A*C", "/: its label is not valid: it holds one of"),
        (root, b"A\x01C", "/: its label is not valid: it holds control characters"),
        (root, b" BC", "/: its label is not valid: it begins with a space"),
        (root, &[0xe5], "it has the label \"ABC\", and the root directory has none"),
        (root + 26, &[200], "/: its label has the first cluster 200"),
        (root + 28, &[7], "/: its label has the first cluster 0 and 7 bytes"),
        (dot, &[0xe5], "its entry `.` is missing"),
        (dotdot, &[0xe5], "its entry `..` is missing"),
        (dot + 11, &[0x20], "its entry `.` is not marked as a directory"),
        (dotdot + 11, &[0], "its entry `..` is not marked as a directory"),
    ]
}

#[test]
fn what_fsck_finds_in_labels_marks_and_dots_is_found() {
    let folder = quick_scratch();
    let (source, whole) = (folder.path().join("source"), folder.path().join("whole.img"));
    let mut maker = tree::Maker::new(&source);
    maker.directory("D").file("D/A.TXT", "text\n").finish();
    for size in ["4MiB", "20MiB", "600MiB"] {
        mkfs_vfat(&source, &whole, &["--size", size, "--label", "ABC"]);
        fat::assert_clean(&whole);
        assert_eq!(check(&whole), (0, String::new()), "{size}");
        for (offset, bytes, words) in damage(Places::of(&whole)) {
            let image = folder.path().join("image.img");
            must(command("cp").arg("--sparse=always").arg(&whole).arg(&image));
            File::options().write(true).open(&image).unwrap().write_all_at(bytes, offset).unwrap();
            let (code, text) = check(&image);
            assert!(code == 1 && text.contains(words), "{size}: no `{words}` in\n{text}");
            assert!(!fat::remarks(&image).is_empty(), "{size}, {words}: fsck.fat has no remark");
        }
        std::fs::remove_file(&whole).unwrap();
    }
}

/// A label only in the boot sector is judged there.
#[test]
fn a_label_of_the_boot_sector_alone_is_judged() {
    let folder = quick_scratch();
    let image = folder.path().join("image.img");
    must(command("truncate").args(["-s", "20M"]).arg(&image));
    must(command("mkfs.fat").args(["-F", "16"]).arg(&image));
    assert_eq!(check(&image), (0, String::new()));
    File::options().write(true).open(&image).unwrap().write_all_at(b"A|B        ", 43).unwrap();
    let (code, text) = check(&image);
    assert!(code == 1 && text.contains("boot sector: its label is not valid"), "{text}");
    assert!(text.contains("it has the label \"A|B\", and the root directory has none"), "{text}");
    assert!(!fat::remarks(&image).is_empty());
}

/// What mkfs.fat and mtools write has no fault, with a label, without one, and with a new one.
#[test]
fn labels_of_other_writers_are_no_faults() {
    let folder = quick_scratch();
    let image = folder.path().join("image.img");
    // How long the volume is (mformat wants whole cylinders), who makes it, and what follows the name of the file.
    let cases: [(u64, &str, &[&str]); 7] = [
        (4 << 20, "mkfs.fat -F 12", &[]),
        (20 << 20, "mkfs.fat -F 16 -n LABEL", &[]),
        // fsck.fat allows lower case, unless it is told not to.
        (100 << 20, "mkfs.fat -F 32 -n lower", &[]),
        (40 * 16 * 63 * 512, "mformat -t 40 -h 16 -s 63 -i", &["::"]),
        (40 * 16 * 63 * 512, "mformat -v LABEL -t 40 -h 16 -s 63 -i", &["::"]),
        (200 * 16 * 63 * 512, "mformat -F -c 1 -v LABEL -t 200 -h 16 -s 63 -i", &["::"]),
        (1440 << 10, "mformat -f 1440 -v LABEL -i", &["::"]),
    ];
    for (length, made, after) in cases {
        let _ = std::fs::remove_file(&image);
        File::create(&image).unwrap().set_len(length).unwrap();
        let (name, arguments) = made.split_once(' ').unwrap();
        must(command(name).args(arguments.split(' ')).arg(&image).args(after));
        must(command("mmd").arg("-i").arg(&image).arg("::/D"));
        fat::assert_clean(&image);
        assert_eq!(check(&image), (0, String::new()), "{made}");
    }
    // mlabel removes a label, and writes one; fsck.fat takes the different case of its two fields for a fault, which every
    // volume with such a label by mtools would have.
    for (label, clean) in [(&["-c", "::"][..], true), (&["::OTHER"], true), (&["::Mixed"], false)] {
        must(command("mlabel").arg("-i").arg(&image).args(label));
        assert_eq!(check(&image), (0, String::new()), "{label:?}");
        assert_eq!(fat::remarks(&image).is_empty(), clean, "{label:?}");
    }
}
