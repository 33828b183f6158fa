//! Running foreign tools with something on their standard input.

use std::io::Write;
use std::process::Stdio;

use crate::support::tools::command;

/// What a tool said and whether it was content.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `name` in the C locale, with `variables` in its environment and `input` on its standard input.
pub(crate) fn run(name: &str, variables: &[(&str, &str)], arguments: &[&str], input: &str) -> Said {
    let mut child = command(name)
        .env("LC_ALL", "C.UTF-8")
        .envs(variables.iter().copied())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
    // Inputs are far shorter than a pipe's buffer; a tool that does not read them closes it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { success: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Runs a tool that has to be content; returns what it said.
pub(crate) fn must(name: &str, arguments: &[&str], input: &str) -> String {
    let said = run(name, &[], arguments, input);
    assert!(said.success, "{name} {arguments:?}: {said:?}");
    said.out
}
