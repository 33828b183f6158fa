//! Arbitrary bytes as qcow2. If the file can be read, it is made larger in place, and must still hold the
//! same disk.

#![no_main]

use diskwright::container::Format;
use diskwright::image::Image;
use diskwright::progress::Progress;
use diskwright::resize::{Grow, Options, resize};
use diskwright::units::{Bytes, MIB};
use diskwright_fuzz::{acceptable, opened, read, with_file};
use libfuzzer_sys::fuzz_target;

/// The first bytes of a disk; `None` if it cannot be read.
fn start(image: &Image) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 65_536];
    image.read(0, &mut bytes).ok().map(|()| bytes)
}

fuzz_target!(|data: &[u8]| {
    with_file(data, |path| {
        let Some(before) = read(path, Format::Qcow2) else { return };
        let size = Bytes::new(before.image.length().get().saturating_add(64 * MIB));
        let expected = start(&before.image);
        // An overlay is opened alone, so only images without a backing file are compared.
        // The disk alone grows, so that its bytes stay; a table would move.
        let progress = Progress::default();
        let options = Options { format: Some(Format::Qcow2), grow: Grow::Disk, jobs: 1, progress: &progress };
        match resize(path, size, &options) {
            Ok(_) => {
                let after = opened(path, Some(Format::Qcow2)).expect("a disk that grew is one");
                assert!(after.image.length() == size.round_up(512), "the size is what was asked for");
                // Bytes of the last cluster past the old end of the disk appear now, as in QEMU; the rest
                // stays.
                let kept =
                    usize::try_from(before.image.length().get().min(65_536)).expect("a bounded length");
                let found = start(&after.image);
                let same = expected.zip(found).is_none_or(|(a, b)| a[..kept] == b[..kept]);
                assert!(same, "growing changed the disk");
            }
            Err(error) => acceptable(&error),
        }
    });
});
