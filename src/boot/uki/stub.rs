//! The stub: an EFI program whose sections are the first of a unified kernel image. More are added behind them.

use super::Part;
use crate::boot::pe::{Coff, Dos, Optional, Section};
use crate::error::{Error, Kind, Result};
use crate::numbers::Numbers;
use crate::text::printable;
use crate::units::{index, narrow, u64_of, usize_of};
use crate::wire::Wire;

/// The optional header of a PE32+ and of a PE32, and where their data directories begin (PE Format, "Optional Header").
const MAGICS: [(u16, usize); 2] = [(0x20b, 112), (0x10b, 96)];
/// The number of the data directory of signatures. Each data directory has 8 bytes: address and length (PE Format, "Optional
/// Header Data Directories").
const CERTIFICATES: usize = 4;
/// Bytes of a symbol; the table of strings follows the symbols and begins with its length (PE Format, "COFF Symbol Table").
const SYMBOL: u64 = 18;
/// The longest stub that is read into memory: a thousand times what stubs have.
const LONGEST: u64 = 64 << 20;

/// A stub that sections are added to.
#[derive(Debug)]
pub(super) struct Stub {
    part: Part,
    /// The file, without symbols behind its sections.
    pub(super) bytes: Vec<u8>,
    coff: Coff,
    pub(super) optional: Optional,
    pub(super) sections: Vec<Section>,
    /// How many sections it came with.
    own: usize,
    /// Where the COFF header, the optional header and the table of sections begin.
    coff_at: usize,
    optional_at: usize,
    table_at: usize,
}

