//! How much a program reads of its sources, by strace.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::tools::{command, must, scratch};

/// How many bytes a scan asks for when it looks whether a file is small enough to be held: one more than the longest.
const LOOK: u64 = 4097;

/// The bytes that `program` reads from files below `source`, without those that a scan looks at in vain: it stops looking where
/// most files are longer, and which of its threads sees that first differs from run to run.
pub fn below(source: &Path, program: &Command) -> u64 {
    let folder = scratch();
    let log = folder.path().join("log");
    let mut strace = command("strace");
    strace.args(["-f", "-y", "-e", "trace=read,pread64,copy_file_range", "-o"]).arg(&log);
    strace.current_dir(program.get_current_dir().unwrap_or(Path::new(".")));
    // A call that another one interrupts has its file in one line and its result in another.
    must(strace.arg(program.get_program()).args(program.get_args()));
    let source = format!("{}/", source.display());
    let log = std::fs::read_to_string(&log).unwrap();
    let mut interrupted = BTreeSet::new();
    let mut sum = 0;
    for line in log.lines() {
        let thread = line.split_whitespace().next().unwrap_or_default();
        if line.contains(&source) && line.ends_with("<unfinished ...>") {
            interrupted.insert(thread);
        } else if line.contains(&source) || (line.contains(" resumed>") && interrupted.remove(thread)) {
            let (call, read) = line.rsplit_once("= ").unwrap_or_default();
            let in_vain = call.trim_end().ends_with(&format!(", {LOOK}, 0)"));
            sum += read.trim().parse().ok().filter(|read| !(in_vain && *read == LOOK)).unwrap_or(0);
        }
    }
    sum
}
