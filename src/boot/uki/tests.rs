use std::path::Path;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::boot::pe::{Coff, Dos, Optional, Section};
use crate::encoding::to_hex;
use crate::error::Kind;
use crate::image::Image;
use crate::units::{Bytes, u64_of, usize_of};
use crate::wire::Wire;

/// IMAGE_FILE_EXECUTABLE_IMAGE and IMAGE_FILE_LARGE_ADDRESS_AWARE.
const EXECUTABLE: u16 = 0x22;
const NX_COMPAT: u16 = 0x100;

/// What a file in PE format is made of, for tests.
struct Program {
    sections: Vec<(&'static str, Vec<u8>)>,
    /// From one section to the next in memory at least.
    alignment: u32,
    nx: bool,
    symbols: bool,
}

impl Program {
    /// Its bytes: headers of 1024 bytes, then the sections.
    fn bytes(&self) -> Vec<u8> {
        let count = u16::try_from(self.sections.len()).unwrap();
        let mut bytes = vec![0; 1024];
        bytes[..Dos::LENGTH].copy_from_slice(&Dos { e_lfanew: 0x80, ..Dos::BLANK }.bytes());
        let mut sections = Vec::new();
        let mut address = self.alignment;
        for (name, data) in &self.sections {
            let length = u32::try_from(data.len()).unwrap();
            let start = u32::try_from(bytes.len()).unwrap();
            let mut section = Section {
                virtual_size: length,
                virtual_address: address,
                size_of_raw_data: length.next_multiple_of(512),
                pointer_to_raw_data: start,
                characteristics: 0x4000_0040,
                ..Section::BLANK
            };
            section.name[..name.len()].copy_from_slice(name.as_bytes());
            bytes.extend(data);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
            address += length.next_multiple_of(self.alignment);
            sections.push(section);
        }
        let mut coff = Coff {
            machine: 0x8664,
            number_of_sections: count,
            size_of_optional_header: 240,
            characteristics: EXECUTABLE,
            ..Coff::BLANK
        };
        if self.symbols {
            coff.pointer_to_symbol_table = u32::try_from(bytes.len()).unwrap();
            coff.number_of_symbols = 2;
            // Two symbols, and a table of strings of 9 bytes.
            bytes.extend([7; 36]);
            bytes.extend(b"\x09\0\0\0name\0");
        }
        let optional = Optional {
            magic: 0x20b,
            address_of_entry_point: self.alignment,
            section_alignment: self.alignment,
            file_alignment: 512,
            size_of_image: address,
            size_of_headers: 1000,
            check_sum: 0xd1d1,
            subsystem: 10,
            dll_characteristics: if self.nx { NX_COMPAT } else { 0 },
            ..Optional::BLANK
        };
        bytes[0x80..0x80 + Coff::LENGTH].copy_from_slice(&coff.bytes());
        bytes[0x98..0x98 + Optional::LENGTH].copy_from_slice(&optional.bytes());
        // Sixteen data directories.
        bytes[0x98 + 108] = 16;
        for (number, section) in sections.iter().enumerate() {
            let at = 0x98 + 240 + number * Section::LENGTH;
            bytes[at..at + Section::LENGTH].copy_from_slice(&section.bytes());
        }
        bytes
    }
}

fn stub() -> Program {
    let sbat =
        b"sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\nsystemd-stub,1,x\n";
    let mut list = sbat.to_vec();
    // Space for more lines.
    list.resize(600, 0);
    let sections = vec![(".text", vec![0x90; 3000]), (".sbat", list), (".sdmagic", b"#### x ####".to_vec())];
    Program { sections, alignment: 4096, nx: true, symbols: true }
}

/// A kernel that is an EFI program and has the header of one for x86.
fn kernel() -> Vec<u8> {
    let sections = vec![(".text", vec![0xcc; 70_000]), (".sbat", b"sbat,1,y\nlinux,1,The kernel\n".to_vec())];
    let mut bytes = Program { sections, alignment: 4096, nx: false, symbols: false }.bytes();
    // The header of x86 stands inside the table of sections of this program, which is long enough for none of it.
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x20e..0x210].copy_from_slice(&0x1000_u16.to_le_bytes());
    bytes[0x1200..0x1220].copy_from_slice(b"6.1.0-57-cloud-amd64 (us@x) #1 S");
    bytes[0x1220] = 0;
    bytes
}

/// The files of an image in `folder`.
fn files(folder: &Path) -> Uki {
    let put = |name: &str, bytes: &[u8]| -> Part {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.into()
    };
    Uki {
        stub: put("stub", &stub().bytes()),
        kernel: put("kernel", &kernel()),
        initrds: vec![put("initrd-1", &[1; 1001]), put("initrd-2", &[2; 2002])],
        os_release: Some(put("os-release", b"ID=trial\nVERSION_ID=1\n")),
        splash: Some(put("splash", b"BM a picture")),
        ..Uki::default()
    }
}

