//! Putting a unified kernel image together: headers and small sections in memory, kernel and initrds by reference.

use super::{Part, Uki, sbat, stub::Stub, uname};
use crate::boot::pe::{Coff, Dos, Optional};
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Image, Slice};
use crate::option::option;
use crate::units::{Bytes, u64_of, usize_of};
use crate::wire::Wire;

/// IMAGE_SCN_CNT_CODE, IMAGE_SCN_CNT_INITIALIZED_DATA and IMAGE_SCN_MEM_READ (PE Format, "Section Flags").
const CODE: u32 = 0x20;
const DATA: u32 = 0x40;
const READ: u32 = 0x4000_0000;
/// IMAGE_DLLCHARACTERISTICS_NX_COMPAT.
const NX_COMPAT: u16 = 0x100;
/// What the kernel wants between one initrd and the next (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
const INITRD_ALIGNMENT: u64 = 4;
/// The longest text that becomes a section: a kernel takes a command line of 2048 bytes, an os-release is shorter than that.
const LONGEST_TEXT: Bytes = Bytes::mib(1);

impl Uki {
    /// The image with this command line, where there is one. Its length does not depend on what the command line says, only on
    /// how long it is.
    ///
    /// # Errors
    /// [`Kind::Source`] for a file that is missing, or is not what it should be; [`Kind::Capacity`] where the stub has no
    /// space for another section, and for more than 4 GiB.
    pub fn assemble(&self, command_line: Option<&[u8]>) -> Result<Image> {
        let mut stub = Stub::open(&self.stub)?;
        let kernel = self.kernel.whole("a kernel")?;
        self.take_over(&mut stub, &kernel)?;
        self.revisions(&mut stub, &kernel)?;
        let mut end = u64_of(stub.bytes.len());
        let mut placed = Vec::new();
        for (name, slice) in self.sections(kernel, command_line)? {
            // Old kernels run where they are in the image.
            let kind = if name == ".linux" { CODE } else { DATA };
            let start = stub.add(name, slice.length().get(), end, kind | READ)?;
            end = (start + slice.length().get()).next_multiple_of(u64::from(stub.optional.file_alignment));
            placed.push((Bytes::new(start), slice));
        }
        let mut image = Builder::new(Bytes::new(end));
        image.bytes(Bytes::ZERO, "stub of a unified kernel image", stub.finish()?);
        for (start, slice) in placed {
            image.put(start, &slice);
        }
        image.finish()
    }

    /// What is added to the stub, in the order of ukify.
    fn sections(&self, kernel: Slice, command_line: Option<&[u8]>) -> Result<Vec<(&'static str, Slice)>> {
        let file = |part: &Option<Part>, what| part.as_ref().map(|part| part.whole(what)).transpose();
        let text = |what: &'static str, bytes: &[u8]| Slice::ready(what, bytes);
        let release = match &self.uname {
            Some(release) => Some(release.clone()),
            None => uname::of(&kernel)?,
        };
        let sections = [
            (".osrel", file(&self.os_release, "an os-release")?),
            (".cmdline", command_line.map(|line| text("kernel command line", line))),
            (".dtb", file(&self.devicetree, "a devicetree")?),
            (".uname", release.map(|release| text("kernel release", release.as_bytes()))),
            (".splash", file(&self.splash, "a picture")?),
            (".linux", Some(kernel)),
            (".initrd", self.initrd()?),
            (".ucode", file(&self.microcode, "microcode")?),
        ];
        // A section of no bytes says nothing.
        let there = |slice: &Slice| slice.length() > Bytes::ZERO;
        Ok(sections.into_iter().filter_map(|(name, slice)| Some((name, slice.filter(there)?))).collect())
    }

    /// The initrds as one.
    fn initrd(&self) -> Result<Option<Slice>> {
        let initrds = self.initrds.iter().map(|part| part.whole("an initrd"));
        let initrds = initrds.collect::<Result<Vec<_>>>()?;
        if let [] | [_] = initrds.as_slice() {
            return Ok(initrds.into_iter().next());
        }
        let length = initrds.iter().map(|initrd| initrd.length().round_up(INITRD_ALIGNMENT)).sum();
        let mut joined = Builder::new(length);
        let mut at = Bytes::ZERO;
        for initrd in &initrds {
            joined.put(at, initrd);
            at += initrd.length().round_up(INITRD_ALIGNMENT);
        }
        Ok(Some(joined.finish()?.whole()))
    }

