//! A swap area: one page of header, as `mkswap` writes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Facts, Filesystem, Placement, Size};
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Slice};
use crate::text::printable;
use crate::units::{Bytes, narrow, u64_of, usize_of};
use crate::values::Guid;
use crate::wire::{Structure, Wire, wire};

/// Every structure, for the table of docs/formats/swap.md.
pub(crate) const STRUCTURES: &[Structure] = &[SwapHeader::STRUCTURE];

wire! {
    /// The first page of a swap area (linux/include/linux/swap.h, `union swap_header`; util-linux,
    /// include/swapheader.h).
    pub(crate) struct SwapHeader: "swap header", little, 4096 {
        1024 version: u32,
        1028 last_page: u32,
        1032 nr_badpages: u32,
        1036 uuid "sws_uuid": Uuid,
        1052 volume_name "sws_volume": [u8; 16],
        4086 magic: [u8; 10] = *b"SWAPSPACE2",
    }
}

/// Bytes in a page, unless another size is asked for: that of x86, and of Arm kernels with pages of 4 KiB. The header does not
/// record it: a kernel looks for the signature at the end of its own page.
const PAGE: u64 = u64_of(SwapHeader::LENGTH);
/// The sizes that kernels have (`PAGE_SIZE`; 64 KiB for arm64, powerpc and loongarch).
const PAGES: [u64; 5] = [PAGE, 2 * PAGE, 4 * PAGE, 8 * PAGE, 16 * PAGE];
/// Where the signature is in a page of 4 KiB, and in any other the same distance before its end.
const MAGIC: usize = 4086;
/// The fewest pages that make sense (`mkswap.c`, `MIN_GOODPAGES`).
const FEWEST: u64 = 10;
/// The most pages, counted in 32 bits (`mkswap.c`).
const MOST: u64 = 0xffff_ffff;
/// The longest label in bytes: the field has 16, and `mkswap` keeps the last one for a NUL.
const LABEL: usize = 15;

/// The header of a swap area and the size of its pages; `None` if there is none.
///
/// # Errors
/// [`Kind::Source`] where it cannot be read.
pub(crate) fn read_header(slice: &Slice) -> Result<Option<(SwapHeader, u64)>> {
    for page in PAGES {
        if slice.length().get() < page {
            return Ok(None);
        }
        let mut bytes = slice.bytes(0, MAGIC)?;
        bytes.extend(slice.bytes(page - u64_of(SwapHeader::LENGTH - MAGIC), SwapHeader::LENGTH - MAGIC)?);
        if let Ok(header) = SwapHeader::read(&bytes) {
            return Ok(Some((header, page)));
        }
    }
    Ok(None)
}

/// The options of a swap area: keys of a manifest, and what a caller of the library sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Swap")]
pub struct Options {
    /// Label, at most 15 bytes; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// UUID; default derived from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Guid>,
    /// Bytes in a page of the kernel that swaps to it: a power of two from 4KiB to 64KiB; default 4KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_size: Option<Bytes>,
}

/// Builds a swap area of the size that `at` gives it. The rest after the last whole page is not used.
///
/// # Errors
/// [`Kind::Capacity`] for fewer than 10 pages or more than 2^32 - 1, [`Kind::Manifest`] for a label of more than 15
/// bytes or with a NUL.
pub fn build(options: &Options, at: &Placement) -> Result<Filesystem> {
    let Size::Fixed(size) = at.size else {
        return Err(Error::new(Kind::Capacity, "swap has no size of its own")
            .about("size")
            .expected("a size or fill"));
    };
    let (label, uuid) = (options.label.as_deref().unwrap_or_default(), at.uuid(options.uuid)?);
    let page = options.page_size.map_or(PAGE, Bytes::get);
    if !PAGES.contains(&page) {
        return Err(Error::new(Kind::Manifest, "no kernel has pages of this size")
            .about("page_size")
            .expected("4KiB, 8KiB, 16KiB, 32KiB or 64KiB")
            .found(Bytes::new(page).in_full()));
    }
    let pages = size.get() / page;
    if !(FEWEST..=MOST).contains(&pages) {
        let what = if pages < FEWEST { "a swap area is too small" } else { "a swap area is too large" };
        return Err(Error::new(Kind::Capacity, what)
            .about("size")
            .expected(format!(
                "{} to {} ({FEWEST} to {MOST} pages)",
                Bytes::new(FEWEST * page),
                Bytes::new(MOST * page).human()
            ))
            .found(size.in_full())
            .or_hint(size.unit_forgotten()));
    }
    if label.len() > LABEL || label.contains('\0') {
        return Err(Error::new(
            Kind::Manifest,
            format!("swap cannot have the label `{}`", printable(label.as_bytes())),
        )
        .about("label")
        .expected(format!("at most {LABEL} bytes without NUL"))
        .found(format!("{} bytes", label.len())));
    }
    let mut header =
        SwapHeader { version: 1, last_page: narrow(pages - 1, "last_page")?, uuid, ..SwapHeader::BLANK };
    header.volume_name[..label.len()].copy_from_slice(label.as_bytes());
    let mut builder = Builder::new(size);
    builder.bytes(Bytes::ZERO, "swap header", at_the_end_of(page, &header.bytes()));
    Ok(Filesystem {
        image: builder.finish()?,
        facts: Facts {
            kind: "swap",
            label: printable(label.as_bytes()),
            uuid: uuid.hyphenated().to_string(),
            block_size: page,
            blocks: pages,
            free_blocks: pages - 1,
            journal: 0,
            inodes: None,
            free_inodes: None,
        },
        warnings: Vec::new(),
        others: Vec::new(),
    })
}

