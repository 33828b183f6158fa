//! Chunks that all cores prepare and that are put down in their order: for a stream, which has only one end, and for
//! compressed containers, where a chunk's place follows from the lengths of those before it.
//!
//! Each worker takes the next chunk and prepares it by itself. Then it waits for its turn, which comes in the order of
//! the chunks, to put the chunk down or to learn where it goes; what is left to do after that it does while the next one
//! has its turn. So memory is a chunk per worker, and no number of threads changes a byte.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::PourOptions;
use crate::error::{Error, Result};
use crate::units::{u64_of, usize_of};

/// Work in chunks.
pub(crate) trait Chunks: Sync {
    /// What a worker keeps from chunk to chunk: buffers, an encoder. It also carries a chunk from step to step.
    type Own;
    /// What only the worker whose turn it is may change.
    type Shared: Send;
    /// What a turn leaves to be done.
    type Rest;

    /// How many chunks there are.
    fn count(&self) -> u64;

    /// What a worker begins with.
    fn own(&self) -> Result<Self::Own>;

    /// Prepares a chunk; in parallel with others.
    fn prepare(&self, chunk: u64, own: &mut Self::Own) -> Result<()>;

    /// Takes the turn of the chunk that was prepared; one at a time, in the order of the chunks.
    fn turn(&self, shared: &mut Self::Shared, own: &mut Self::Own) -> Result<Self::Rest>;

    /// Does what the turn left; in parallel with others.
    fn finish(&self, rest: Self::Rest, own: &mut Self::Own) -> Result<()>;
}

/// Does all chunks of `work` and returns what `shared` has become.
///
/// # Errors
/// That of the first chunk that cannot be prepared or put down; later chunks get no turn then. Also any of
/// [`Chunks::own`] and [`Chunks::finish`], and [`Kind::Interrupted`](crate::error::Kind::Interrupted) after a signal.
pub(crate) fn in_turns<W: Chunks>(
    work: &W,
    shared: W::Shared,
    options: &PourOptions<'_>,
) -> Result<W::Shared> {
    let count = work.count();
    let room = Room {
        work,
        options,
        count,
        next: AtomicU64::new(0),
        turn: Mutex::new(Turn { chunk: 0, shared, error: None }),
        turned: Condvar::new(),
    };
    let jobs = usize_of(u64_of(options.jobs).clamp(1, count.max(1)));
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(|| room.run());
        }
        room.run();
    });
    let turn = room.turn.into_inner().unwrap_or_else(PoisonError::into_inner);
    match turn.error {
        Some(error) => Err(error),
        None => Ok(turn.shared),
    }
}

/// What the workers share.
struct Room<'a, W: Chunks> {
    work: &'a W,
    options: &'a PourOptions<'a>,
    count: u64,
    next: AtomicU64,
    turn: Mutex<Turn<W::Shared>>,
    turned: Condvar,
}

/// Whose turn it is.
struct Turn<S> {
    chunk: u64,
    shared: S,
    error: Option<Error>,
}

/// Tells the others when a worker ends by a panic: they would wait for its turn for ever.
struct Alarm<'a, W: Chunks>(&'a Room<'a, W>);

impl<W: Chunks> Drop for Alarm<'_, W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Error::bug("a worker ended early"));
        }
    }
}

