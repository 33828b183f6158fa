//! Records what is not judged on this machine. A test without its judge or privilege ends early, and what it
//! needs is recorded in `target/left-out`, so that `tests/run` can count it at the end. In continuous
//! integration (`CI=true`) it fails instead.
//!
//! The test crates use [`crate::test`] instead of Rust's own `#[test]`, so the tests need no code for this.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

use crate::tools::{build_folder, is_root};

/// The command that brings most judges.
pub const INSTALL: &str = "tests/run --install";

/// How a test gets the privileges of root.
const ROOT: &str = "run tests/run as root";

thread_local! {
    /// The test that this thread runs.
    static TEST: RefCell<&'static str> = const { RefCell::new("outside of a test") };
    /// Whether it ended early. proptest catches the panic that ends the test and turns it into another one.
    static LEFT: Cell<bool> = const { Cell::new(false) };
}

/// The panic that ends a test early.
struct Left;

/// The place of the record, and whether an entry is a failure.
#[derive(Clone, Debug)]
pub struct Record {
    /// The file. Each line has the judge, what would bring it, and the test, separated by tabs.
    pub path: PathBuf,
    /// Whether this is continuous integration, where nothing may be left out.
    pub strict: bool,
}

impl Record {
    /// The record of this run.
    pub fn of_this_run() -> Self {
        Self {
            path: build_folder().join("left-out"),
            strict: std::env::var_os("CI").is_some_and(|value| value == "true"),
        }
    }

    /// Records that `judge` did not judge, and what would `bring` it.
    pub fn note(&self, judge: &str, bring: &str) {
        assert!(!self.strict, "{judge} is not here: {bring}");
        let line = format!("{judge}\t{bring}\t{}\n", TEST.with_borrow(|test| *test));
        // One write, so that lines of several processes do not mix.
        File::options()
            .create(true)
            .append(true)
            .open(&self.path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
    }

    /// The same, and ends the test.
    pub fn leave(&self, judge: &str, bring: &str) -> ! {
        self.note(judge, bring);
        LEFT.set(true);
        resume_unwind(Box::new(Left))
    }
}

/// Records that `judge` did not judge; the test goes on.
pub fn note(judge: &str, bring: &str) {
    Record::of_this_run().note(judge, bring);
}

/// Ends this test, which cannot go on without `judge`.
pub fn leave(judge: &str, bring: &str) -> ! {
    Record::of_this_run().leave(judge, bring)
}

/// Whether this is root. If not, it is recorded that only root can do `what`.
pub fn as_root(what: &str) -> bool {
    if !is_root() {
        note(what, ROOT);
    }
    is_root()
}

/// Ends this test unless it runs as root, because only root can do `what`.
pub fn need_root(what: &str) {
    if !is_root() {
        leave(what, ROOT);
    }
}

/// Runs the body of a test. A test that was left out passes.
pub fn judged<T: Default>(name: &'static str, body: impl FnOnce() -> T) -> T {
    TEST.set(name);
    LEFT.set(false);
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        if !LEFT.get() {
            resume_unwind(panic);
        }
        T::default()
    })
}
