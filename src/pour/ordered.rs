//! The ordered pipeline: all cores prepare chunks, and the chunks are appended in their order. It serves
//! streams, which can only be appended to; compressed data, where the place of a chunk follows from the
//! lengths of the chunks before it; and digests, whose results have an order.
//!
//! Each worker takes the next chunk and prepares it. Then it waits until all chunks before it are appended,
//! and appends its own: it writes the chunk, or learns where the chunk goes. It does the rest of the work
//! while the next chunk is appended. So memory is one chunk for each worker, and the number of threads does
//! not change a byte.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::PourOptions;
use crate::error::{Error, Result};
use crate::units::{u64_of, usize_of};

/// Work in chunks.
pub(crate) trait Stage: Sync {
    /// What a worker keeps between chunks: buffers, an encoder. It also carries a chunk from one step to the
    /// next.
    type Worker;
    /// What chunks are appended to. One worker at a time has it.
    type State: Send;
    /// The work that is left after appending.
    type Rest;

    /// How many chunks there are.
    fn count(&self) -> u64;

    /// The initial state of a worker.
    fn worker(&self) -> Result<Self::Worker>;

    /// Prepares a chunk, in parallel with other chunks.
    fn prepare(&self, chunk: u64, worker: &mut Self::Worker) -> Result<()>;

    /// Appends the prepared chunk: one at a time, in the order of the chunks.
    fn append(&self, state: &mut Self::State, worker: &mut Self::Worker) -> Result<Self::Rest>;

    /// Does the work that is left after appending, in parallel with other chunks.
    fn finish(&self, rest: Self::Rest, worker: &mut Self::Worker) -> Result<()>;
}

/// Processes all chunks of `stage` and returns the final `state`.
///
/// # Errors
/// The error of the first chunk that cannot be prepared or appended; no later chunk is appended then. Also
/// any error of [`Stage::worker`] and [`Stage::finish`], and
/// [`Kind::Interrupted`](crate::error::Kind::Interrupted) after a signal.
pub(crate) fn run<S: Stage>(stage: &S, state: S::State, options: &PourOptions<'_>) -> Result<S::State> {
    let count = stage.count();
    let pipeline = Pipeline {
        stage,
        options,
        count,
        next: AtomicU64::new(0),
        order: Mutex::new(Order { chunk: 0, state, error: None }),
        moved: Condvar::new(),
    };
    let jobs = usize_of(u64_of(options.jobs).clamp(1, count.max(1)));
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(|| pipeline.run());
        }
        pipeline.run();
    });
    let order = pipeline.order.into_inner().unwrap_or_else(PoisonError::into_inner);
    match order.error {
        Some(error) => Err(error),
        None => Ok(order.state),
    }
}

/// What the workers share.
struct Pipeline<'a, S: Stage> {
    stage: &'a S,
    options: &'a PourOptions<'a>,
    count: u64,
    /// The chunk that the next free worker takes.
    next: AtomicU64,
    order: Mutex<Order<S::State>>,
    /// Notified whenever a chunk was appended, or there is an error.
    moved: Condvar,
}

/// How far the chunks are appended.
struct Order<T> {
    /// The chunk that is appended next.
    chunk: u64,
    state: T,
    error: Option<Error>,
}

/// Tells the other workers when one ends by a panic: otherwise they would wait for its chunk forever.
struct Alarm<'a, S: Stage>(&'a Pipeline<'a, S>);

impl<S: Stage> Drop for Alarm<'_, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Error::bug("a worker ended early"));
        }
    }
}

impl<S: Stage> Pipeline<'_, S> {
    /// Takes chunks until none is left or one failed.
    fn run(&self) {
        let _alarm = Alarm(self);
        let mut worker = match self.stage.worker() {
            Ok(worker) => worker,
            Err(error) => return self.fail(error),
        };
        loop {
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            if chunk >= self.count {
                return;
            }
            if let Err(error) = self.chunk(chunk, &mut worker) {
                return self.fail(error);
            }
            if self.lock().error.is_some() {
                return;
            }
        }
    }

    /// Processes one chunk. Returns without an error if another worker has already failed.
    fn chunk(&self, chunk: u64, worker: &mut S::Worker) -> Result<()> {
        let prepared = self.options.progress.check().and_then(|()| self.stage.prepare(chunk, worker));
        let mut order = self.lock();
        // An error also waits for its turn, so that of two errors the one of the first chunk is reported.
        while order.chunk != chunk {
            if order.error.is_some() {
                return Ok(());
            }
            order = self.moved.wait(order).unwrap_or_else(PoisonError::into_inner);
        }
        let rest = match prepared.and_then(|()| self.stage.append(&mut order.state, worker)) {
            Ok(rest) => rest,
            Err(error) => {
                order.error.get_or_insert(error);
                drop(order);
                self.moved.notify_all();
                return Ok(());
            }
        };
        order.chunk += 1;
        drop(order);
        self.moved.notify_all();
        self.stage.finish(rest, worker)
    }

    fn fail(&self, error: Error) {
        self.lock().error.get_or_insert(error);
        self.moved.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Order<S::State>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
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
            run(self, Vec::new(), &PourOptions::new(jobs, &Progress::default()))
        }
    }

    impl Stage for Squares {
        type Worker = u64;
        type State = Vec<u64>;
        type Rest = u64;

        fn count(&self) -> u64 {
            self.count
        }

        fn worker(&self) -> Result<u64> {
            Ok(0)
        }

        fn prepare(&self, chunk: u64, worker: &mut u64) -> Result<()> {
            assert_ne!(self.panic, Some(chunk));
            // Chunks take different times, so that later ones are often ready first.
            for _ in 0..(chunk * 7919) % 5000 {
                std::hint::spin_loop();
            }
            *worker = chunk * chunk;
            match self.fault {
                Some(fault) if chunk >= fault => {
                    Err(Error::new(Kind::Source, format!("chunk {chunk} is bad")))
                }
                _ => Ok(()),
            }
        }

        fn append(&self, state: &mut Vec<u64>, worker: &mut u64) -> Result<u64> {
            state.push(*worker);
            Ok(*worker)
        }

        fn finish(&self, rest: u64, _: &mut u64) -> Result<()> {
            self.finished.fetch_add(rest, Ordering::Relaxed);
            Ok(())
        }
    }

    #[test]
    fn chunks_are_appended_in_order_and_every_one_is_finished() {
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
        let ended = run(&Squares::new(500), Vec::new(), &PourOptions::new(2, &progress));
        assert_eq!(ended.unwrap_err().kind(), Kind::Interrupted);
    }
}
