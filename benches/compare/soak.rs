//! Random reads for a long time: what is served is what is written, and memory and open files stay as they are.
//! `cargo bench --bench compare -- soak` takes ten minutes; `DISKWRIGHT_SOAK` is another number of seconds.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use diskwright_testing::dice::Dice;

use crate::run::program;
use crate::serve::{Server, ours};
use crate::trees;

/// Connections at a time.
const CONNECTIONS: u64 = 8;
const SECONDS: u64 = 600;
/// A client leaves after so many reads, and another one comes.
const READS: u32 = 5000;

/// A client of the oldest kind, or one with structured replies.
struct Client {
    stream: UnixStream,
    chunked: bool,
}

impl Client {
    fn new(socket: &Path, chunked: bool) -> Self {
        let stream = UnixStream::connect(socket).expect("the server listens");
        let mut client = Self { stream, chunked };
        client.hear(18);
        client.say(&[0, 0, 0, 3]);
        if chunked {
            client.say(b"IHAVEOPT\0\0\0\x08\0\0\0\0");
            client.hear(20);
        }
        client.say(b"IHAVEOPT\0\0\0\x01\0\0\0\0");
        client.hear(10);
        client
    }

    fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server hears");
    }

    fn hear(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).expect("the server answers");
        bytes
    }

    /// Fills `out` with the bytes at `offset`.
    fn read(&mut self, offset: u64, out: &mut [u8]) {
        let length = u32::try_from(out.len()).expect("a read is short");
        let request =
            [&[0x25, 0x60, 0x95, 0x13, 0, 0, 0, 0], &offset.to_be_bytes()[..], &offset.to_be_bytes()];
        self.say(&[&request.concat()[..], &length.to_be_bytes()].concat());
        if !self.chunked {
            assert_eq!(
                self.hear(16)[..8],
                [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0],
                "the read at {offset} fails"
            );
            return self.stream.read_exact(out).expect("the server answers");
        }
        out.fill(0xaa);
        loop {
            let head = self.hear(20);
            let number = |at: usize, count: usize| {
                head[at..at + count].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
            };
            let place = self.hear(8).iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            let at = usize::try_from(place - offset).expect("a chunk lies in its read");
            match number(6, 2) {
                1 => {
                    let length = usize::try_from(number(16, 4) - 8).expect("a chunk is short");
                    self.stream.read_exact(&mut out[at..at + length]).expect("the server answers");
                }
                2 => {
                    let length = self.hear(4).iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
                    out[at..at + length].fill(0);
                }
                kind => panic!("the read at {offset} fails with the chunk {kind:x}"),
            }
            if number(4, 2) == 1 {
                return;
            }
        }
    }
}

/// What one connection after another reads until the time is over: reads and bytes.
fn read(socket: &Path, disk: &File, seed: u64, until: Instant) -> (u64, u64) {
    let size = disk.metadata().expect("the disk is there").len();
    let mut dice = Dice::new(seed);
    let (mut reads, mut bytes) = (0, 0);
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    while Instant::now() < until {
        let mut client = Client::new(socket, dice.below(2) == 0);
        for _ in 0..READS {
            let most = [512, 4096, 4096, 65_536, 262_144, 4 << 20];
            let most = most[usize::try_from(dice.below(6)).expect("it is below 6")];
            let length = (1 + dice.below(most)).min(size);
            let offset = dice.below(size - length + 1);
            let count = usize::try_from(length).expect("a read is short");
            found.resize(count, 0);
            expected.resize(count, 0);
            client.read(offset, &mut found);
            disk.read_exact_at(&mut expected, offset).expect("the disk can be read");
            assert!(
                found == expected,
                "seed {seed}: {length} bytes at {offset} are not those of the written disk"
            );
            (reads, bytes) = (reads + 1, bytes + length);
            if Instant::now() >= until {
                break;
            }
        }
    }
    (reads, bytes)
}

/// Memory now and at most, in KiB, and the number of open files.
fn state(server: &Server) -> (u64, u64, usize) {
    let id = server.id();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the server runs");
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the kernel says it");
        line.trim().trim_end_matches(" kB").parse().expect("it is a number")
    };
    let files = std::fs::read_dir(format!("/proc/{id}/fd")).expect("the server runs").count();
    (of("VmRSS:"), of("VmHWM:"), files)
}

/// Serves a store of small files that is never written, and reads it at random.
pub(crate) fn run(folder: &Path) {
    let tree = trees::store(folder);
    let image = trees::raw(folder, &tree);
    let socket = folder.join("soak");
    let _ = std::fs::remove_file(&socket);
    let seconds = std::env::var("DISKWRIGHT_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    println!("\nsoak: {CONNECTIONS} connections read {} at random for {seconds} s", program());
    let server = ours(&socket, &["--", "mkfs", "ext4", tree.to_str().expect("the bench names its folders")]);
    let disk = File::open(&image).expect("the disk is there");
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let (mut reads, mut bytes) = (0, 0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|seed| {
                scope.spawn({
                    let (socket, disk) = (&socket, &disk);
                    move || read(socket, disk, seed, until)
                })
            })
            .collect();
        for part in 1..=10 {
            let next = begun + Duration::from_secs(seconds) * part / 10;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            let (now, most, files) = state(&server);
            println!(
                "{:>7.0} s: {now} KiB, at most {most} KiB, {files} open files",
                begun.elapsed().as_secs_f64()
            );
        }
        for client in clients {
            let (more_reads, more_bytes) = client.join().expect("all reads are right");
            (reads, bytes) = (reads + more_reads, bytes + more_bytes);
        }
    });
    println!("{reads} reads of {bytes} bytes in all were those of the written disk");
    let (now, most, files) = state(&server);
    println!("after the last client: {now} KiB, at most {most} KiB, {files} open files");
}
