//! The judges: what they say about a file is an error with their words.

use std::path::Path;

use diskwright::image::Image;
use diskwright::units::{Bytes, GIB, MIB, usize_of};

use crate::readers::Disk;
use crate::rows::Row;
use crate::tools::{Said, command, run};

/// The output of `qemu-img` with these arguments; it must succeed.
pub(crate) fn qemu_img(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Said {
    let mut command = command("qemu-img");
    crate::tools::must(command.args(arguments.iter().map(AsRef::as_ref)))
}

/// `qemu-img check` finds neither errors nor leaks.
pub(crate) fn check(format: &str, path: &Path) -> Result<(), String> {
    let said = run(command("qemu-img").args(["check", "-f", format]).arg(path));
    // "No errors were found on the image." and, for qcow2, how much of it is allocated.
    if said.code == 0 && said.error().is_empty() && said.text().starts_with("No errors were found") {
        return Ok(());
    }
    Err(format!("qemu-img check: {}\n{}{}", said.code, said.text(), said.error()))
}

/// `qemu-img compare` finds the same bytes in both; if one is longer, the rest of it must be zero.
pub(crate) fn compare(raw: &Path, format: &str, path: &Path) -> Result<(), String> {
    let said = run(command("qemu-img").args(["compare", "-f", "raw", "-F", format]).arg(raw).arg(path));
    if said.code == 0 && said.text().ends_with("Images are identical.\n") {
        return Ok(());
    }
    Err(format!("qemu-img compare: {}\n{}{}", said.code, said.text(), said.error()))
}

/// `qemu-img compare` finds the same bytes in both wherever `image` has data, and at both ends. It is for
/// formats whose holes QEMU does not know, so that it would read terabytes of zeros.
pub(crate) fn compare_parts(image: &Image, raw: &Path, format: &str, path: &Path) -> Result<(), String> {
    let size = image.length().get();
    let mut parts = ranges(&[image]);
    parts.extend([(0, PIECE.min(size)), (size.saturating_sub(PIECE), size)]);
    for (start, end) in parts {
        let (start, end) = (start / 512 * 512, end / 512 * 512);
        let window = format!("driver=raw,offset={start},size={}", end - start);
        let below = format!("{window},file.driver=file,file.filename={}", raw.display());
        let other = format!(
            "{window},file.driver={format},file.file.driver=file,file.file.filename={}",
            path.display()
        );
        let said = run(command("qemu-img").args(["compare", "--image-opts", &below, &other]));
        if said.code != 0 || !said.text().ends_with("Images are identical.\n") {
            return Err(format!("qemu-img compare: {}\n{}{}", said.code, said.text(), said.error()));
        }
    }
    Ok(())
}

/// What `qemu-img info` says.
pub(crate) fn info(format: &str, path: &Path) -> serde_json::Value {
    let said = qemu_img(&[&"info", &"--output=json", &"-f", &format, &path]);
    serde_json::from_slice(&said.out).unwrap()
}

/// The size of the disk that QEMU sees.
pub(crate) fn virtual_size(format: &str, path: &Path) -> u64 {
    info(format, path)["virtual-size"].as_u64().unwrap()
}

/// How much is compared at a time.
const PIECE: u64 = MIB;

/// The ranges where any of the images has a segment, in pieces. Everywhere else all of them are zero.
fn ranges(images: &[&Image]) -> Vec<(u64, u64)> {
    let mut found: Vec<(u64, u64)> = images
        .iter()
        .flat_map(|image| image.segments())
        .map(|segment| (segment.offset.get(), segment.end().get()))
        .collect();
    found.sort_unstable();
    let mut pieces = Vec::new();
    let mut at = 0;
    for (start, end) in found {
        let mut from = start.max(at);
        while from < end {
            let to = end.min(from + PIECE);
            pieces.push((from, to));
            from = to;
        }
        at = at.max(end);
    }
    pieces
}

/// The bytes of an image; zeros after its end.
pub(crate) fn bytes(image: &Image, start: u64, end: u64) -> Result<Vec<u8>, String> {
    let mut out = vec![0xd1; usize_of(end - start)];
    image.read(start, &mut out).map_err(|error| error.to_string())?;
    Ok(out)
}

/// Every byte of `found` equals that of `expected`, and the rest of the longer one is zero. This is complete
/// at any size, because both know their holes.
pub(crate) fn same(expected: &Image, found: &Image) -> Result<(), String> {
    for (start, end) in ranges(&[expected, found]) {
        let (a, b) = (bytes(expected, start, end)?, bytes(found, start, end)?);
        differ(start, &a, &b)?;
    }
    Ok(())
}

fn differ(start: u64, expected: &[u8], found: &[u8]) -> Result<(), String> {
    match expected.iter().zip(found).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(format!(
            "byte {} is {:#04x} and not {:#04x}",
            start + u64::try_from(at).unwrap(),
            found[at],
            expected[at]
        )),
    }
}

/// An independent reader gives the bytes of `expected` wherever it has data, and zeros in the first and last
/// MiB and around the data.
pub(crate) fn same_disk(expected: &Image, disk: &mut dyn Disk) -> Result<(), String> {
    let size = disk.size();
    let mut pieces = ranges(&[expected]);
    pieces.extend([(0, PIECE.min(size)), (size.saturating_sub(PIECE), size)]);
    for (start, end) in pieces.clone() {
        pieces.push((start.saturating_sub(4096), start));
        pieces.push((end, end + 4096));
    }
    for (start, end) in pieces {
        let end = end.min(size);
        if start < end {
            let mut found = vec![0xd1; usize_of(end - start)];
            disk.read(start, &mut found)?;
            differ(start, &bytes(expected, start, end)?, &found)?;
        }
    }
    Ok(())
}

/// All judges about one file that should hold `image`, whose bytes are also in the raw file `raw`.
pub(crate) fn all(row: &Row, image: &Image, raw: &Path, path: &Path) -> Result<(), String> {
    let name = row.format.qemu_name();
    if row.checks {
        check(name, path)?;
    }
    if row.mapped || image.length() <= Bytes::new(GIB) {
        compare(raw, name, path)?;
    } else {
        compare_parts(image, raw, name, path)?;
    }
    let size = (row.rounds)(image.length().get());
    let seen = virtual_size(name, path);
    // QEMU sees a raw file of any length in whole sectors.
    if seen != crate::rows::sectors(size) {
        return Err(format!("QEMU sees {seen} bytes and not {size}"));
    }
    let opened = row.open(path).map_err(|error| format!("our reader: {error}"))?;
    if opened.image.length() != Bytes::new(size) {
        return Err(format!("our reader sees {} bytes and not {size}", opened.image.length().get()));
    }
    same(image, &opened.image).map_err(|error| format!("our reader: {error}"))?;
    for reader in row.readers.iter().filter(|reader| size <= reader.largest) {
        let because = |error| format!("{}: {error}", reader.name);
        let mut disk = (reader.open)(path).map_err(because)?;
        if disk.size() != size {
            return Err(format!("{} sees {} bytes and not {size}", reader.name, disk.size()));
        }
        same_disk(image, disk.as_mut()).map_err(because)?;
    }
    Ok(())
}