/// A header whose signature is at the end of a page of this size.
fn at_the_end_of(page: u64, header: &[u8]) -> Vec<u8> {
    let (head, magic) = header.split_at(MAGIC);
    let mut bytes = head.to_vec();
    bytes.resize(usize_of(page) - magic.len(), 0);
    bytes.extend(magic);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn build(size: Bytes, label: &str, uuid: Uuid) -> Result<Filesystem> {
        let options = Options { label: Some(label.to_owned()), uuid: Some(Guid(uuid)), ..Options::default() };
        super::build(&options, &Placement { size: Size::Fixed(size), ..Placement::alone(Uuid::max()) })
    }
    use crate::units::{GIB, KIB, TIB};

    #[test]
    fn limits_are_told() {
        for (size, what) in [(40 * KIB - 1, "too small"), (0, "too small"), (16 * TIB, "too large")] {
            let error = build(Bytes::new(size), "", Uuid::max()).unwrap_err();
            assert_eq!(error.kind(), Kind::Capacity);
            assert!(error.to_string().contains(what), "{error}");
            assert!(error.to_string().contains("40KiB to "), "{error}");
        }
        for size in [40 * KIB, 16 * TIB - 1] {
            assert!(build(Bytes::new(size), "", Uuid::max()).is_ok(), "{size}");
        }
    }

    #[test]
    fn pages_are_those_of_a_kernel() {
        let build = |page: u64| {
            let options = Options { page_size: Some(Bytes::new(page)), ..Options::default() };
            let size = Size::Fixed(Bytes::new(GIB));
            super::build(&options, &Placement { size, ..Placement::alone(Uuid::max()) })
        };
        for page in [4, 8, 16, 32, 64].map(|page| page * KIB) {
            let built = build(page).unwrap();
            assert_eq!((built.facts.block_size, built.facts.blocks), (page, GIB / page));
            let (header, found) = read_header(&built.image.whole()).unwrap().unwrap();
            assert_eq!((found, u64::from(header.last_page) + 1), (page, GIB / page));
        }
        for page in [0, 4095, 2 * KIB, 12 * KIB, 128 * KIB] {
            assert_eq!(build(page).unwrap_err().what(), "no kernel has pages of this size");
        }
    }

    #[test]
    fn a_label_is_never_cut() {
        assert!(build(Bytes::new(GIB), "fifteen bytes!!", Uuid::max()).is_ok());
        for label in ["sixteen bytes!!!", "grüngrüngrüngr", "a\0b"] {
            let error = build(Bytes::new(GIB), label, Uuid::max()).unwrap_err();
            assert_eq!(error.kind(), Kind::Manifest, "{label}");
            assert!(error.to_string().contains("at most 15 bytes"), "{error}");
        }
    }

    #[test]
    fn facts_are_those_of_the_header() {
        let uuid = Uuid::from_u128(0x0867da16_f251_457d_a9e8_c31f9a3c220b);
        let swap = build(Bytes::new(10 * PAGE + 5), "swap", uuid).unwrap();
        assert_eq!(swap.facts.uuid, "0867da16-f251-457d-a9e8-c31f9a3c220b");
        assert_eq!((swap.facts.blocks, swap.facts.free_blocks), (10, 9));
        assert_eq!(swap.image.length(), Bytes::new(10 * PAGE + 5));
        assert_eq!(swap.image.covered(), Bytes::new(PAGE));
    }
}