impl<W: Chunks> Room<'_, W> {
    /// Takes chunks until there are none, or someone failed.
    fn run(&self) {
        let _alarm = Alarm(self);
        let mut own = match self.work.own() {
            Ok(own) => own,
            Err(error) => return self.fail(error),
        };
        loop {
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            if chunk >= self.count {
                return;
            }
            if let Err(error) = self.chunk(chunk, &mut own) {
                return self.fail(error);
            }
            if self.lock().error.is_some() {
                return;
            }
        }
    }

    /// Does one chunk. Without an error where another worker has failed already.
    fn chunk(&self, chunk: u64, own: &mut W::Own) -> Result<()> {
        let prepared = self.options.progress.check().and_then(|()| self.work.prepare(chunk, own));
        let mut turn = self.lock();
        // A fault waits for its turn too, so that of two faults the first chunk's is told.
        while turn.chunk != chunk {
            if turn.error.is_some() {
                return Ok(());
            }
            turn = self.turned.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        let rest = match prepared.and_then(|()| self.work.turn(&mut turn.shared, own)) {
            Ok(rest) => rest,
            Err(error) => {
                turn.error.get_or_insert(error);
                drop(turn);
                self.turned.notify_all();
                return Ok(());
            }
        };
        turn.chunk += 1;
        drop(turn);
        self.turned.notify_all();
        self.work.finish(rest, own)
    }

    fn fail(&self, error: Error) {
        self.lock().error.get_or_insert(error);
        self.turned.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Turn<W::Shared>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::progress::Progress;

    /// Squares of the chunks' numbers, in order; `fault` cannot be prepared, `panic` panics.
    struct Squares {
        count: u64,
        fault: Option<u64>,
        panic: Option<u64>,
        finished: AtomicU64,
    }

    impl Squares {
        fn new(count: u64) -> Self {
            Self { count, fault: None, panic: None, finished: AtomicU64::new(0) }
        }

        fn run(&self, jobs: usize) -> Result<Vec<u64>> {
            in_turns(self, Vec::new(), &PourOptions::new(jobs, &Progress::default()))
        }
    }

    impl Chunks for Squares {
        type Own = u64;
        type Shared = Vec<u64>;
        type Rest = u64;

        fn count(&self) -> u64 {
            self.count
        }

        fn own(&self) -> Result<u64> {
            Ok(0)
        }

        fn prepare(&self, chunk: u64, own: &mut u64) -> Result<()> {
            assert_ne!(self.panic, Some(chunk));
            // Chunks take unlike long, so that later ones are often ready first.
            for _ in 0..(chunk * 7919) % 5000 {
                std::hint::spin_loop();
            }
            *own = chunk * chunk;
            match self.fault {
                Some(fault) if chunk >= fault => {
                    Err(Error::new(Kind::Source, format!("chunk {chunk} is bad")))
                }
                _ => Ok(()),
            }
        }

        fn turn(&self, shared: &mut Vec<u64>, own: &mut u64) -> Result<u64> {
            shared.push(*own);
            Ok(*own)
        }

        fn finish(&self, rest: u64, _: &mut u64) -> Result<()> {
            self.finished.fetch_add(rest, Ordering::Relaxed);
            Ok(())
        }
    }

    #[test]
    fn turns_come_in_order_and_every_chunk_is_finished() {
        for (count, jobs) in [(0, 3), (1, 8), (500, 1), (500, 2), (500, 7)] {
            let squares = Squares::new(count);
            let expected: Vec<u64> = (0..count).map(|chunk| chunk * chunk).collect();
            assert_eq!(squares.run(jobs).unwrap(), expected);
            assert_eq!(squares.finished.into_inner(), expected.iter().sum::<u64>());
        }
    }

    #[test]
    fn the_first_fault_is_told_whichever_was_found_first() {
        for jobs in [1, 2, 7] {
            let squares = Squares { fault: Some(40), ..Squares::new(500) };
            assert_eq!(squares.run(jobs).unwrap_err().what(), "chunk 40 is bad");
        }
    }

    #[test]
    fn a_panic_in_a_worker_ends_all() {
        let ended = std::panic::catch_unwind(|| Squares { panic: Some(30), ..Squares::new(500) }.run(3));
        assert!(ended.is_err());
    }

    #[test]
    fn a_signal_ends_all() {
        let progress = Progress::default();
        progress.stop_flag().store(true, Ordering::Relaxed);
        let ended = in_turns(&Squares::new(500), Vec::new(), &PourOptions::new(2, &progress));
        assert_eq!(ended.unwrap_err().kind(), Kind::Interrupted);
    }
}
