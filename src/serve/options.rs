//! Answers to options: lists, information about exports, contexts of metadata.

use super::exports::{Export, Exports};
use super::format::{EXPORT_FLAGS, ExportInfo, OptionReply, SIZES, SizesInfo, info, option, reply as kinds};
use super::replies::CONTEXT;
use super::session::cut;
use crate::text::printable;
use crate::units::u64_of;
use crate::wire::Wire;

/// The context that tells data from holes.
const ALLOCATION: &[u8] = b"base:allocation";

/// What a client asked for.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    /// An export, with its number.
    Export(usize, &'a Export),
    /// Something else; it was told so.
    Refused,
}

/// One reply to `option`.
pub(super) fn reply(option: u32, kind: u32, data: &[u8], out: &mut Vec<u8>) {
    // What is sent here is a few names long.
    let length = u32::try_from(data.len()).unwrap_or_default();
    out.extend_from_slice(&OptionReply { option, kind, length, ..OptionReply::BLANK }.bytes());
    out.extend_from_slice(data);
}

/// The names of all exports, with what they are.
pub(super) fn list(exports: &Exports, data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        return reply(option::LIST, kinds::INVALID, b"a list is asked for without data", out);
    }
    for export in exports.list() {
        let mut entry = Vec::new();
        put(export.name().as_bytes(), &mut entry);
        entry.extend_from_slice(export.described().as_bytes());
        reply(option::LIST, kinds::SERVER, &entry, out);
    }
    reply(option::LIST, kinds::ACK, &[], out);
}

/// What one export is: the answer to NBD_OPT_INFO and NBD_OPT_GO.
pub(super) fn info<'a>(exports: &'a Exports, option: u32, data: &[u8], out: &mut Vec<u8>) -> Answer<'a> {
    let mut data = Data(data);
    let wanted = (|| {
        let name = data.text()?;
        let count = data.number16()?;
        let kinds = (0..count).map(|_| data.number16()).collect::<Option<Vec<u16>>>()?;
        data.0.is_empty().then_some((name, kinds))
    })();
    let Some((name, wanted)) = wanted else {
        reply(option, kinds::INVALID, b"the data of this option is not what it says", out);
        return Answer::Refused;
    };
    let Some((number, export)) = found(exports, name) else {
        unknown(exports, option, name, out);
        return Answer::Refused;
    };
    let size = ExportInfo { size: export.length().get(), flags: EXPORT_FLAGS, ..ExportInfo::BLANK };
    reply(option, kinds::INFO, &size.bytes(), out);
    if wanted.contains(&info::NAME) {
        text(option, info::NAME, export.name(), out);
    }
    if wanted.contains(&info::DESCRIPTION) && !export.described().is_empty() {
        text(option, info::DESCRIPTION, export.described(), out);
    }
    if wanted.contains(&info::BLOCK_SIZE) {
        let (minimum, preferred, maximum) = SIZES;
        let sizes = SizesInfo { minimum, preferred, maximum, ..SizesInfo::BLANK };
        reply(option, kinds::INFO, &sizes.bytes(), out);
    }
    reply(option, kinds::ACK, &[], out);
    Answer::Export(number, export)
}

/// The contexts that were asked for, if there are such. Returns the export for which base:allocation is among them.
pub(super) fn contexts(
    exports: &Exports,
    option: u32,
    data: &[u8],
    structured: bool,
    out: &mut Vec<u8>,
) -> Option<usize> {
    let mut data = Data(data);
    let asked = (|| {
        let name = data.text()?;
        let count = data.number32()?;
        // Each has at least its length, so no more can follow than there is data.
        let count = (u64::from(count) <= u64_of(data.0.len() / 4)).then_some(count)?;
        let queries = (0..count).map(|_| data.text()).collect::<Option<Vec<&[u8]>>>()?;
        data.0.is_empty().then_some((name, queries))
    })();
    let Some((name, queries)) = asked.filter(|_| structured) else {
        let text: &[u8] = if structured {
            b"the data of this option is not what it says"
        } else {
            b"this needs structured replies"
        };
        reply(option, kinds::INVALID, text, out);
        return None;
    };
    let Some((number, _)) = found(exports, name) else {
        unknown(exports, option, name, out);
        return None;
    };
    let listing = option == option::LIST_META_CONTEXT;
    // A list takes the name of a namespace for everything in it, and no query for everything there is.
    let named = queries.iter().any(|query| *query == ALLOCATION || (listing && *query == b"base:"));
    let there = named || (listing && queries.is_empty());
    if there {
        let mut entry = if listing { 0_u32 } else { CONTEXT }.to_be_bytes().to_vec();
        entry.extend_from_slice(ALLOCATION);
        reply(option, kinds::META_CONTEXT, &entry, out);
    }
    reply(option, kinds::ACK, &[], out);
    there.then_some(number)
}

fn found<'a>(exports: &'a Exports, name: &[u8]) -> Option<(usize, &'a Export)> {
    let number = exports.find(std::str::from_utf8(name).ok()?)?;
    exports.list().get(number).map(|export| (number, export))
}

/// Says which exports there are instead.
fn unknown(exports: &Exports, option: u32, name: &[u8], out: &mut Vec<u8>) {
    let mut known: Vec<String> = exports
        .list()
        .iter()
        .take(10)
        .map(|export| format!("`{}`", printable(export.name().as_bytes())))
        .collect();
    if exports.list().len() > known.len() {
        known.push("more".to_owned());
    }
    let text = format!("there is no export `{}`; there are: {}", printable(name), known.join(", "));
    reply(option, kinds::UNKNOWN, cut(&text).as_bytes(), out);
}

/// An information that is a text.
fn text(option: u32, kind: u16, text: &str, out: &mut Vec<u8>) {
    let mut data = kind.to_be_bytes().to_vec();
    data.extend_from_slice(text.as_bytes());
    reply(option, kinds::INFO, &data, out);
}

/// A text with its length before it.
fn put(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or_default().to_be_bytes());
    out.extend_from_slice(text);
}

/// The data of an option, which may be anything.
struct Data<'a>(&'a [u8]);

impl<'a> Data<'a> {
    fn number16(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    fn number32(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number32()?;
        let (text, rest) = self.0.split_at_checked(crate::units::index(length))?;
        self.0 = rest;
        Some(text)
    }
}
