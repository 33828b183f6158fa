//! Any bytes as a tar, a cpio or an image of a container: a filesystem of what it holds can be laid out and read, or there is
//! an error for people. The checksums of headers are made right, since a fuzzer does not find them.

#![no_main]

use diskwright::archive::{Archive, Format, Place};
use diskwright::disk::{Contents, Disk, Partition, Payload, Work};
use diskwright::filesystem::ext4;
use diskwright::identity::Seed;
use diskwright::table::Type;
use diskwright::tree::xattr::Patterns;
use diskwright::tree::{Owner, Rules};
use diskwright_fuzz::{acceptable, with_file};
use libfuzzer_sys::fuzz_target;

/// The most bytes of an image that are read.
const MOST: u64 = 1 << 20;

/// Gives every block that looks like a header its checksum (POSIX.1-2017, pax, "ustar Interchange Format").
fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let format = match kind % 3 {
        0 => Format::TarOrCpio,
        1 => Format::Cpio,
        _ => Format::Container { image: None, platform: None },
    };
    with_file(&with_checksums(data), |path| {
        let archive = Archive { place: Place::Path(path.to_owned()), format };
        let rules = Rules { owner: Owner::Preserve, ..Rules::default() };
        let payload = Payload::Archive { archive, rules, xattrs: Patterns::default() };
        let contents = Contents::new().entry("/", payload);
        let partition = Partition::new(Type::LINUX).filesystem(ext4::Options::default(), contents);
        let disk = Disk::bare(Seed::new(diskwright::uuid::Uuid::nil())).partition(partition);
        match disk.build(&Work { jobs: 1, ..Work::default() }) {
            Ok(built) => {
                let mut bytes = vec![0; usize::try_from(built.image.length().get().min(MOST)).expect("a bounded length")];
                if let Err(error) = built.image.read(0, &mut bytes) {
                    acceptable(&error);
                }
            }
            Err(error) => acceptable(&error),
        }
    });
});
