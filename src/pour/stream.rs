//! Writes the image as a stream of bytes in order, for `-o -`: several workers read ahead, one at a time
//! writes.

use std::io::Write;

use super::PourOptions;
use super::ordered::{self, Memory, Stage};
use crate::error::{Error, Kind, Result};
use crate::image::{Cursor, Image};
use crate::units::{Bytes, MIB, usize_of};

/// How many bytes a worker reads ahead at a time.
const CHUNK: u64 = 2 * MIB;

/// The target of a stream. It must be `Send`, because a worker writes to it.
pub type Sink<'a> = &'a mut (dyn Write + Send);

/// Writes the whole image, holes as zeros, to `out`.
///
/// # Errors
/// [`Kind::Output`] where `out` refuses bytes (a closed pipe), [`Kind::Source`] for a host file that is gone
/// or changed, [`Kind::Interrupted`] after a signal.
pub fn stream(image: &Image, out: Sink<'_>, options: &PourOptions<'_>) -> Result<()> {
    image.settle(options)?;
    let memory = Memory::of_output(Bytes::new(CHUNK));
    let out = ordered::run(&Whole { image, options }, out, memory, options)?;
    out.flush().map_err(write_error)
}

/// The error of a stream that refuses bytes.
pub(crate) fn write_error(error: std::io::Error) -> Error {
    Error::new(Kind::Output, "cannot write to standard output").because(error)
}

/// All bytes of an image, in chunks.
struct Whole<'a> {
    image: &'a Image,
    options: &'a PourOptions<'a>,
}

impl<'a> Stage for Whole<'a> {
    type Worker = (Cursor, Vec<u8>);
    type State = Sink<'a>;
    type Rest = ();

    fn count(&self) -> u64 {
        self.image.length().get().div_ceil(CHUNK)
    }

    fn worker(&self) -> Result<Self::Worker> {
        Ok((self.image.cursor(), Vec::new()))
    }

    fn prepare(&self, chunk: u64, (cursor, bytes): &mut Self::Worker) -> Result<()> {
        let offset = chunk * CHUNK;
        let length = CHUNK.min(self.image.length().get() - offset);
        bytes.resize(usize_of(length), 0);
        cursor.read(offset, bytes)?;
        self.options.advance(self.image, Bytes::new(offset), Bytes::new(offset + length));
        Ok(())
    }

    fn append(&self, out: &mut Sink<'a>, (_, bytes): &mut Self::Worker) -> Result<()> {
        out.write_all(bytes).map_err(write_error)
    }

    fn finish(&self, (): (), _: &mut Self::Worker) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Builder;
    use crate::progress::Progress;

    #[test]
    fn the_stream_is_the_image() {
        let mut builder = Builder::new(Bytes::new(9 * MIB + 5));
        builder.bytes(Bytes::new(2 * MIB - 3), "across", vec![7; 4_000_000]);
        let image = builder.finish().unwrap();
        let mut expected = vec![0; usize_of(image.length().get())];
        image.read(0, &mut expected).unwrap();
        for jobs in [1, 3, 16] {
            let mut out = Vec::new();
            stream(&image, &mut out, &PourOptions::new(jobs, &Progress::default())).unwrap();
            assert!(out == expected);
        }
    }
}