fn bytes(image: &Image) -> Vec<u8> {
    let mut bytes = vec![0xd1; usize_of(image.length().get())];
    image.read(0, &mut bytes).unwrap();
    bytes
}

const LINE: &[u8] = b"quiet usrhash=00112233";

/// `ukify build --linux=kernel --initrd=initrd-1 --initrd=initrd-2 --stub=stub --os-release=@os-release --splash=splash
/// --cmdline='quiet usrhash=00112233' --hwids= --output=x` of systemd 262.1 made an image with this SHA-256.
const OF_UKIFY: &str = "c52dbcbbf20c72a53d4450b082cc2bb784ff8fd6aff129e15385c923dff377cf";

#[test]
fn the_image_is_that_of_ukify() {
    let folder = tempfile::tempdir().unwrap();
    let image = files(folder.path()).assemble(Some(LINE)).unwrap();
    assert_eq!(to_hex(&Sha256::digest(bytes(&image))), OF_UKIFY);
    // Kernel and initrds are where they were.
    let kernel = image.segments().iter().find(|segment| segment.length == Bytes::new(u64_of(kernel().len())));
    assert!(image.host_file(kernel.unwrap()).unwrap().unwrap().path.ends_with("kernel"));
}

#[test]
fn another_line_of_the_same_length_moves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let uki = files(folder.path());
    let one = bytes(&uki.assemble(Some(LINE)).unwrap());
    let other = bytes(&uki.assemble(Some(b"quiet usrhash=44556677")).unwrap());
    let changed = one.iter().zip(&other).filter(|(one, other)| one != other).count();
    assert_eq!((one.len(), changed), (other.len(), 8));
    let without = bytes(&uki.assemble(None).unwrap());
    assert_eq!(without.len(), one.len() - 512);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_header_of_a_stub_or_kernel_ends_in_a_panic(
        changes in prop::collection::vec((0_usize..0x2a0, any::<u8>()), 1..8),
        of_kernel in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let uki = files(folder.path());
        let path = if of_kernel { uki.kernel.host().unwrap() } else { uki.stub.host().unwrap() };
        let mut bytes = std::fs::read(path).unwrap();
        changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        std::fs::write(path, bytes).unwrap();
        if let Ok(image) = uki.assemble(Some(LINE)) {
            prop_assert!(image.length() > Bytes::ZERO);
        }
    }
}

/// What each section of an image holds.
fn sections(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let coff = Coff::read(&bytes[0x80..]).unwrap();
    let table = &bytes[0x98 + 240..];
    let section = |number: u16| {
        let section = Section::read(&table[usize::from(number) * Section::LENGTH..]).unwrap();
        let start = crate::units::index(section.pointer_to_raw_data);
        let data = bytes[start..start + crate::units::index(section.virtual_size)].to_vec();
        (String::from_utf8(section.name().to_vec()).unwrap(), data)
    };
    (0..coff.number_of_sections).map(section).collect()
}

#[test]
fn sections_hold_what_they_were_given() {
    let folder = tempfile::tempdir().unwrap();
    let uki = Uki { uname: Some("7.0".to_owned()), ..files(folder.path()) };
    let image = bytes(&uki.assemble(Some(LINE)).unwrap());
    let found = sections(&image);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let own = [".text", ".sbat", ".sdmagic"];
    assert_eq!(names, [&own[..], &[".osrel", ".cmdline", ".uname", ".splash", ".linux", ".initrd"]].concat());
    let of = |name: &str| &found.iter().find(|(known, _)| known == name).unwrap().1;
    assert_eq!(of(".cmdline"), LINE);
    assert_eq!(of(".uname"), b"7.0");
    assert_eq!(of(".linux"), &kernel());
    assert_eq!(of(".initrd"), &[vec![1; 1001], vec![0; 3], vec![2; 2002], vec![0; 2]].concat());
    let list = String::from_utf8(of(".sbat").clone()).unwrap();
    let lines: Vec<&str> = list.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(lines, ["sbat", "systemd-stub", "linux", "uki"]);
    let optional = Optional::read(&image[0x98..]).unwrap();
    assert_eq!(optional.dll_characteristics & NX_COMPAT, 0, "the kernel does not promise it");
    assert_eq!(optional.size_of_headers, 1024);
    assert!(optional.size_of_image.is_multiple_of(4096));
}

