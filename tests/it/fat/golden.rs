//! Small images whose every byte is pinned: a change of layout is a decision, made by changing these files.

use diskwright::filesystem::fat::FatType;
use diskwright::image::dump::dump;
use diskwright::tree::Time;
use diskwright::units::{MIB, Sectors};
use sha2::{Digest, Sha256};

use super::support::*;
use super::whole as fat;

fn contents() -> Listing {
    let mut listing = listing([
        ("/EFI/BOOT/BOOTX64.EFI", noise(1, 9000)),
        ("/EFI/nixos/a-kernel-with-a-long-name-6.6.1-bzImage.efi", noise(2, 20_001)),
        ("/loader/loader.conf", b"timeout 5\n".to_vec()),
        ("/loader/long entry 1.conf", b"title 1\n".to_vec()),
        ("/loader/long entry 2.conf", b"title 2\n".to_vec()),
        ("/grün", Vec::new()),
    ]);
    listing.insert("/empty".to_owned(), None);
    listing
}

fn options(fat: FatType, size: u64) -> fat::Options {
    fat::Options {
        fat: Some(fat),
        label: Some("ESP".into()),
        volume_id: 0x1234_abcd,
        hidden_sectors: Sectors::new(2048),
        time: Time::seconds(1_700_000_000),
        ..fixed(size)
    }
}

/// The maps: the place of everything, with a checksum of all bytes except file data.
#[test]
fn maps_are_pinned() {
    let host = tempfile::tempdir().unwrap();
    let tree = files(&contents(), host.path());
    for (fat, size, map) in [
        (FatType::Fat12, 4 * MIB, include_str!("golden/fat12.map")),
        (FatType::Fat16, 16 * MIB, include_str!("golden/fat16.map")),
        (FatType::Fat32, 40 * MIB, include_str!("golden/fat32.map")),
    ] {
        let built = fat::build(&tree, &options(fat, size)).unwrap();
        let mut found = Vec::new();
        let root = host.path().canonicalize().unwrap();
        dump(&built.image, Some(&root), &mut found).unwrap();
        let found = String::from_utf8(found).unwrap();
        if std::env::var_os("DISKWRIGHT_BLESS").is_some() {
            let name = fat.to_string().to_lowercase();
            std::fs::write(format!("{}/tests/it/fat/golden/{name}.map", env!("CARGO_MANIFEST_DIR")), found)
                .unwrap();
            continue;
        }
        assert_eq!(found, map, "the map of {fat} is now:\n{found}");
        judge(&poured(&built, 1), &contents()).unwrap();
    }
}

/// And the bytes of the whole.
#[test]
fn digests_are_pinned() {
    for (fat, size, digest) in [
        (FatType::Fat12, 4 * MIB, "81e8694e09a81b3f4171bd672c34dcf639a159d296e739e324c44e5b1f68b95d"),
        (FatType::Fat16, 16 * MIB, "0bcc65ba53387e38e5319a3c19ce03c08293ed8073f4e3c6e87e3fc50196dcae"),
        (FatType::Fat32, 40 * MIB, "4c52f1a9c5ff5fbf640eb746c94a6a5efeb0ea8d7e4f6816323cc05b90a2007b"),
    ] {
        let built = fat::build(&texts(&contents()), &options(fat, size)).unwrap();
        let hash = Sha256::digest(poured(&built, 2).bytes());
        let found: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, digest, "{fat}");
    }
}
