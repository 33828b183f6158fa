//! Checks of EFI programs: their processor, and the sections of a unified kernel image.
//!
//! Source: Microsoft, "PE Format"; UEFI specification 2.10, section 2.1.1.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::architecture::Firmware;
use crate::error::{Error, Kind, Result};
use crate::image::Slice;
use crate::text::printable;
use crate::units::u64_of;
use crate::wire::{Structure, Wire, wire};

/// The structures of this format.
pub(crate) const STRUCTURES: &[Structure] =
    &[Dos::STRUCTURE, Coff::STRUCTURE, Optional::STRUCTURE, Section::STRUCTURE];

wire! {
    /// What a file begins with that MS-DOS could start.
    pub(super) struct Dos: "MS-DOS header", little, 64 {
        0 e_magic: [u8; 2] = *b"MZ",
        60 e_lfanew: u32,
    }
}

wire! {
    /// The signature and the COFF file header.
    pub(super) struct Coff: "PE file header", little, 24 {
        0 signature "Signature": [u8; 4] = *b"PE\0\0",
        4 machine "Machine": u16,
        6 number_of_sections "NumberOfSections": u16,
        8 time_date_stamp "TimeDateStamp": u32,
        12 pointer_to_symbol_table "PointerToSymbolTable": u32,
        16 number_of_symbols "NumberOfSymbols": u32,
        20 size_of_optional_header "SizeOfOptionalHeader": u16,
        22 characteristics "Characteristics": u16,
    }
}

wire! {
    /// The optional header, which every program has, up to where PE32 and PE32+ differ in length.
    pub(super) struct Optional: "PE optional header", little, 72 {
        0 magic "Magic": u16,
        2 major_linker_version "MajorLinkerVersion": u8,
        3 minor_linker_version "MinorLinkerVersion": u8,
        4 size_of_code "SizeOfCode": u32,
        8 size_of_initialized_data "SizeOfInitializedData": u32,
        12 size_of_uninitialized_data "SizeOfUninitializedData": u32,
        16 address_of_entry_point "AddressOfEntryPoint": u32,
        20 base_of_code "BaseOfCode": u32,
        24 image_base "ImageBase": u64,
        32 section_alignment "SectionAlignment": u32,
        36 file_alignment "FileAlignment": u32,
        40 versions "MajorOperatingSystemVersion": [u16; 6],
        52 win32_version_value "Win32VersionValue": u32,
        56 size_of_image "SizeOfImage": u32,
        60 size_of_headers "SizeOfHeaders": u32,
        64 check_sum "CheckSum": u32,
        68 subsystem "Subsystem": u16,
        70 dll_characteristics "DllCharacteristics": u16,
    }
}

wire! {
    /// A section header.
    pub(super) struct Section: "PE section header", little, 40 {
        0 name "Name": [u8; 8],
        8 virtual_size "VirtualSize": u32,
        12 virtual_address "VirtualAddress": u32,
        16 size_of_raw_data "SizeOfRawData": u32,
        20 pointer_to_raw_data "PointerToRawData": u32,
        24 pointer_to_relocations "PointerToRelocations": u32,
        28 pointer_to_line_numbers "PointerToLinenumbers": u32,
        32 number_of_relocations "NumberOfRelocations": u16,
        34 number_of_line_numbers "NumberOfLinenumbers": u16,
        36 characteristics "Characteristics": u32,
    }
}

impl Section {
    /// Its name, without the zeros at its end.
    pub(super) fn name(&self) -> &[u8] {
        let length = self.name.iter().position(|byte| *byte == 0).unwrap_or(self.name.len());
        &self.name[..length]
    }
}

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
    let dos = part(0, Dos::LENGTH)?.and_then(|dos| Dos::read(&dos).ok());
    let dos = dos.ok_or_else(|| refused("a PE file, which begins with MZ"))?;
    let at = u64::from(dos.e_lfanew);
    let coff = part(at, Coff::LENGTH)?.and_then(|coff| Coff::read(&coff).ok());
    let coff = coff.ok_or_else(|| refused("a PE signature where the DOS header says it is"))?;
    let table = at + u64_of(Coff::LENGTH) + u64::from(coff.size_of_optional_header);
    let table = part(table, usize::from(coff.number_of_sections) * Section::LENGTH)?
        .ok_or_else(|| refused("as many sections as the COFF header says"))?;
    let name = |section: &[u8]| Ok(Section::read(section)?.name().to_vec());
    let sections = table.chunks_exact(Section::LENGTH).map(name).collect::<Result<_>>()?;
    Ok(Headers { machine: coff.machine, sections })
}

/// The machine type of an EFI program; `None` for anything else.
pub(crate) fn machine(program: &Slice) -> Result<Option<u16>> {
    let Ok(dos) = Dos::read(&program.bytes(0, Dos::LENGTH)?) else { return Ok(None) };
    let coff = Coff::read(&program.bytes(u64::from(dos.e_lfanew), Coff::LENGTH)?);
    Ok(coff.ok().map(|coff| coff.machine))
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
    let mut bytes = vec![0; Dos::LENGTH];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x40;
    bytes.extend(b"PE\0\0");
    bytes.extend(machine.to_le_bytes());
    bytes.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
    // Times and symbols, then an optional header of 4 bytes, so that a reader must skip it.
    bytes.extend([0; 12]);
    bytes.extend([4, 0, 0, 0, 1, 1, 1, 1]);
    for section in sections {
        let mut header = section.as_bytes().to_vec();
        header.resize(Section::LENGTH, 0);
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
