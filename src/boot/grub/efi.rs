//! GRUB for UEFI firmware, without a device: one EFI program that finds its directory by the filesystem that
//! has it.

use super::mkimage::Core;
use super::{Filesystem, Grub, Place, Search, script};
use crate::boot::architecture::Firmware;
use crate::boot::files::Files;
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::text::printable;

/// The names of the program on the ESP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// `EFI/BOOT/BOOTX64.EFI`, which the firmware starts from a disk that it does not know.
    pub removable: bool,
    /// `EFI/ID/grubx64.efi`, which must be registered with the firmware of the machine.
    pub id: Option<String>,
}

impl Default for Names {
    /// Only the name that boots everywhere.
    fn default() -> Self {
        Self { removable: true, id: None }
    }
}

/// GRUB for UEFI firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Efi {
    /// The files for the EFI system partition.
    pub esp: Files,
    /// The contents of the boot directory: modules and lists, as `/grub/x86_64-efi/...`.
    pub files: Files,
}

/// Makes GRUB for `firmware`. `boot` says how the boot directory is found, on a filesystem of the kind
/// `filesystem`.
///
/// # Errors
/// [`Kind::Source`] where GRUB's files or grub-mkimage are missing; [`Kind::Manifest`] for a name that a
/// folder cannot have, and for no name at all.
pub fn build(
    grub: &Grub,
    firmware: Firmware,
    boot: &Place,
    filesystem: &Filesystem,
    names: &Names,
    progress: &Progress,
) -> Result<Efi> {
    boot.check()?;
    let platform = firmware.grub();
    let (search, module) = match &boot.search {
        Search::Uuid(uuid) => {
            (format!("search.fs_uuid {} root\n", script::word(uuid)), Some("search_fs_uuid"))
        }
        Search::Label(label) => {
            (format!("search.fs_label {} root\n", script::word(label)), Some("search_label"))
        }
        // The filesystem that the program itself was loaded from.
        Search::Root => (String::new(), None),
    };
    // The early configuration is read without scripts, so it may only use commands and variables.
    let config = format!("{search}set prefix=($root){}\n", boot.below("/grub"));
    let mut modules = vec![filesystem.module(), "part_gpt", "part_msdos"];
    modules.extend(module);
    let core = Core { platform: &platform, prefix: "", config: Some(&config), modules: &modules };
    let program = core.make(grub, progress)?;

    let mut esp = Files::new();
    esp.directory("/EFI")?;
    let mut folders = Vec::new();
    if names.removable {
        folders.push(("BOOT", firmware.removable()));
    }
    if let Some(id) = &names.id {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.+ ".contains(c);
        if id.is_empty()
            || id.trim() != id
            || id.starts_with('.')
            || id.ends_with('.')
            || !id.chars().all(plain)
        {
            return Err(Error::new(Kind::Manifest, "this is no folder's name on an ESP")
                .expected(
                    "letters, digits, blanks, `_`, `-`, `.` and `+`, with neither blank nor dot at an end",
                )
                .found(printable(id.as_bytes())));
        }
        folders.push((id, format!("grub{}.efi", firmware.efi())));
    }
    if folders.is_empty() {
        return Err(Error::new(Kind::Manifest, "GRUB's EFI program has no name")
            .expected("the removable one, or one of its own"));
    }
    for (folder, name) in folders {
        esp.directory(format!("/EFI/{folder}"))?;
        esp.bytes(format!("/EFI/{folder}/{name}"), program.clone())?;
    }
    let mut files = Files::new();
    grub.modules(&platform, &mut files)?;
    files.bytes(format!("/grub/{platform}/load.cfg"), config)?;
    Ok(Efi { esp, files })
}
