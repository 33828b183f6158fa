//! Checks of EFI programs: their processor, and the sections of a unified kernel image.
//!
//! Source: Microsoft, "PE Format"; UEFI specification 2.10, section 2.1.1.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::architecture::Firmware;
use crate::error::{Error, Kind, Result};
use crate::numbers::Numbers;
use crate::text::printable;

/// The place in the DOS header of the offset of the PE signature.
const LFANEW: usize = 0x3c;
/// Length of the DOS header.
const DOS: usize = 0x40;
/// `PE\0\0` and the COFF header: machine at 4, number of sections at 6, length of the optional header at 20.
const COFF: usize = 24;
/// A section header, which begins with 8 bytes of name.
const SECTION: usize = 40;
const NAME: usize = 8;

/// The values in the headers of a PE file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) machine: u16,
    /// Names of the sections in their order, without trailing zeros.
    pub(super) sections: Vec<Vec<u8>>,
}

/// Reads the headers of `path`.
pub(super) fn read(path: &Path) -> Result<Headers> {
    let unreadable = |error| Error::io(Kind::Source, "cannot read the EFI program", path, error);
    let file = File::open(path).map_err(unreadable)?;
    let refused =
        |expected: &str| Error::new(Kind::Source, "this is no EFI program").at(path).expected(expected);
    let part = |offset: u64, length: usize| -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; length];
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(unreadable(error)),
        }
    };
    let dos = part(0, DOS)?.filter(|dos| dos.starts_with(b"MZ"));
    let dos = dos.ok_or_else(|| refused("a PE file, which begins with MZ"))?;
    let at = u64::from(Numbers(&dos).le32(LFANEW));
    let coff = part(at, COFF)?.filter(|coff| coff.starts_with(b"PE\0\0"));
    let coff = coff.ok_or_else(|| refused("a PE signature where the DOS header says it is"))?;
    let coff = Numbers(&coff);
    let count = usize::from(coff.le16(6));
    let table = at + crate::units::u64_of(COFF) + u64::from(coff.le16(20));
    let table =
        part(table, count * SECTION)?.ok_or_else(|| refused("as many sections as the COFF header says"))?;
    let name = |section: &[u8]| {
        let name = &section[..NAME];
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        name[..length].to_vec()
    };
    Ok(Headers { machine: coff.le16(4), sections: table.chunks_exact(SECTION).map(name).collect() })
}

/// Refuses a file that is not an EFI program for `firmware`. Returns its headers.
pub(super) fn check_program(path: &Path, firmware: Firmware) -> Result<Headers> {
    let headers = read(path)?;
    if headers.machine != firmware.machine() {
        let found = Firmware::of_machine(headers.machine)
            .map_or(format!("machine type {:#06x}", headers.machine), |other| format!("one for {other}"));
        return Err(Error::new(Kind::Source, "the EFI program is for another processor")
            .at(path)
            .expected(format!("one for {firmware}"))
            .found(found));
    }
    Ok(headers)
}

/// Refuses a file that is not a unified kernel image.
pub(super) fn check_uki(path: &Path, firmware: Firmware) -> Result<()> {
    let headers = check_program(path, firmware)?;
    if headers.sections.iter().any(|name| name == b".linux") {
        return Ok(());
    }
    let names: Vec<String> = headers.sections.iter().map(|name| printable(name)).collect();
    Err(Error::new(Kind::Source, "the EFI program is no unified kernel image")
        .at(path)
        .expected("a section .linux")
        .found(format!("sections {}", names.join(" ")))
        .why("UAPI group, Unified Kernel Image: .linux is the one section that is required"))
}

/// A PE file with these sections, all empty, for tests.
#[cfg(test)]
pub(super) fn sample(machine: u16, sections: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0; DOS];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[LFANEW] = 0x40;
    bytes.extend(b"PE\0\0");
    bytes.extend(machine.to_le_bytes());
    bytes.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
    // Times and symbols, then an optional header of 4 bytes, so that a reader must skip it.
    bytes.extend([0; 12]);
    bytes.extend([4, 0, 0, 0, 1, 1, 1, 1]);
    for section in sections {
        let mut header = section.as_bytes().to_vec();
        header.resize(SECTION, 0);
        bytes.extend(header);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.efi");
        let write = |bytes: &[u8]| std::fs::write(&file, bytes).unwrap();
        write(&sample(0x8664, &[".text", ".linux", ".initrdX"]));
        let headers = check_program(&file, Firmware::X64).unwrap();
        assert_eq!(headers.sections, [b".text".to_vec(), b".linux".to_vec(), b".initrdX".to_vec()]);
        check_uki(&file, Firmware::X64).unwrap();

        let at = file.display();
        let error = check_program(&file, Firmware::AA64).unwrap_err().to_string();
        let text = "the EFI program is for another processor";
        assert_eq!(error, format!("{text}\n  at {at}\n  expected: one for AA64\n  found: one for X64"));
        write(&sample(0x8664, &[".text"]));
        let error = check_uki(&file, Firmware::X64).unwrap_err().to_string();
        assert!(
            error.contains("no unified kernel image\n") && error.contains("found: sections .text\n"),
            "{error}"
        );
        write(&sample(0x1234, &[]));
        let error = check_program(&file, Firmware::X64).unwrap_err().to_string();
        assert!(error.ends_with("found: machine type 0x1234"), "{error}");
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.efi");
        let whole = sample(0x8664, &[".linux"]);
        for length in 0..whole.len() {
            std::fs::write(&file, &whole[..length]).unwrap();
            assert_eq!(read(&file).unwrap_err().what(), "this is no EFI program", "{length}");
        }
        assert_eq!(read(folder.path()).unwrap_err().what(), "cannot read the EFI program");
        assert_eq!(read(&folder.path().join("no")).unwrap_err().what(), "cannot read the EFI program");
    }
}
