//! The script that runs a machine: `run-NAME-vm`.

use std::path::Path;

use super::command::quoted;
use super::machine::Machine;
use crate::error::Result;

/// The text of a script that runs `machine` with the program `diskwright`, by the shell `shell`. Paths in it do not depend on
/// where it runs, and its arguments are those of QEMU.
///
/// # Errors
/// As [`Machine::fixed`].
pub fn text(machine: &Machine, diskwright: &Path, shell: &Path) -> Result<String> {
    machine.check_name()?;
    let description = quoted(&machine.fixed()?);
    let (shell, program) = (shell.display(), quoted(&diskwright.to_string_lossy()));
    Ok(format!("#!{shell}\nexec {program} vm --machine {description} -- \"$@\"\n"))
}

/// The name of the script.
#[must_use]
pub fn name(machine: &Machine) -> String {
    format!("run-{}-vm", machine.name())
}
