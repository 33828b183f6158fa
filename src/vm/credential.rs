//! Credentials of systemd (systemd-creds(1), <https://systemd.io/CREDENTIALS/>) that a machine gets from outside (nixpkgs,
//! `virtualisation.credentials`).

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use super::command::{Keys, absolute};
use super::device::{By, Credential};
use super::expansion;
use super::plan::Around;
use crate::encoding::to_base64;
use crate::error::{Error, Kind, Result};
use crate::helper::program::Processor;

/// The longest argument of a program with its final NUL: 32 pages of 4 KiB (MAX_ARG_STRLEN, include/uapi/linux/binfmts.h).
const LONGEST_ARGUMENT: usize = 32 * 4096 - 1;
/// The longest name of a file of fw_cfg: FW_CFG_MAX_FILE_PATH with its NUL is 56 (QEMU, include/hw/nvram/fw_cfg.h).
const LONGEST_FW_CFG: usize = 55;
/// Where systemd looks for credentials in fw_cfg.
const FW_CFG: &str = "opt/io.systemd.credentials/";

/// The arguments of QEMU that hand over the credentials of a machine. A file is read when the machine starts, so that no
/// script has what is secret in it.
///
/// # Errors
/// [`Kind::Usage`] for a name that is none and for what is too long, [`Kind::Source`] for a file that cannot be read.
pub(super) fn arguments(
    credentials: &[Credential],
    around: &Around<'_>,
    processor: &Processor,
) -> Result<Vec<OsString>> {
    let mut arguments: Vec<OsString> = Vec::new();
    for (number, credential) in credentials.iter().enumerate() {
        check(credential)?;
        if credentials[..number].iter().any(|other| other.name == credential.name) {
            return Err(refused(credential, "there are two credentials of this name"));
        }
        // Machines of x86 have tables of SMBIOS; others have them with some firmware only, as nixpkgs has it.
        let by = credential.by.unwrap_or(if ["x86_64", "i386"].contains(&processor.name) {
            By::Smbios
        } else {
            By::FwCfg
        });
        let (option, value) = match by {
            By::Smbios => ("-smbios", smbios(credential, around)?),
            By::FwCfg => ("-fw_cfg", fw_cfg(credential, around)?),
        };
        if value.len() > LONGEST_ARGUMENT {
            return Err(refused(credential, "the credential is too long for an argument of QEMU")
                .expected(format!("at most {LONGEST_ARGUMENT} bytes with what is around it"))
                .found(format!("{} bytes", value.len()))
                .hint("a credential from a file, by fw_cfg, is no argument: file=FILE,by=fw_cfg"));
        }
        arguments.extend([option.into(), value.into()]);
    }
    Ok(arguments)
}

fn refused(credential: &Credential, what: &str) -> Error {
    Error::new(Kind::Usage, format!("{what}: `{}`", crate::values::shown(&credential.name)))
        .about("credentials")
}

/// Refuses a name that systemd does not take: it is that of a file (src/shared/creds-util.c, credential_name_valid), and what
/// stands before the `=`.
fn check(credential: &Credential) -> Result<()> {
    let name = &credential.name;
    let is_name = !name.is_empty() && name != "." && name != "..";
    if !is_name || name.contains(|c: char| !c.is_ascii_graphic() || "/:=".contains(c)) {
        return Err(refused(credential, "this is no name of a credential")
            .expected("printable ASCII without blanks, `/`, `:` and `=`"));
    }
    match (&credential.text, &credential.file) {
        (Some(text), None) if text.contains('\0') => {
            Err(refused(credential, "a text with a NUL is no argument").hint("give it as a file"))
        }
        (Some(_), None) | (None, Some(_)) => Ok(()),
        _ => Err(refused(credential, "a credential has a text or a file")),
    }
}

/// A string of SMBIOS (type 11); what is not text is in base 64.
fn smbios(credential: &Credential, around: &Around<'_>) -> Result<String> {
    let name = &credential.name;
    let keys = Keys::new("type=11");
    let Some(file) = &credential.file else {
        let text = credential.text.as_deref().unwrap_or_default();
        return Ok(keys.with("value", format!("io.systemd.credential:{name}={text}")).text());
    };
    let path = expansion::path(file, "credentials", around.environment, around.work_folder)?;
    let failed = |error| missing(&path, error);
    let mut bytes = Vec::new();
    // What is longer than an argument is told as such, and not read.
    let opened = std::fs::File::open(&path).map_err(failed)?;
    let limit = crate::units::u64_of(LONGEST_ARGUMENT);
    opened.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    let value = format!("io.systemd.credential.binary:{name}={}", to_base64(&bytes));
    Ok(keys.with("value", value).text())
}

/// A file of the firmware.
fn fw_cfg(credential: &Credential, around: &Around<'_>) -> Result<String> {
    let name = format!("{FW_CFG}{}", credential.name);
    if name.len() > LONGEST_FW_CFG {
        return Err(refused(credential, "the name of a credential is too long for fw_cfg")
            .expected(format!("at most {} bytes", LONGEST_FW_CFG - FW_CFG.len()))
            .found(format!("{} bytes", credential.name.len()))
            .hint("by=smbios takes longer ones"));
    }
    let keys = Keys::first("name", &name);
    let Some(file) = &credential.file else {
        return Ok(keys.with("string", credential.text.as_deref().unwrap_or_default()).text());
    };
    let path = expansion::path(file, "credentials", around.environment, around.work_folder)?;
    // QEMU would not say which credential it is. What is no plain file may be read once only.
    let checked = std::fs::metadata(&path);
    let checked =
        checked.and_then(|meta| if meta.is_file() { std::fs::File::open(&path).map(drop) } else { Ok(()) });
    checked.map_err(|error| missing(&path, error))?;
    Ok(keys.path("file", &absolute(&path)?)?.text())
}

fn missing(path: &Path, error: std::io::Error) -> Error {
    Error::io(Kind::Source, "cannot read the credential", path, error).about("credentials")
}
