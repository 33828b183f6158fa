//! The image as a stream of bytes in order, for `-o -`: several workers read ahead, one writes.

use std::io::Write;
use std::sync::mpsc::sync_channel;

use super::{Image, PourOptions};
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, MIB, usize_of};

/// How many bytes are read ahead by one worker at a time.
const CHUNK: u64 = 2 * MIB;

/// Writes the whole image, holes as zeros, to `out`.
///
/// # Errors
/// [`Kind::Output`] where `out` refuses bytes (a closed pipe), [`Kind::Source`] for a host file that is gone or
/// changed, [`Kind::Interrupted`] after a signal.
pub fn stream(image: &Image, out: &mut dyn Write, options: &PourOptions<'_>) -> Result<()> {
    let length = image.length().get();
    let chunks = length.div_ceil(CHUNK);
    let jobs = u64::try_from(options.jobs.max(1)).unwrap_or(1);
    std::thread::scope(|scope| {
        // Worker w renders chunks w, w + jobs, w + 2 jobs, …; reading the channels in turn restores the order, and a
        // channel of one slot bounds the memory.
        let channels: Vec<_> = (0..jobs.min(chunks.max(1)))
            .map(|worker| {
                let (send, receive) = sync_channel::<Result<Vec<u8>>>(1);
                scope.spawn(move || {
                    let mut number = worker;
                    while number < chunks {
                        let chunk =
                            options.progress.check().and_then(|()| render(image, number * CHUNK, options));
                        let failed = chunk.is_err();
                        if send.send(chunk).is_err() || failed {
                            return;
                        }
                        number += jobs;
                    }
                });
                receive
            })
            .collect();
        for number in 0..chunks {
            let channel =
                channels.get(usize_of(number % jobs)).ok_or_else(|| Error::bug("no such worker"))?;
            let chunk = channel.recv().map_err(|_| Error::bug("a reading thread ended early"))??;
            out.write_all(&chunk).map_err(write_error)?;
        }
        out.flush().map_err(write_error)
    })
}

fn write_error(error: std::io::Error) -> Error {
    Error::new(Kind::Output, "cannot write to standard output").because(error)
}

/// The bytes of one chunk.
fn render(image: &Image, offset: u64, options: &PourOptions<'_>) -> Result<Vec<u8>> {
    let length = CHUNK.min(image.length().get() - offset);
    let mut bytes = vec![0; usize_of(length)];
    image.read(offset, &mut bytes)?;
    options.advance(image, Bytes::new(offset), Bytes::new(offset + length));
    Ok(bytes)
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
            stream(&image, &mut out, &PourOptions { jobs, progress: &Progress::default() }).unwrap();
            assert!(out == expected);
        }
    }
}
