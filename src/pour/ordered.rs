//! The ordered pipeline: all cores prepare chunks, and the chunks are appended in their order. It serves
//! streams, which can only be appended to; compressed data, where the place of a chunk follows from the
//! lengths of the chunks before it; and digests, whose results have an order.
//!
//! Each thread takes a free worker and the next chunk, and prepares it. A chunk that is ready before those in
//! front of it is put aside with its worker, and the thread goes on with another one: chunks take different
//! times, and a thread that waited for its turn would do nothing for a third of the time (zstd, two threads).
//! The thread that makes a chunk ready whose turn it is appends it, and those behind it that are ready: it
//! writes the chunk, or learns where the chunk goes. The rest of the work is done while the next chunk is
//! appended. So memory is one chunk for each worker, and the number of threads does not change a byte.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::PourOptions;
use crate::error::{Error, Result};
use crate::units::{Bytes, GIB, MIB, usize_of};

/// How much memory workers may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    each: u64,
    all: u64,
}

impl Memory {
    /// For outputs, where a worker takes `each`: all together at most 56 MiB. Compression stays below 64 MiB beside the
    /// tables, and 8 MiB are for the rest of the program.
    pub(crate) fn of_output(each: Bytes) -> Self {
        Self { each: each.get(), all: 56 * MIB }
    }

    /// For what is packed before the layout, where a worker takes `each`: all together at most 112 MiB. A filesystem that is
    /// compressed is to stay under 128 MiB beyond its metadata, with 16 for the rest of the program.
    pub(crate) fn of_packing(each: Bytes) -> Self {
        Self { each: each.get(), all: 112 * MIB }
    }

    /// For a package, where a worker takes `each`: all together at most 1 GiB. An encoder of xz takes a hundred MiB alone, and
    /// ten of them are to work at once.
    pub(crate) fn of_package(each: Bytes) -> Self {
        Self { each: each.get(), all: GIB }
    }

    /// How many threads there are for `jobs` and `count` chunks, and how many workers: one more for each thread, so that a
    /// thread can go on while a chunk of its waits.
    fn share(self, jobs: usize, count: u64) -> (usize, usize) {
        let most = usize_of((self.all / self.each.max(1)).min(count).max(1));
        let threads = jobs.clamp(1, most);
        (threads, if threads == 1 { 1 } else { (2 * threads).min(most) })
    }
}

/// Work in chunks.
pub(crate) trait Stage: Sync {
    /// What a worker keeps between chunks: buffers, an encoder. It also carries a chunk from one step to the
    /// next, and from the thread that prepared it to the one that appends it.
    type Worker: Send;
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
pub(crate) fn run<S: Stage>(
    stage: &S,
    state: S::State,
    memory: Memory,
    options: &PourOptions<'_>,
) -> Result<S::State> {
    let count = stage.count();
    let (threads, workers) = memory.share(options.jobs, count);
    let order = Order {
        next: 0,
        chunk: 0,
        state: Some(state),
        ready: BTreeMap::new(),
        free: Vec::new(),
        left: workers,
        error: None,
    };
    let pipeline = Pipeline { stage, options, count, order: Mutex::new(order), moved: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| pipeline.run());
        }
        pipeline.run();
    });
    let order = pipeline.order.into_inner().unwrap_or_else(PoisonError::into_inner);
    match order.error {
        Some(error) => Err(error),
        None if order.chunk == count => order.state.ok_or_else(|| Error::bug("a chunk is appended forever")),
        None => Err(Error::bug(format!("{} of {count} chunks are appended", order.chunk))),
    }
}

/// What the threads share.
struct Pipeline<'a, S: Stage> {
    stage: &'a S,
    options: &'a PourOptions<'a>,
    count: u64,
    order: Mutex<Order<S>>,
    /// Notified whenever a worker is free, all chunks are taken, or there is an error.
    moved: Condvar,
}

/// How far the chunks are.
struct Order<S: Stage> {
    /// The chunk that is taken next.
    next: u64,
    /// The chunk that is appended next.
    chunk: u64,
    /// Nothing while a thread appends a chunk.
    state: Option<S::State>,
    /// Chunks that wait for those before them, each with its worker, or with what is wrong with it.
    ready: BTreeMap<u64, Result<S::Worker>>,
    free: Vec<S::Worker>,
    /// How many more workers may be made.
    left: usize,
    error: Option<Error>,
}

