//! What the targets of container readers share: bytes in a file, opened, read and inspected. The result must
//! be a disk or an error for people. A panic, a bug of ours, a control character, or a second read with other
//! bytes is a finding. The flags of `tests/run` limit time and memory.

pub use diskwright_testing::pieces;
pub mod volume;

use std::os::unix::fs::FileExt;
use std::path::Path;

use diskwright::container::{Format, OpenOptions, Opened, open};
use diskwright::error::{Error, Kind};
use diskwright::image::Image;
use diskwright::inspect::inspect;
use tempfile::NamedTempFile;

/// The largest part of a disk that is read: a header of a kilobyte can claim petabytes.
const MOST: u64 = 1 << 20;
/// The most segments that are read.
const MOST_SEGMENTS: usize = 256;

/// Passes `data` to `look` as a file, in memory if there is such a place.
pub fn with_file<T>(data: &[u8], look: impl FnOnce(&Path) -> T) -> T {
    let file = temporary();
    file.as_file().write_all_at(data, 0).expect("to write the file");
    look(file.path())
}

/// An empty file.
pub fn temporary() -> NamedTempFile {
    let file = NamedTempFile::new_in("/dev/shm").or_else(|_| NamedTempFile::new());
    file.expect("a temporary file")
}

/// Opens the file `path` as `format`, and as the format of its bytes, and reads what can be read.
pub fn read(path: &Path, format: Format) -> Option<Opened> {
    if let Some(opened) = opened(path, None) {
        assert!(opened.files.len() == 1, "another file was opened");
    }
    let opened = opened(path, Some(format))?;
    whole(&opened.image);
    match inspect(&opened) {
        Ok(found) => printable(&found.to_string()),
        Err(error) => acceptable(&error),
    }
    Some(opened)
}

/// Opens `path`.
pub fn opened(path: &Path, format: Option<Format>) -> Option<Opened> {
    match open(path, &OpenOptions { format, allow_backing: false }) {
        Ok(opened) => Some(opened),
        Err(error) => {
            acceptable(&error);
            None
        }
    }
}

/// Reads a disk at its ends and wherever it has data, up to a limit, in one piece and in halves.
fn whole(image: &Image) {
    let length = image.length().get();
    let mut left = MOST;
    let ends = [(0, 4096), (length.saturating_sub(4096), 8192)];
    let segments = image.segments().iter().take(MOST_SEGMENTS);
    for (start, count) in segments.map(|segment| (segment.offset.get(), segment.length.get())).chain(ends) {
        let count = count.min(left);
        left -= count;
        let size = usize::try_from(count).expect("a bounded length");
        let (mut once, mut twice) = (vec![0xd1; size], vec![0xd1; size]);
        if let Err(error) = image.read(start, &mut once) {
            acceptable(&error);
            continue;
        }
        // An odd offset in the middle of sectors, clusters and blocks.
        let (front, back) = twice.split_at_mut(size / 2 - size / 2 % 7);
        let middle = start + u64::try_from(front.len()).expect("a bounded length");
        for (start, out) in [(start, front), (middle, back)] {
            image.read(start, out).expect("what was read once can be read again");
        }
        assert!(once == twice, "two reads of one place differ");
    }
}

/// An error must be for people, and not about a bug of ours.
pub fn acceptable(error: &Error) {
    let message = error.to_string();
    assert!(error.kind() != Kind::Bug, "{message}");
    printable(&message);
}

fn printable(text: &str) {
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "a text commands the terminal: {text:?}");
}
