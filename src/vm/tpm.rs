//! A TPM: a program swtpm beside QEMU, which keeps what the TPM knows in a folder (nixpkgs, `virtualisation.tpm`).

use std::ffi::OsString;
use std::path::Path;

use super::command::{Command, Keys};
use super::machine::Machine;
use super::overlay::{Make, What};
use super::plan::Around;
use super::share::{Helper, Prepare, socket};
use crate::error::{Error, Kind, Result};
use crate::helper::program::{self, Processor};
use crate::option::option;

/// What a TPM needs.
#[derive(Debug)]
pub(super) struct Tpm {
    /// Arguments of QEMU.
    pub(super) arguments: Vec<OsString>,
    pub(super) helper: Helper,
    /// The folder for what it knows.
    pub(super) make: Make,
}

/// What the TPM of a machine needs, if it has one; `state` is the folder of its state.
///
/// # Errors
/// [`Kind::Usage`] for keys of a TPM without one and for a processor without such a device, [`Kind::Source`] where swtpm is
/// missing.
pub(super) fn plan(
    machine: &Machine,
    around: &Around<'_>,
    processor: &Processor,
    state: &Path,
) -> Result<Option<Tpm>> {
    if machine.tpm != Some(true) {
        let hint = || format!("set {} too", option("tpm"));
        let without = |key| Error::new(Kind::Usage, "the machine has no TPM").about(key).hint(hint());
        return match (&machine.tpm_device, &machine.tpm_provisioning) {
            (Some(_), _) => Err(without("tpm_device")),
            (None, Some(_)) => Err(without("tpm_provisioning")),
            (None, None) => Ok(None),
        };
    }
    let Some(device) = machine.tpm_device.as_deref().or(processor.tpm) else {
        return Err(Error::new(
            Kind::Usage,
            format!("QEMU has no TPM for this processor ({})", processor.name),
        )
        .about("tpm"));
    };
    let name = machine.swtpm.as_deref().unwrap_or("swtpm");
    let program = program::find(Path::new(name), around.environment.folders()).ok_or_else(|| {
        Error::new(Kind::Source, "there is no swtpm to be a TPM")
            .at(name)
            .about("swtpm")
            .hint("the package swtpm has it")
    })?;
    let folder = around.environment.tpm_state().unwrap_or_else(|| state.join("swtpm"));
    let control = socket(around.work_folder, "swtpm.control")?;
    let mut command = Command::new(program);
    command.push("socket");
    command.push("--tpm2");
    command.option("--tpmstate", swtpm_keys("dir", &folder)?);
    command.option("--ctrl", swtpm_keys("type=unixio,path", &control)?);
    let mut sockets = vec![control.clone()];
    let prepare = match &machine.tpm_provisioning {
        None => None,
        Some(script) => {
            let server = socket(around.work_folder, "swtpm")?;
            command.option("--server", swtpm_keys("type=unixio,path", &server)?);
            // The programs of tpm2-tools do not start it as QEMU does.
            command.option("--flags", "not-need-init");
            sockets.push(server.clone());
            Some(provisioning(script, &server))
        }
    };
    let chardev = Keys::new("socket").with("id", "tpm").path("path", &control)?;
    let arguments = [
        "-chardev".to_owned(),
        chardev.text(),
        "-tpmdev".to_owned(),
        "emulator,id=tpm0,chardev=tpm".to_owned(),
        "-device".to_owned(),
        Keys::new(device).with("tpmdev", "tpm0").text(),
    ];
    Ok(Some(Tpm {
        arguments: arguments.map(OsString::from).into(),
        helper: Helper { command, sockets, prepare },
        make: Make { path: folder, what: What::Folder },
    }))
}

/// A key of swtpm with a path. It knows no way to write a comma.
fn swtpm_keys(key: &str, path: &Path) -> Result<String> {
    match path.to_str().filter(|path| !path.contains(',')) {
        Some(path) => Ok(format!("{key}={path}")),
        None => Err(Error::new(Kind::Usage, "swtpm takes no path with a comma, and none that is not UTF-8")
            .at(path)
            .hint("name another folder by NIX_SWTPM_DIR or TMPDIR, or for the states")),
    }
}

/// What users run with the TPM before the machine starts.
fn provisioning(script: &str, server: &Path) -> Prepare {
    let mut command = Command::new("/bin/sh");
    command.option("-c", script);
    let place = format!("swtpm:path={}", server.to_string_lossy());
    Prepare { command, variables: ["TPM2TOOLS_TCTI", "TCTI"].map(|name| (name, place.clone())).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_swtpm_cannot_read_is_refused() {
        assert_eq!(swtpm_keys("dir", Path::new("/a b")).unwrap(), "dir=/a b");
        let error = swtpm_keys("dir", Path::new("/a,b")).unwrap_err().to_string();
        assert!(error.contains("no path with a comma"), "{error}");
    }
}
