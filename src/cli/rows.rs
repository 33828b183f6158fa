//! Findings on standard output: one on each line, or a list in JSON.

use std::fmt::Display;
use std::io::{BufWriter, StdoutLock, Write};

use serde::Serialize;

use super::unless_nobody_reads;
use crate::error::{Error, Result};
use crate::pour::write_error;

/// Writes rows as they are found.
pub(super) struct Rows {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
    count: u64,
}

impl Rows {
    pub(super) fn new(json: bool) -> Self {
        Self { out: BufWriter::new(std::io::stdout().lock()), json, count: 0 }
    }

    /// Writes one more.
    pub(super) fn row<T: Serialize + Display>(&mut self, row: &T) -> Result<()> {
        let line = if self.json {
            let text =
                serde_json::to_string(row).map_err(|error| Error::bug("a row is no JSON").because(error))?;
            format!("{}\n  {text}", if self.count == 0 { "[" } else { "," })
        } else {
            format!("{row}\n")
        };
        self.count += 1;
        unless_nobody_reads(self.out.write_all(line.as_bytes()).map_err(write_error))
    }

    /// Ends the list.
    pub(super) fn end(mut self) -> Result<()> {
        let end = match (self.json, self.count) {
            (false, _) => "",
            (true, 0) => "[]\n",
            (true, _) => "\n]\n",
        };
        let written = self.out.write_all(end.as_bytes()).and_then(|()| self.out.flush());
        unless_nobody_reads(written.map_err(write_error))
    }
}
