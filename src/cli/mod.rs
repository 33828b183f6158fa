//! The command line: flags and their help, turned into calls of the library, and errors turned into exit codes.
//!
//! Results go to standard output, everything else to standard error.

mod bar;
mod build;
mod check;
mod convert;
mod diff;
mod docs;
mod init;
mod job;
mod look;
mod manual;
mod mkfs;
mod nixos;
mod repart;
mod report;
mod rows;
mod serve;
mod signals;
mod standard;
mod vm;

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{Error, Kind, Result};
use crate::filesystem::unwritten;
use crate::option::Spelling;

/// Writes bootable disk images in user space: no root, no VM, no mount, the same bytes every time.
#[derive(Debug, Parser)]
#[command(
    name = "diskwright",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 bad usage or bad manifest; a signal ends the process by that signal. \
                  Results go to standard output, progress and warnings to standard error.",
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the disk image that a manifest describes
    Build(build::Args),
    /// Make one filesystem from a directory, as `mke2fs -d` does
    Mkfs(mkfs::Args),
    /// Make a disk with a NixOS system that boots, as nixpkgs' make-disk-image.nix does
    Nixos(Box<nixos::Args>),
    /// Make or extend a disk from repart.d definitions, as systemd-repart does
    Repart(Box<repart::Args>),
    /// Run a NixOS system in QEMU, from a disk that was never written
    #[command(mut_arg("system", vm::optional))]
    Vm(Box<vm::Args>),
    /// Let QEMU and others read a disk that is never written, over NBD
    Serve(Box<serve::Args>),
    /// Convert an image from one format to another
    Convert(convert::Convert),
    /// Make an empty image, or an overlay on a backing file
    Create(convert::Create),
    /// Make an image larger
    Resize(convert::Resize),
    /// Show what an image is and what is in it
    Inspect(convert::Inspect),
    /// List files in an image
    Ls(look::List),
    /// Print files of an image
    Cat(look::Cat),
    /// Copy files out of an image, into a folder or as a tar archive
    Copy(look::Copy),
    /// Compare two images, or an image with a folder
    Diff(diff::Args),
    /// Find the faults of an image: its container, its table and its filesystems
    Check(check::Args),
    /// Show what fills an image, as text or as an HTML page
    Report(report::Args),
    /// Write a commented manifest to start from: nixos, esp+root, bios or data
    Init(init::Args),
    /// Print the JSON Schema of manifests, for editors
    #[command(after_help = "Example:\n  diskwright schema > diskwright.schema.json")]
    Schema,
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  diskwright completions bash \\\n      > ~/.local/share/bash-completion/completions/diskwright"
    )]
    Completions(docs::Completions),
    /// Do the work of a helper VM, as its first process
    #[command(hide = true)]
    Guest,
    /// Print the manual pages: of all commands, and diskwright.toml(5) of manifests
    #[command(after_help = "Examples:\n  diskwright man | man -l -\n  diskwright man --dir share/man/man1")]
    Man(docs::Man),
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

/// Runs the program with these arguments; the first one is its own name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut command = Cli::command();
    let arguments = match renamed(arguments.into_iter().collect()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let parsed = command
        .try_get_matches_from_mut(arguments)
        .and_then(|matches| Ok((names(&matches), Cli::from_arg_matches(&matches)?)));
    let (names, cli) = match parsed {
        Ok(parsed) => parsed,
        Err(mut error) => {
            if let Some(tip) = other_filesystem(&error) {
                error.remove(ContextKind::SuggestedSubcommand);
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
            }
            // Help and version are not errors and go to standard output; clap knows which is which.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            return match error.print() {
                Err(failed) if failed.kind() != ErrorKind::BrokenPipe => ExitCode::FAILURE,
                _ => ExitCode::from(code),
            };
        }
    };
    // As diff(1) has it: 1 says that there are differences, and 2 that they could not be found.
    let mut different = false;
    let compares = matches!(cli.command, Command::Diff(_));
    let done = match cli.command {
        Command::Build(args) => build::run(&args),
        Command::Mkfs(args) => mkfs::run(args),
        Command::Nixos(args) => nixos::run(&args),
        Command::Repart(args) => repart::run(&args),
        Command::Serve(args) => match serve::run(&args) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Vm(args) => match vm::run(&args) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Convert(args) => convert::convert(args),
        Command::Create(args) => convert::create(args),
        Command::Resize(args) => convert::resize(&args),
        Command::Inspect(args) => convert::look(&args),
        Command::Ls(args) => look::ls(&args),
        Command::Cat(args) => look::cat(&args),
        Command::Copy(args) => look::copy(&args),
        Command::Diff(args) => diff::run(&args).map(|equal| different |= !equal),
        Command::Check(args) => check::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Init(args) => init::run(args),
        Command::Schema => print(crate::front::manifest::schema::json().as_bytes()),
        Command::Completions(args) => docs::completions(&args, &mut Cli::command()),
        Command::Guest => crate::helper::guest::run()
            .map_err(|error| Error::new(Kind::Usage, "this is no helper VM").because(error)),
        Command::Man(args) => docs::man(&args, Cli::command()),
    };
    match done {
        Ok(()) if different => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Another command may have another flag for the same option.
            let own = own_command(&command, &names);
            let flag = |key: &str| own.and_then(|own| flag_of(own, key)).or_else(|| flag_of(&command, key));
            let in_text = error.is_in_text();
            let spell = |key: &str| match in_text {
                true => Some(Spelling::Key),
                false => own.and_then(|own| flag_of(own, key)).map(Spelling::Flag),
            };
            let error = error.flagged(flag).spelled(spell);
            complain(Severity::Error, &error.to_string());
            if error.kind() == Kind::Interrupted {
                signals::end_by_signal();
            }
            ExitCode::from(if compares { 2 } else { error.kind().exit_code() })
        }
    }
}

