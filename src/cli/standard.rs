//! Standard input and output for an image: without the buffers of the standard library, and without waiting
//! forever for the other side of a pipe after a signal.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::progress::Progress;

/// How often a waiting thread checks whether to go on.
const BEAT: Duration = Duration::from_millis(100);

fn ended() -> std::io::Error {
    std::io::Error::other("the thread that waits for the other side has ended")
}

/// The answer of the thread that waits for the other side. Once `progress` says to stop, it returns without
/// an answer.
fn answer<T>(from: &Receiver<T>, progress: &Progress) -> std::io::Result<T> {
    loop {
        match from.recv_timeout(BEAT) {
            Ok(answer) => return Ok(answer),
            Err(RecvTimeoutError::Disconnected) => return Err(ended()),
            Err(RecvTimeoutError::Timeout) => {
                progress.check().map_err(|error| std::io::Error::other(error.to_string()))?;
            }
        }
    }
}

/// Standard input, which is read by a thread of its own.
#[derive(Debug)]
pub(super) struct Input {
    progress: Progress,
    /// How many bytes are wanted next.
    wanted: SyncSender<usize>,
    read: Receiver<std::io::Result<Vec<u8>>>,
}

/// Standard input, until `progress` says to stop.
///
/// # Errors
/// [`Kind::Source`] where it is closed.
pub(super) fn standard_input(progress: &Progress) -> Result<Input> {
    let stdin = rustix::io::dup(std::io::stdin())
        .map_err(|error| Error::new(Kind::Source, "cannot read standard input").because(error))?;
    Ok(Input::over(stdin.into(), progress.clone()))
}

impl Input {
    fn over(mut from: File, progress: Progress) -> Self {
        let (wanted, ours) = sync_channel::<usize>(1);
        let (theirs, read) = sync_channel(1);
        std::thread::spawn(move || {
            for length in ours {
                let mut piece = vec![0; length];
                let done = from.read(&mut piece).map(|count| {
                    piece.truncate(count);
                    piece
                });
                if theirs.send(done).is_err() {
                    return;
                }
            }
        });
        Self { progress, wanted, read }
    }
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.wanted.send(out.len()).map_err(|_| ended())?;
        let piece = answer(&self.read, &self.progress)??;
        out[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

/// Standard output, which is written by a thread of its own. That thread may wait in the kernel, and ends
/// with the process.
#[derive(Debug)]
pub(super) struct Standard {
    progress: Progress,
    pieces: SyncSender<Vec<u8>>,
    written: Receiver<(Vec<u8>, std::io::Result<()>)>,
    /// The buffer, while no thread uses it.
    spare: Vec<u8>,
}

/// Standard output, until `progress` says to stop.
///
/// # Errors
/// [`Kind::Output`] where it is closed.
pub(super) fn standard_output(progress: &Progress) -> Result<Standard> {
    let stdout = std::io::stdout().lock();
    let out = rustix::io::dup(&stdout).map_err(|error| crate::pour::write_error(error.into()))?;
    Ok(Standard::over(out.into(), progress.clone()))
}

impl Standard {
    fn over(mut out: File, progress: Progress) -> Self {
        let (pieces, ours) = sync_channel::<Vec<u8>>(1);
        let (theirs, written) = sync_channel(1);
        std::thread::spawn(move || {
            for piece in ours {
                let done = out.write_all(&piece);
                if theirs.send((piece, done)).is_err() {
                    return;
                }
            }
        });
        Self { progress, pieces, written, spare: Vec::new() }
    }
}

impl Write for Standard {
    /// Writes all of `bytes`, or returns the error.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut piece = std::mem::take(&mut self.spare);
        piece.clear();
        piece.extend_from_slice(bytes);
        self.pieces.send(piece).map_err(|_| ended())?;
        let (piece, done) = answer(&self.written, &self.progress)?;
        self.spare = piece;
        done.map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, pipe};
    use std::sync::atomic::Ordering;

    fn over_a_pipe(progress: &Progress) -> (PipeReader, Standard) {
        let (reader, writer) = pipe().unwrap();
        (reader, Standard::over(std::os::fd::OwnedFd::from(writer).into(), progress.clone()))
    }

    #[test]
    fn what_is_written_arrives_in_order() {
        let (mut reader, mut out) = over_a_pipe(&Progress::default());
        let expected: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let sent = expected.clone();
        let writer = std::thread::spawn(move || {
            sent.chunks(77_777).for_each(|piece| out.write_all(piece).unwrap());
        });
        let mut found = Vec::new();
        reader.read_to_end(&mut found).unwrap();
        writer.join().unwrap();
        assert!(found == expected);
    }

    #[test]
    fn a_reader_that_sleeps_does_not_keep_it_from_stopping() {
        let progress = Progress::default();
        let (_reader, mut out) = over_a_pipe(&progress);
        progress.stop_flag().store(true, Ordering::Relaxed);
        // More bytes than a pipe holds.
        let error = out.write_all(&vec![0; 1 << 22]).unwrap_err();
        assert!(error.to_string().contains("stopped by a signal"), "{error}");
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let (reader, mut writer) = pipe().unwrap();
        let mut input = Input::over(std::os::fd::OwnedFd::from(reader).into(), Progress::default());
        let expected: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let sent = expected.clone();
        let other = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        let mut found = Vec::new();
        input.read_to_end(&mut found).unwrap();
        other.join().unwrap();
        assert!(found == expected);
    }

    #[test]
    fn a_writer_that_sleeps_does_not_keep_it_from_stopping() {
        let progress = Progress::default();
        let (reader, _writer) = pipe().unwrap();
        let mut input = Input::over(std::os::fd::OwnedFd::from(reader).into(), progress.clone());
        progress.stop_flag().store(true, Ordering::Relaxed);
        let error = input.read(&mut [0; 10]).unwrap_err();
        assert!(error.to_string().contains("stopped by a signal"), "{error}");
    }

    #[test]
    fn a_reader_that_has_left_is_told() {
        let (reader, mut out) = over_a_pipe(&Progress::default());
        drop(reader);
        let error = out.write_all(&[0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }
}