impl Stub {
    /// Reads a stub.
    pub(super) fn open(part: &Part) -> Result<Self> {
        let refused = |expected: &str| refused(part, expected);
        let slice = part.whole("the stub of a unified kernel image")?;
        if slice.length().get() > LONGEST {
            return Err(refused("a stub of at most 64 MiB"));
        }
        let bytes = slice.bytes(0, usize_of(slice.length().get()))?;
        let given = part;
        let part = |at: usize, length: usize| bytes.get(at..at.saturating_add(length));
        let dos = part(0, Dos::LENGTH).and_then(|dos| Dos::read(dos).ok());
        let coff_at = index(dos.ok_or_else(|| refused("a PE file, which begins with MZ"))?.e_lfanew);
        let coff = part(coff_at, Coff::LENGTH).and_then(|coff| Coff::read(coff).ok());
        let coff = coff.ok_or_else(|| refused("a PE signature where the DOS header says it is"))?;
        let optional_at = coff_at + Coff::LENGTH;
        let optional = part(optional_at, Optional::LENGTH).and_then(|header| Optional::read(header).ok());
        let optional = optional.ok_or_else(|| refused("an optional header"))?;
        let directories = MAGICS.iter().find(|(magic, _)| *magic == optional.magic).map(|(_, at)| *at);
        let directories = directories.ok_or_else(|| refused("PE32+ or PE32"))?;
        let certificates = part(optional_at + directories + 8 * CERTIFICATES, 8);
        if certificates.is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0)) {
            return Err(refused("a stub without a signature, which would no longer be true of the image"));
        }
        let table_at = optional_at + usize::from(coff.size_of_optional_header);
        let count = usize::from(coff.number_of_sections);
        let table = part(table_at, count * Section::LENGTH)
            .ok_or_else(|| refused("as many sections as the COFF header says"))?;
        let sections = table.chunks_exact(Section::LENGTH).map(Section::read).collect::<Result<Vec<_>>>()?;
        let part = given.clone();
        let own = sections.len();
        let mut stub = Self { part, bytes, coff, optional, sections, own, coff_at, optional_at, table_at };
        stub.check()?;
        stub.strip();
        Ok(stub)
    }

    /// Refuses what sections cannot be added to.
    fn check(&self) -> Result<()> {
        let (file, memory) = (self.optional.file_alignment, self.optional.section_alignment);
        let sizes = [file, memory].iter().all(|size| size.is_power_of_two() && *size <= 1 << 20);
        let headers = u64::from(self.optional.size_of_headers) <= u64_of(self.bytes.len());
        if !sizes || !headers || self.sections.is_empty() {
            return Err(refused(&self.part, "headers, sections, and alignments that are powers of two"));
        }
        let aligned = |section: &Section| {
            let (start, length) = (section.pointer_to_raw_data, section.size_of_raw_data);
            let end = u64::from(start) + u64::from(length);
            // What has no bytes in the file begins nowhere.
            length == 0
                || (start.is_multiple_of(file)
                    && length.is_multiple_of(file)
                    && end <= u64_of(self.bytes.len())
                    && start >= self.optional.size_of_headers)
        };
        match self.sections.iter().find(|section| !aligned(section)) {
            None => Ok(()),
            Some(section) => Err(refused(&self.part, "sections at multiples of the file alignment")
                .found(format!("section {}", printable(section.name())))),
        }
    }

    /// Takes away the symbols where they are the end of the file: no image file should have any, and old stubs do.
    fn strip(&mut self) {
        let symbols = u64::from(self.coff.pointer_to_symbol_table);
        let strings = symbols + SYMBOL * u64::from(self.coff.number_of_symbols);
        let length = Numbers(&self.bytes).le32(usize_of(strings));
        let at_the_end = strings + u64::from(length) == u64_of(self.bytes.len());
        let behind = |section: &Section| {
            u64::from(section.pointer_to_raw_data) + u64::from(section.size_of_raw_data) <= symbols
        };
        if symbols != 0 && at_the_end && self.sections.iter().all(behind) {
            self.bytes.truncate(usize_of(symbols));
            self.coff.pointer_to_symbol_table = 0;
            self.coff.number_of_symbols = 0;
        }
    }

    /// For which machine it is.
    pub(super) const fn machine(&self) -> u16 {
        self.coff.machine
    }

    /// The bytes of its own section `name`, as many as it takes in memory.
    pub(super) fn own(&self, name: &[u8]) -> Option<&[u8]> {
        let section = self.sections[..self.own].iter().find(|section| section.name() == name)?;
        let start = index(section.pointer_to_raw_data);
        let length = index(section.virtual_size.min(section.size_of_raw_data));
        self.bytes.get(start..start.checked_add(length)?)
    }

    /// Gives its own section `name` other bytes, where it has one; `false` where they do not fit, in the file or in memory
    /// before the next section, and nothing was done.
    pub(super) fn replace(&mut self, name: &[u8], bytes: &[u8]) -> Result<bool> {
        let found = self.sections[..self.own].iter().position(|section| section.name() == name);
        let Some(number) = found else { return Ok(false) };
        let next = self.sections.get(number + 1).map(|next| next.virtual_address);
        let section = &mut self.sections[number];
        let length: u32 = narrow(bytes.len(), "VirtualSize")?;
        let in_memory = next
            .is_none_or(|next| section.virtual_address.checked_add(length).is_some_and(|end| end <= next));
        if length > section.size_of_raw_data || !in_memory {
            return Ok(false);
        }
        let start = index(section.pointer_to_raw_data);
        let end = start + index(section.size_of_raw_data);
        let old = self.bytes.get_mut(start..end);
        let old = old.ok_or_else(|| Error::bug("a section that was checked lies outside its file"))?;
        old.fill(0);
        old[..bytes.len()].copy_from_slice(bytes);
        section.virtual_size = length;
        Ok(true)
    }

    /// Adds a section of `length` bytes behind the others and returns where its bytes stand in the file. `end` is where the
    /// file ends so far.
    pub(super) fn add(&mut self, name: &str, length: u64, end: u64, characteristics: u32) -> Result<u64> {
        let (file, memory) =
            (u64::from(self.optional.file_alignment), u64::from(self.optional.section_alignment));
        let too_large = || {
            let error = Error::new(Kind::Capacity, "a unified kernel image is at most 4 GiB long");
            self.part
                .place(error)
                .found(format!("a section {name} of {length} bytes"))
                .why("PE Format: places and sizes have 32 bits")
        };
        let fits = |value: u64| u32::try_from(value).map_err(|_| too_large());
        let header = self.table_at + (self.sections.len() + 1) * Section::LENGTH;
        if header > index(self.size_of_headers()) {
            let error = Error::new(Kind::Capacity, "the stub has no space for another section");
            return Err(self
                .part
                .place(error)
                .found(format!("{} sections before {name}", self.sections.len()))
                .hint("take a stub of systemd 252 or newer, or leave out what is not needed"));
        }
        let last = self.sections.last().ok_or_else(|| Error::bug("a stub has no section"))?;
        let start = end.next_multiple_of(file);
        let raw = length.next_multiple_of(file);
        let address =
            (u64::from(last.virtual_address) + u64::from(last.virtual_size)).next_multiple_of(memory);
        let mut section = Section {
            virtual_size: fits(length)?,
            virtual_address: fits(address)?,
            size_of_raw_data: fits(raw)?,
            pointer_to_raw_data: fits(start)?,
            characteristics,
            ..Section::BLANK
        };
        // The end of the file and of the memory too.
        fits(start + raw)?;
        let image = fits((address + length).next_multiple_of(memory))?;
        let data = fits(u64::from(self.optional.size_of_initialized_data) + length)?;
        let place = section.name.get_mut(..name.len());
        place
            .ok_or_else(|| Error::bug("the name of a section is too long"))?
            .copy_from_slice(name.as_bytes());
        self.optional.size_of_image = image;
        self.optional.size_of_initialized_data = data;
        self.sections.push(section);
        Ok(start)
    }

    /// The space before the first section: all up to the next multiple of the file alignment, at which that begins at the
    /// earliest.
    fn size_of_headers(&self) -> u32 {
        self.optional.size_of_headers.next_multiple_of(self.optional.file_alignment)
    }

    /// The file with its headers as they are now. The checksum is zero: firmware does not look at it.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.coff.number_of_sections = narrow(self.sections.len(), "NumberOfSections")?;
        self.optional.size_of_headers = self.size_of_headers();
        self.optional.check_sum = 0;
        let mut put = |at: usize, bytes: &[u8]| {
            let place = self.bytes.get_mut(at..at + bytes.len());
            place
                .map(|place| place.copy_from_slice(bytes))
                .ok_or_else(|| Error::bug("a header lies outside its file"))
        };
        put(self.coff_at, &self.coff.bytes())?;
        put(self.optional_at, &self.optional.bytes())?;
        for (number, section) in self.sections.iter().enumerate() {
            put(self.table_at + number * Section::LENGTH, &section.bytes())?;
        }
        Ok(self.bytes)
    }
}

fn refused(part: &Part, expected: &str) -> Error {
    part.place(Error::new(Kind::Source, "this is no stub for a unified kernel image")).expected(expected)
}