/// The arguments of a program that goes by the name of systemd-repart, as those of `repart`. Who asks for its version wants
/// to know which release it behaves as.
fn renamed(mut arguments: Vec<OsString>) -> std::result::Result<Vec<OsString>, ExitCode> {
    let name = arguments.first().and_then(|name| std::path::Path::new(name).file_name());
    if name != Some(std::ffi::OsStr::new("systemd-repart")) {
        return Ok(arguments);
    }
    if arguments.iter().any(|argument| argument == "--version") {
        let text = concat!("systemd 262 (diskwright ", env!("CARGO_PKG_VERSION"), ")\n");
        return Err(print(text.as_bytes()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS));
    }
    arguments.insert(1, "repart".into());
    Ok(arguments)
}

/// How to make a filesystem that `mkfs` knows by another name.
fn other_filesystem(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let own = match name.as_str() {
        "fat" | "msdos" | "dos" => "mkfs vfat".to_owned(),
        "fat12" | "fat16" | "fat32" => format!("mkfs vfat --fat {}", name.trim_start_matches("fat")),
        "swap" => {
            return Some(
                "a manifest makes it: a partition of type swap, and a filesystem of type swap".to_owned(),
            );
        }
        other => {
            return unwritten(other).map(|name| {
                format!(
                    "{name} is not written here; a manifest takes a file that its own mkfs made, by `image`"
                )
            });
        }
    };
    Some(format!("write `diskwright {own}`"))
}

/// Refuses a path that a shell or a browser would understand and that is not there.
fn check_path(path: &std::path::Path) -> Result<()> {
    match path.to_str().and_then(crate::host::elsewhere) {
        Some((what, hint)) if path.symlink_metadata().is_err() => {
            Err(Error::new(Kind::Usage, what).found(crate::text::printable_path(path)).hint(hint))
        }
        _ => Ok(()),
    }
}

/// The names of the commands that were given, such as `mkfs` and `ext4`.
fn names(matches: &clap::ArgMatches) -> Vec<String> {
    let below = std::iter::successors(matches.subcommand(), |(_, matches)| matches.subcommand());
    below.map(|(name, _)| name.to_owned()).collect()
}

/// The command of these names, where one has flags of its own for options of the others.
fn own_command<'a>(command: &'a clap::Command, names: &[String]) -> Option<&'a clap::Command> {
    let (first, more) = names.split_first()?;
    let own = command.find_subcommand(first)?;
    Some(own_command(own, more).unwrap_or(own))
}

/// The flag that `command`, or a command below it, has for the option `key`.
fn flag_of(command: &clap::Command, key: &str) -> Option<String> {
    let own = command.get_arguments().find(|argument| argument.get_id() == key);
    let flag = own.and_then(clap::Arg::get_long).map(|long| format!("--{long}"));
    flag.or_else(|| command.get_subcommands().find_map(|command| flag_of(command, key)))
}

/// How the options of a command are written: as its flags.
fn spelling(command: &str, key: &str) -> Option<Spelling> {
    flag_of(Cli::command().find_subcommand(command)?, key).map(Spelling::Flag)
}

/// The severity of a message on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Warning,
    Error,
}

/// Writes `diskwright: error: …` to standard error. The severity is in colour if that is a terminal that
/// wants it.
fn complain(severity: Severity, message: &str) {
    let (word, colour) = match severity {
        Severity::Warning => ("warning", "\x1b[1;33m"),
        Severity::Error => ("error", "\x1b[1;31m"),
    };
    let mut stderr = std::io::stderr().lock();
    // If standard error is closed, there is nobody to tell.
    let _ = if stderr.is_terminal() && wants_colour() {
        writeln!(stderr, "diskwright: {colour}{word}\x1b[0m: {message}")
    } else {
        writeln!(stderr, "diskwright: {word}: {message}")
    };
}

