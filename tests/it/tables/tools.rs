//! Running foreign tools. One that is missing fails the test and names its Debian package.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The Debian package of each tool.
const PACKAGES: [(&str, &str); 4] =
    [("sfdisk", "fdisk"), ("fdisk", "fdisk"), ("sgdisk", "gdisk"), ("parted", "parted")];

/// Where `name` lies: in PATH, or where Debian keeps tools for the administrator.
fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| {
            let package =
                PACKAGES.iter().find(|(tool, _)| *tool == name).map_or(name, |(_, package)| package);
            panic!("the tool `{name}` is not installed: apt-get install {package}")
        })
}

/// What a tool said and whether it was content.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `name` in the C locale, with `variables` in its environment and `input` on its standard input.
pub(crate) fn run(name: &str, variables: &[(&str, &str)], arguments: &[&str], input: &str) -> Said {
    let mut child = Command::new(find(name))
        .env_clear()
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

#[test]
#[should_panic(expected = "the tool `no-such-tool` is not installed: apt-get install no-such-tool")]
fn a_missing_tool_fails_the_test() {
    let _ = find("no-such-tool");
}

#[test]
fn every_tool_is_there() {
    for (tool, _) in PACKAGES {
        assert!(find(tool).is_file());
    }
}