#[test]
fn a_stub_that_takes_no_sections_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let uki = files(folder.path());
    let good = stub().bytes();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        std::fs::write(uki.stub.host().unwrap(), bytes).unwrap();
        uki.assemble(Some(LINE)).unwrap_err()
    };
    let changes: [fn(&mut Vec<u8>); 12] = [
        |bytes| bytes[0] = 0,
        |bytes| bytes[0x80] = 0,
        |bytes| bytes[0x98] = 0,
        // A signature.
        |bytes| bytes[0x98 + 112 + 32] = 1,
        // No sections, and alignments of zero and three.
        |bytes| bytes[0x86] = 0,
        |bytes| bytes[0x98 + 36..0x98 + 38].fill(0),
        |bytes| bytes[0x98 + 32] = 3,
        // A section that begins between two alignments, and one behind the end.
        |bytes| bytes[0x98 + 240 + 20] = 1,
        |bytes| bytes[0x98 + 240 + 23] = 1,
        // Headers of 1256 bytes, and the first section at 1024.
        |bytes| bytes[0x98 + 61] = 4,
        |bytes| bytes.truncate(900),
        |bytes| bytes.truncate(30),
    ];
    for change in changes {
        let error = refused(&change);
        let what = "this is no stub for a unified kernel image";
        assert_eq!((error.kind(), error.what(), error.path()), (Kind::Source, what, uki.stub.host()));
    }
    let error = refused(&|bytes| bytes[0x84] = 0x65);
    assert_eq!(error.what(), "kernel and stub are for different processors");
}

#[test]
fn headers_without_space_and_lists_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let uki = files(folder.path());
    // 1024 bytes take (1024 - 0x98 - 240) / 40 = 15 headers.
    let many = Program { sections: vec![(".x", vec![1]); 12], ..stub() };
    std::fs::write(uki.stub.host().unwrap(), many.bytes()).unwrap();
    let error = uki.assemble(Some(LINE)).unwrap_err();
    assert_eq!(error.what(), "the stub has no space for another section");
    // A list has as much space as the section has in the file, and in memory before the next section.
    let small =
        Program { sections: vec![(".sbat", b"sbat,1,x\nstub,1\n".to_vec()), (".x", vec![1])], ..stub() };
    let sbat = folder.path().join("sbat.csv");
    std::fs::write(&sbat, format!("sbat,1,x\nlong,1,{}\n", "x".repeat(500))).unwrap();
    for alignment in [16, 4096] {
        std::fs::write(
            uki.stub.host().unwrap(),
            Program { alignment, ..Program { sections: small.sections.clone(), ..stub() } }.bytes(),
        )
        .unwrap();
        let given = Uki { sbat: Some(sbat.clone().into()), ..uki.clone() };
        let error = given.assemble(None).unwrap_err();
        assert_eq!(error.what(), "the stub has no space for the list of generations (SBAT)");
    }
    // Where nobody asked for more the list of the stub stays as it is.
    std::fs::write(uki.stub.host().unwrap(), Program { alignment: 16, ..small }.bytes()).unwrap();
    let image = bytes(&uki.assemble(None).unwrap());
    assert_eq!(sections(&image)[0].1, b"sbat,1,x\nstub,1\n");
}

#[test]
fn a_kernel_that_firmware_cannot_start_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let uki = files(folder.path());
    for bytes in [&b"\x1f\x8b a compressed kernel"[..], b"MZ"] {
        std::fs::write(uki.kernel.host().unwrap(), bytes).unwrap();
        let error = uki.assemble(None).unwrap_err();
        assert_eq!(error.what(), "the kernel of a unified kernel image is an EFI program");
    }
    std::fs::write(uki.kernel.host().unwrap(), "").unwrap();
    assert!(
        uki.assemble(None).unwrap_err().to_string().starts_with("a kernel is a file that holds something")
    );
    std::fs::remove_file(uki.kernel.host().unwrap()).unwrap();
    assert_eq!(uki.assemble(None).unwrap_err().what(), "the source does not exist");
}

#[test]
fn a_release_is_that_of_the_kernels_header() {
    let release = |bytes: Vec<u8>| uname::of(&crate::image::Slice::ready("kernel", bytes)).unwrap();
    assert_eq!(release(kernel()).as_deref(), Some("6.1.0-57-cloud-amd64"));
    let changed = |at: usize, byte| {
        let mut bytes = kernel();
        bytes[at] = byte;
        release(bytes)
    };
    assert_eq!(changed(0x202, b'h'), None);
    assert_eq!(changed(0x1200, b'X'), None);
    assert_eq!(changed(0x1200, b' '), None);
    assert_eq!(release(vec![0; 10]), None);
}
