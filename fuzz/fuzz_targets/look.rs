//! Arbitrary bytes as a disk that is looked into: paths, patterns, lists and archives.

#![no_main]

use diskwright::error::{Error, Kind};
use diskwright::filesystem::open;
use diskwright::look::copy::tar;
use diskwright::look::{Last, expand, find, list};
use diskwright::progress::Progress;
use diskwright_fuzz::acceptable;
use diskwright_fuzz::volume::slice;
use libfuzzer_sys::fuzz_target;

/// The largest archive that is written: a file may say that it is long.
const MOST: usize = 1 << 22;

/// Takes no more than [`MOST`] bytes.
#[derive(Default)]
struct Limited(usize);

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        if self.0 > MOST { Err(std::io::Error::other("enough")) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let volume = match open(&slice(data)) {
        Ok(Some(volume)) => volume,
        Ok(None) => return,
        Err(error) => return acceptable(&error),
    };
    for path in [&b"/"[..], b"/etc/../bin/tool", b"/lib/library.so", b"/a/"] {
        for last in [Last::Followed, Last::Kept] {
            find(&*volume, path, last).map_or_else(|error| acceptable(&error), |_| ());
        }
    }
    let items = match expand(&*volume, b"/**/[a-m]*", Last::Kept) {
        Ok(items) => items,
        Err(error) => return acceptable(&error),
    };
    let mut left = 100;
    for options in [
        list::Options { long: true, recursive: true, all: true, ..list::Options::default() },
        list::Options { json: true, recursive: true, ..list::Options::default() },
    ] {
        let listed = list::list(&*volume, items.clone(), options, &mut Limited::default(), &mut |error| {
            acceptable(&error);
            left -= 1;
            if left == 0 { Err(Error::new(Kind::Interrupted, "enough")) } else { Ok(()) }
        });
        listed.unwrap_or_else(|error| acceptable(&error));
    }
    let written = tar::write(&*volume, &items, &mut Limited::default(), &Progress::default());
    written.map_or_else(|error| acceptable(&error), |_| ());
});
