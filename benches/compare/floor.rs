//! The floor: the bytes of all files copied into one sparse file, each to a multiple of 4 KiB, by as many
//! threads. Small files are gathered into writes of at most 256 KiB, the best of the powers of two. The list
//! of files and their lengths is given: nothing is searched, laid out or checked.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

const UNIT: u64 = 4 << 20;
const BUFFER: usize = 256 << 10;

/// A file and its place.
struct Piece<'a> {
    at: u64,
    length: u64,
    path: &'a str,
}

pub(crate) fn copy(list: &Path, out: &Path, jobs: usize) {
    let text = std::fs::read_to_string(list).expect("the list can be read");
    let mut pieces = Vec::new();
    let mut at = 0;
    for line in text.lines() {
        let (length, path) = line.split_once(' ').expect("a line is a length and a path");
        let length: u64 = length.parse().expect("a length is a number");
        pieces.push(Piece { at, length, path });
        at = (at + length).next_multiple_of(4096);
    }
    let file = File::create(out).expect("the output can be made");
    file.set_len(at).expect("the output can be that long");
    let mut units = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (number, piece) in pieces.iter().enumerate() {
        bytes += piece.length;
        if bytes >= UNIT || number + 1 == pieces.len() {
            units.push(first..number + 1);
            (first, bytes) = (number + 1, 0);
        }
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let mut run = Run { file: &file, start: 0, length: 0, buffer: vec![0; BUFFER] };
                while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for piece in &pieces[unit.clone()] {
                        run.piece(piece);
                    }
                    run.flush();
                }
            });
        }
    });
}

/// Bytes gathered for one write.
struct Run<'a> {
    file: &'a File,
    start: u64,
    length: usize,
    buffer: Vec<u8>,
}

impl Run<'_> {
    fn flush(&mut self) {
        self.file.write_all_at(&self.buffer[..self.length], self.start).expect("the output can be written");
        self.length = 0;
    }

    fn piece(&mut self, piece: &Piece<'_>) {
        let source = File::open(piece.path).expect("a source can be opened");
        let mut done = 0;
        while done < piece.length {
            let at = piece.at + done;
            let from = usize::try_from(at - self.start.min(at)).unwrap_or(usize::MAX);
            if self.length == 0 || from >= BUFFER {
                self.flush();
                self.start = at;
            }
            let from = usize::try_from(at - self.start).expect("inside the buffer");
            self.buffer[self.length..from.max(self.length)].fill(0);
            let want = (BUFFER - from).min(usize::try_from(piece.length - done).unwrap_or(usize::MAX));
            source.read_exact_at(&mut self.buffer[from..from + want], done).expect("a source can be read");
            self.length = from + want;
            done += u64::try_from(want).expect("fits");
        }
    }
}