    /// Checks the kernel against the stub, and takes over what the firmware is to know of it.
    fn take_over(&self, stub: &mut Stub, kernel: &Slice) -> Result<()> {
        let refused = |expected: &str| {
            let error = Error::new(Kind::Source, "the kernel of a unified kernel image is an EFI program");
            self.kernel
                .place(error)
                .expected(expected)
                .hint("a kernel that is compressed as a whole has to be decompressed first")
        };
        let dos = Dos::read(&kernel.bytes(0, Dos::LENGTH)?)
            .map_err(|_| refused("a PE file, which begins with MZ"))?;
        let at = u64::from(dos.e_lfanew);
        let coff = Coff::read(&kernel.bytes(at, Coff::LENGTH)?)
            .map_err(|_| refused("a PE signature where the DOS header says it is"))?;
        let optional = Optional::read(&kernel.bytes(at + u64_of(Coff::LENGTH), Optional::LENGTH)?)?;
        if coff.machine != stub.machine() {
            let error = Error::new(Kind::Source, "kernel and stub are for different processors");
            return Err(self
                .stub
                .place(self.kernel.place(error))
                .expected(format!("machine type {:#06x}, as the stub has", stub.machine()))
                .found(format!("{:#06x}", coff.machine)));
        }
        // Firmware that enforces it would not let the kernel run where it does not promise to keep to it.
        if optional.dll_characteristics & NX_COMPAT == 0 {
            stub.optional.dll_characteristics &= !NX_COMPAT;
        }
        Ok(())
    }

    /// Merges the lists of generations into that of the stub.
    fn revisions(&self, stub: &mut Stub, kernel: &Slice) -> Result<()> {
        let own = stub.own(b".sbat").map(<[u8]>::to_vec).unwrap_or_default();
        let kernels = section_of(kernel, b".sbat")?;
        let given = match &self.sbat {
            Some(part) => Some(text(part, "a list of generations (SBAT)")?),
            None => None,
        };
        let last = given.as_deref().unwrap_or(sbat::UKI.as_bytes());
        let merged = sbat::merged(&[&own, &kernels, last]);
        if stub.replace(b".sbat", merged.as_bytes())? || self.sbat.is_none() {
            return Ok(());
        }
        let error = Error::new(Kind::Capacity, "the stub has no space for the list of generations (SBAT)");
        Err(self
            .stub
            .place(error)
            .found(format!("{} bytes", merged.len()))
            .hint(format!("take the stub of a newer systemd, or leave {} out", option("sbat"))))
    }
}

/// The bytes of a small file.
fn text(part: &Part, what: &str) -> Result<Vec<u8>> {
    let slice = part.whole(what)?;
    if slice.length() > LONGEST_TEXT {
        return Err(part
            .place(Error::new(Kind::Source, format!("{what} is too long")))
            .expected(format!("at most {} bytes", LONGEST_TEXT.get())));
    }
    slice.bytes(0, usize_of(slice.length().get()))
}

/// The bytes of a section of an EFI program that was checked; none where it has none, or one that is no text.
fn section_of(program: &Slice, name: &[u8]) -> Result<Vec<u8>> {
    use crate::boot::pe::Section;
    let dos = Dos::read(&program.bytes(0, Dos::LENGTH)?)?;
    let at = u64::from(dos.e_lfanew);
    let coff = Coff::read(&program.bytes(at, Coff::LENGTH)?)?;
    let table = at + u64_of(Coff::LENGTH) + u64::from(coff.size_of_optional_header);
    let table = program.bytes(table, usize::from(coff.number_of_sections) * Section::LENGTH)?;
    for header in table.chunks_exact(Section::LENGTH) {
        let section = Section::read(header)?;
        let length = section.virtual_size.min(section.size_of_raw_data);
        if section.name() == name && u64::from(length) <= LONGEST_TEXT.get() {
            let length = usize_of(u64::from(length));
            return program.bytes(u64::from(section.pointer_to_raw_data), length);
        }
    }
    Ok(Vec::new())
}