/// Tells the other threads when one ends by a panic: otherwise they would wait for its chunk forever.
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
        while let Some((chunk, free)) = self.take() {
            let worker = free.map_or_else(|| self.stage.worker(), Ok);
            let prepared = worker.and_then(|mut worker| {
                self.options.progress.check()?;
                self.stage.prepare(chunk, &mut worker)?;
                Ok(worker)
            });
            self.lock().ready.insert(chunk, prepared);
            if let Err(error) = self.append() {
                return self.fail(error);
            }
        }
    }

    /// The next chunk, with a worker or with leave to make one. A thread that has to wait for a worker takes no chunk yet: all
    /// workers could be waiting for that chunk.
    fn take(&self) -> Option<(u64, Option<S::Worker>)> {
        let mut order = self.lock();
        loop {
            if order.error.is_some() || order.next >= self.count {
                return None;
            }
            let worker = order.free.pop();
            if worker.is_some() || order.left > 0 {
                let chunk = order.next;
                order.next += 1;
                order.left -= usize::from(worker.is_none());
                if order.next == self.count {
                    self.moved.notify_all();
                }
                return Some((chunk, worker));
            }
            order = self.moved.wait(order).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Appends all chunks that are ready and have their turn, unless another thread does.
    fn append(&self) -> Result<()> {
        loop {
            let mut order = self.lock();
            let turn = order.chunk;
            if order.error.is_some() || order.state.is_none() {
                return Ok(());
            }
            // An error also waits for its turn, so that of two errors the one of the first chunk is reported.
            let Some(prepared) = order.ready.remove(&turn) else { return Ok(()) };
            let mut worker = prepared?;
            let Some(mut state) = order.state.take() else { return Ok(()) };
            drop(order);
            let rest = self.stage.append(&mut state, &mut worker);
            let mut order = self.lock();
            order.state = Some(state);
            let rest = rest?;
            order.chunk += 1;
            drop(order);
            self.stage.finish(rest, &mut worker)?;
            self.lock().free.push(worker);
            self.moved.notify_one();
        }
    }

    fn fail(&self, error: Error) {
        self.lock().error.get_or_insert(error);
        self.moved.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Order<S>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::progress::Progress;
    use std::sync::atomic::{AtomicU64, Ordering};

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
            run(
                self,
                Vec::new(),
                Memory::of_output(Bytes::new(MIB)),
                &PourOptions::new(jobs, &Progress::default()),
            )
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
    fn memory_limits_threads_before_workers() {
        let memory = |each| Memory::of_output(Bytes::new(each));
        for ((each, jobs, count), expected) in [
            ((MIB, 1, 500), (1, 1)),
            ((MIB, 4, 500), (4, 8)),
            ((MIB, 40, 500), (40, 56)),
            ((MIB, 80, 500), (56, 56)),
            ((30 * MIB, 4, 500), (1, 1)),
            ((100 * MIB, 4, 500), (1, 1)),
            ((28 * MIB, 4, 500), (2, 2)),
            ((0, 4, 500), (4, 8)),
            ((MIB, 4, 3), (3, 3)),
            ((MIB, 4, 0), (1, 1)),
            ((MIB, 0, 500), (1, 1)),
        ] {
            assert_eq!(memory(each).share(jobs, count), expected, "{each} {jobs} {count}");
        }
    }

    #[test]
    fn a_thread_goes_on_while_a_chunk_of_its_waits() {
        /// The first chunk is not ready before the three behind it.
        struct Late(std::sync::Barrier, AtomicU64);
        impl Stage for Late {
            type Worker = ();
            type State = Vec<u64>;
            type Rest = ();
            fn count(&self) -> u64 {
                4
            }
            fn worker(&self) -> Result<()> {
                Ok(())
            }
            fn prepare(&self, chunk: u64, (): &mut ()) -> Result<()> {
                if chunk == 0 || self.1.fetch_add(1, Ordering::SeqCst) == 2 {
                    self.0.wait();
                }
                Ok(())
            }
            fn append(&self, state: &mut Vec<u64>, (): &mut ()) -> Result<()> {
                state.push(self.1.load(Ordering::SeqCst));
                Ok(())
            }
            fn finish(&self, (): (), (): &mut ()) -> Result<()> {
                Ok(())
            }
        }
        let (progress, memory) = (Progress::default(), Memory::of_output(Bytes::new(MIB)));
        let late = Late(std::sync::Barrier::new(2), AtomicU64::new(0));
        assert_eq!(run(&late, Vec::new(), memory, &PourOptions::new(2, &progress)).unwrap(), [3; 4]);
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
        let memory = Memory::of_output(Bytes::new(MIB));
        let ended = run(&Squares::new(500), Vec::new(), memory, &PourOptions::new(2, &progress));
        assert_eq!(ended.unwrap_err().kind(), Kind::Interrupted);
    }
}
