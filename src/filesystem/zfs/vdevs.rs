//! The vdevs of a pool that OpenZFS makes: the words of `zpool create`, in which devices are names of disks.

use std::collections::BTreeMap;

use super::options::Options;
use crate::error::{Error, Kind, Result};
use crate::helper::PAYLOAD;
use crate::helper::job::Word;
use crate::text::shortened;
use crate::units::{Bytes, MIB};

/// What stands before the devices of a vdev, or is the beginning of it (zpoolconcepts(7), "Virtual Devices").
const KINDS: [&str; 8] = ["mirror", "raidz", "draid", "spare", "log", "cache", "special", "dedup"];
/// The name of the only disk.
const ONLY: &str = "disk";
/// Bytes of a disk's name: the serial number by which the machine knows it has 20 (virtio 1.2, 5.2.6.1).
const LONGEST: usize = 20;
/// Disks that QEMU's usual machine has slots for, besides its own devices.
const MOST: usize = 24;
/// The smallest disk that ZFS takes (fs/zfs.h, SPA_MINDEVSIZE).
const LEAST: Bytes = Bytes::new(64 * MIB);

/// Vdevs, and the disks in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vdevs {
    words: Vec<String>,
    /// The names of the disks; the first is the one that the description is of.
    pub(super) disks: Vec<String>,
    sizes: BTreeMap<String, Bytes>,
}

/// Whether a word says what the next vdev is.
fn is_kind(word: &str) -> bool {
    KINDS.iter().any(|kind| match *kind {
        "raidz" | "draid" => word.starts_with(kind),
        kind => word == kind,
    })
}

impl Vdevs {
    /// The vdevs of a pool; one disk if nothing is said.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for names that cannot be, and for sizes of disks that are not there.
    pub(super) fn new(options: &Options) -> Result<Self> {
        let text = options.vdevs.as_deref().unwrap_or(ONLY);
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let disks: Vec<String> = words.iter().filter(|word| !is_kind(word)).cloned().collect();
        let refuse = |what: &str, key, found: &str| {
            Err(Error::new(Kind::Manifest, what.to_owned()).about(key).found(shortened(found.as_bytes(), 80)))
        };
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        for (number, name) in disks.iter().enumerate() {
            if name.len() > LONGEST || !name.chars().all(allowed) || name == PAYLOAD {
                return refuse("a disk cannot have this name", "vdevs", name)
                    .map_err(|error| error.expected("at most 20 letters, digits, - and _"));
            }
            if disks.iter().take(number).any(|other| other == name) {
                return refuse("a disk is in two vdevs", "vdevs", name);
            }
        }
        if disks.is_empty() || disks.len() > MOST {
            return refuse("a pool cannot have so many disks", "vdevs", text)
                .map_err(|error| error.expected(format!("1 to {MOST} names of disks")));
        }
        for (name, size) in &options.vdev_sizes {
            if !disks.iter().skip(1).any(|disk| disk == name) {
                return refuse(
                    "a size is given for a disk that is not in the vdevs, or is the first",
                    "vdev_sizes",
                    name,
                );
            }
            if *size < LEAST || !size.is_multiple_of(MIB) {
                return refuse("a disk of a pool cannot have this size", "vdev_sizes", &size.to_write())
                    .map_err(|error| error.expected("whole MiB, at least 64MiB"));
            }
        }
        Ok(Self { words, disks, sizes: options.vdev_sizes.clone() })
    }

    /// How large the vdev on a disk is, if the first has `size`.
    pub(super) fn size(&self, disk: &str, size: Bytes) -> Bytes {
        self.sizes.get(disk).copied().unwrap_or(size)
    }

    /// The words of `zpool create`: whole disks, or their first partitions.
    pub(super) fn words(&self, is_whole: bool) -> impl Iterator<Item = Word> + '_ {
        self.words.iter().map(move |word| match (is_kind(word), is_whole) {
            (true, _) => Word::Text(word.clone()),
            (false, true) => Word::Disk(word.clone()),
            (false, false) => Word::Part(word.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vdevs(text: &str, sizes: &[(&str, u64)]) -> Result<Vdevs> {
        let vdev_sizes = sizes.iter().map(|(name, size)| ((*name).to_owned(), Bytes::new(*size))).collect();
        Vdevs::new(&Options { vdevs: Some(text.to_owned()), vdev_sizes, ..Options::default() })
    }

    #[test]
    fn names_of_disks_are_told_from_words_of_zpool() {
        let made = vdevs("raidz2 a b c-1 log mirror d e", &[("d", 128 << 20)]).unwrap();
        assert_eq!(made.disks, ["a", "b", "c-1", "d", "e"]);
        let words: Vec<Word> = made.words(false).collect();
        assert_eq!(words[0], Word::from("raidz2"));
        assert_eq!(words[1], Word::Part("a".to_owned()));
        assert_eq!(made.words(true).last(), Some(Word::Disk("e".to_owned())));
        assert_eq!(
            (made.size("d", Bytes::new(1)), made.size("a", Bytes::new(1))),
            (Bytes::new(128 << 20), Bytes::new(1))
        );
        assert_eq!(Vdevs::new(&Options::default()).unwrap().disks, ["disk"]);
        for (text, words) in [
            ("mirror a a", "two vdevs"),
            ("mirror", "so many disks"),
            ("/dev/sda", "cannot have this name"),
            ("payload", "cannot have this name"),
        ] {
            let error = vdevs(text, &[]).unwrap_err();
            assert!(error.what().contains(words) && error.key() == Some("vdevs"), "{error}");
        }
        for sizes in [("a", 64 << 20), ("c", 64 << 20), ("b", 63 << 20), ("b", (64 << 20) + 1)] {
            assert_eq!(vdevs("mirror a b", &[sizes]).unwrap_err().key(), Some("vdev_sizes"), "{sizes:?}");
        }
    }
}
