//! The release of a kernel, as its own header says it.

use crate::error::Result;
use crate::image::Slice;
use crate::numbers::Numbers;

/// Where the header begins, its magic, and where it says where the version is (Linux, Documentation/arch/x86/boot.rst, "The
/// Real-Mode Kernel Header").
const MAGIC_AT: usize = 0x202;
const MAGIC: &[u8] = b"HdrS";
const VERSION_AT: usize = 0x20e;
/// What the place of the version is counted from.
const BASE: u64 = 0x200;
/// The longest version, as ukify reads it.
const LONGEST: usize = 128;

/// The release in a kernel for x86: the first word of its version, `6.1.0-13-amd64 (builder@host) #1 SMP …`. `None` for a
/// kernel without that header, which is any other, and for a version of another form.
pub(crate) fn of(kernel: &Slice) -> Result<Option<String>> {
    let mut head = [0; VERSION_AT + 2];
    kernel.read(0, &mut head)?;
    if !head[MAGIC_AT..].starts_with(MAGIC) {
        return Ok(None);
    }
    let mut version = [0; LONGEST];
    kernel.read(BASE + u64::from(Numbers(&head).le16(VERSION_AT)), &mut version)?;
    let version = version.split(|byte| *byte == 0).next().unwrap_or_default();
    let release = version.split(|byte| *byte == b' ').next().unwrap_or_default();
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._+-".contains(byte);
    let builder = version.get(release.len()..).is_some_and(|rest| rest.starts_with(b" ("));
    let found = builder && !release.is_empty() && release.iter().all(plain);
    Ok(found.then(|| String::from_utf8_lossy(release).into_owned()))
}