/// Whether the user wants colour (no-color.org; TERM=dumb).
fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes a result to standard output.
fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    unless_nobody_reads(
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(crate::pour::write_error),
    )
}

/// If the reader of a report has left, as `head` does, the work is done. If nobody reads an image, that is a
/// failure.
fn unless_nobody_reads(written: Result<()>) -> Result<()> {
    use std::error::Error as _;
    let cause = |error: &Error| error.source()?.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match written {
        Err(error) if cause(&error) == Some(ErrorKind::BrokenPipe) => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::option::setting;

    #[test]
    fn the_arguments_are_sound() {
        Cli::command().debug_assert();
    }

    /// Errors name options of the library, and users see flags: in the message and in the hint.
    #[test]
    fn options_of_errors_are_spelled_as_flags() {
        for (key, flag) in [
            ("subformat", "--subformat"),
            ("compress", "--compress"),
            ("level", "--level"),
            ("cluster_size", "--cluster-size"),
            ("allow_backing", "--allow-backing"),
            ("backing", "--backing"),
        ] {
            let find = |key: &str| flag_of(&Cli::command(), key);
            let spelled =
                |error: Error| error.flagged(find).spelled(|key| find(key).map(Spelling::Flag)).to_string();
            let error = || Error::new(Kind::Usage, "no");
            assert_eq!(spelled(error().about(key)), format!("no\n  at {flag}"));
            let text = spelled(error().remedy(key, "take another"));
            assert_eq!(text, format!("no\n  hint: take another ({flag})"));
            let placed = error().about(key).at_line("disk.toml", 3, "level = 0");
            assert!(!spelled(placed).contains(flag));
        }
        assert_eq!(flag_of(&Cli::command(), "no-such-option"), None);
    }

    /// A warning names an option as a flag where flags were written.
    #[test]
    fn options_of_warnings_are_spelled_as_flags() {
        let text = setting("owner", "preserve");
        let flags = |command: &'static str| move |key: &str| spelling(command, key);
        let warning = crate::error::Warning(format!("no owners; {text} keeps them"));
        assert_eq!(warning.to_string(), "no owners; `owner = \"preserve\"` keeps them");
        assert_eq!(warning.spelled(flags("mkfs")).to_string(), "no owners; --owner preserve keeps them");
        // A system has no such flag.
        assert_eq!(warning.spelled(flags("nixos")).to_string(), warning.to_string());
        let compat = crate::error::Warning(setting("compat", false));
        assert_eq!(compat.spelled(flags("nixos")).to_string(), "--compat false");
        assert_eq!(compat.to_string(), "`compat = false`");
    }

    /// Runs `check` on every command.
    fn for_all(command: &clap::Command, check: &mut impl FnMut(&clap::Command)) {
        check(command);
        command.get_subcommands().for_each(|command| for_all(command, check));
    }

    /// What is longer than a narrow terminal is a paragraph by itself, in one line, which clap breaks where it has to.
    #[test]
    fn no_line_of_help_is_broken_twice() {
        let broken = |text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            let blank =
                |at: Option<usize>| at.and_then(|at| lines.get(at)).is_none_or(|line| line.is_empty());
            let bad = lines.iter().enumerate().find(|(at, line)| {
                let alone = blank(at.checked_sub(1)) && blank(Some(at + 1));
                line.chars().count() > 80 && (!alone || line.starts_with([' ', '#']))
            });
            bad.map(|(_, line)| (*line).to_owned())
        };
        let long = "words ".repeat(20);
        assert_eq!(broken(&format!("{long}\nmore")), Some(long.clone()));
        assert_eq!(broken(&format!("Example:\n\n  {long}")), Some(format!("  {long}")));
        assert_eq!(broken(&format!("Example:\n  short\n\n{long}\n\n{long}")), None);
        let mut seen = 0;
        for_all(&Cli::command(), &mut |command| {
            let Some(help) = command.get_after_help() else { return };
            assert_eq!(broken(&help.to_string()), None, "{}", command.get_name());
            seen += 1;
        });
        assert!(seen > 10, "{seen}");
    }

    /// A filesystem's help offers what that filesystem holds.
    #[test]
    fn help_of_a_fat_offers_no_owners() {
        let mut command = Cli::command();
        command.build();
        let mkfs = command.find_subcommand_mut("mkfs").unwrap();
        let mut help = |name: &str| mkfs.find_subcommand_mut(name).unwrap().render_long_help().to_string();
        let (ext4, vfat) = (help("ext4"), help("vfat"));
        for flag in ["--owner", "--hardlinks", "--xattrs"] {
            assert!(ext4.contains(flag) && !vfat.contains(flag), "{flag}");
        }
        assert!(vfat.contains("--label") && vfat.contains("--seed"));
    }

    #[test]
    fn every_flag_has_help() {
        let mut seen = 0;
        for_all(&Cli::command(), &mut |command| {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
                seen += 1;
            }
        });
        assert!(seen > 20, "{seen}");
    }
}
