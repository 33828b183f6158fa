//! Where systemd-boot, or the firmware itself, finds a unified kernel image.
//!
//! Source: Boot Loader Specification (UAPI group), "Type #2 EFI Unified Kernel Images".

use std::path::Path;

use crate::boot::architecture::Firmware;
use crate::boot::files::Files;
use crate::boot::pe;
use crate::error::{Error, Kind, Result};
use crate::text::printable;

/// The folder in which boot loaders look for unified kernel images.
const LINUX: &str = "/EFI/Linux";

/// Puts the unified kernel image `image`, a host file, at `/EFI/Linux/NAME.efi` of a boot filesystem. With
/// `alone`, it also goes where the firmware starts it without a boot loader.
///
/// # Errors
/// [`Kind::Source`] for a file that is not a unified kernel image for `firmware`; [`Kind::Manifest`] for a
/// name that an entry may not have.
pub fn place(files: &mut Files, image: &Path, name: &str, firmware: Firmware, alone: bool) -> Result<()> {
    pe::check_uki(image, firmware)?;
    let name = name.strip_suffix(".efi").unwrap_or(name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-_.".contains(&byte);
    // At most 255 characters with its suffix.
    if name.is_empty() || name.len() > 251 || !name.bytes().all(plain) {
        return Err(Error::new(Kind::Manifest, "a unified kernel image cannot have this name")
            .expected("1 to 251 letters, digits, `+`, `-`, `_` and `.`, and .efi")
            .found(printable(name.as_bytes()))
            .why("Boot Loader Specification, \"Type #2\""));
    }
    for folder in ["/EFI", LINUX] {
        files.directory(folder)?;
    }
    files.host(format!("{LINUX}/{name}.efi"), image)?;
    if alone {
        files.directory("/EFI/BOOT")?;
        files.host(format!("/EFI/BOOT/{}", firmware.removable()), image)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_placed_once_or_twice() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("nixos_24.05.efi");
        std::fs::write(&image, pe::sample(0x8664, &[".linux"])).unwrap();
        for (alone, paths) in [
            (false, vec!["/EFI", "/EFI/Linux", "/EFI/Linux/nixos_24.05.efi"]),
            (
                true,
                vec![
                    "/EFI",
                    "/EFI/BOOT",
                    "/EFI/BOOT/BOOTX64.EFI",
                    "/EFI/Linux",
                    "/EFI/Linux/nixos_24.05.efi",
                ],
            ),
        ] {
            let mut files = Files::new();
            place(&mut files, &image, "nixos_24.05", Firmware::X64, alone).unwrap();
            place(&mut files, &image, "nixos_24.05.efi", Firmware::X64, alone).unwrap();
            assert_eq!(files.iter().map(|(path, _)| path).collect::<Vec<_>>(), paths);
        }
        for name in ["", ".efi", "a b", "a/b", "ä", &"n".repeat(252)] {
            let error = place(&mut Files::new(), &image, name, Firmware::X64, true).unwrap_err();
            assert_eq!(error.what(), "a unified kernel image cannot have this name", "{name}");
        }
        std::fs::write(&image, "x").unwrap();
        assert!(place(&mut Files::new(), &image, "a", Firmware::X64, true).is_err());
    }
}
