//! Checks the label, which stands in the boot sector and in an entry of the root directory.
//!
//! Source: fatgen103, "BS_VolLab", and fsck.fat 4.2 (dosfstools, src/check.c, `check_label`).

use super::check::Say;
use super::directory::{KANJI, first_cluster};
use super::{Fat, label_text};
use crate::error::Result;
use crate::filesystem::volume::{Fault, Remark};

/// What the boot sector has for no label.
const NONE: &[u8; 11] = b"NO NAME    ";
/// BS_BootSig where the boot sector has a label.
const HAS_LABEL: u8 = 0x29;

/// Passes every fault of the label to `remark`.
pub(super) fn check(fat: &Fat, remark: Say<'_>) -> Result<()> {
    let extended = &fat.layout.extended;
    let boot = (extended.boot_sig == HAS_LABEL).then_some(&extended.vol_lab);
    let named = boot.filter(|label| *label != NONE);
    let Some(entry) = fat.label_entry()? else {
        let Some(label) = named else { return Ok(()) };
        if let Some(why) = wrong(label) {
            remark(Remark::new(Fault::Structure, "boot sector", format!("its label is not valid: {why}")))?;
        }
        let what = format!("it has the label {}, and the root directory has none", shown(label));
        return remark(Remark::new(Fault::Structure, "boot sector", what));
    };
    let cluster = first_cluster(&fat.layout, &entry);
    if cluster != 0 || entry.file_size != 0 {
        let what = format!("its label has the first cluster {cluster} and {} bytes", entry.file_size);
        remark(Remark::new(Fault::Structure, "/", what))?;
    }
    let mut own = entry.name;
    if own[0] == KANJI {
        own[0] = 0xe5;
    }
    if let Some(why) = wrong(&own) {
        remark(Remark::new(Fault::Structure, "/", format!("its label is not valid: {why}")))?;
    }
    match named {
        None if boot.is_some() && own != *NONE => {
            let what = format!("it has no label, and the root directory has {}", shown(&own));
            remark(Remark::new(Fault::Copy, "boot sector", what))
        }
        // mtools writes the label in capitals to the root directory, and as it was asked for to the boot sector.
        Some(label) if *label != own && label.to_ascii_uppercase() != own => {
            let what =
                format!("its label is {}, and that of the root directory {}", shown(label), shown(&own));
            remark(Remark::new(Fault::Copy, "boot sector", what))
        }
        _ => Ok(()),
    }
}

/// A label in quotes.
fn shown(label: &[u8; 11]) -> String {
    format!("\"{}\"", label_text(label))
}

/// Why a label is invalid, if it is. Lower case is a letter like any other, as it is to fsck.fat without `-U`, since mkfs.fat
/// writes it too; and bytes outside ASCII stand for letters of the code page.
fn wrong(label: &[u8; 11]) -> Option<&'static str> {
    if label.iter().any(|byte| *byte < 0x20) {
        Some("it holds control characters")
    } else if label.iter().any(|byte| b"\"*+,./:;<=>?[\\]|".contains(byte)) {
        Some("it holds one of \" * + , . / : ; < = > ? [ \\ ] |")
    } else if label[0] == b' ' {
        Some("it begins with a space")
    } else {
        None
    }
}
