//! Clients that mean harm: memory stays bounded, nothing hangs, and others are served meanwhile.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::served::{Served, fixture};
use crate::support::dice::Dice;
use crate::support::program::build;
use crate::talk::{Talk, option, request};
use crate::tools::{command, must};

/// The most memory that the process has had, in KiB.
fn peak(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// Whether an honest client is served.
fn serves(socket: &Path) {
    let mut talk = Talk::old(socket, "");
    assert_eq!(talk.read(510, 2).unwrap(), [0x55, 0xaa]);
}

#[test]
fn garbage_and_departures_in_every_phase_disturb_nobody() {
    let (folder, [gpt, _]) = fixture();
    let served = Served::start(folder.path(), &[gpt.to_str().unwrap(), "-v"]);
    let socket = &served.socket;
    let mut honest = Talk::chunked(socket, "");
    let whole = [
        vec![0, 0, 0, 3],
        option(8, &[]),
        option(10, b"\0\0\0\0\0\0\0\x01\0\0\0\x0fbase:allocation"),
        option(7, b"\0\0\0\0\0\0"),
        request(0, 0, 4096),
        request(7, 0, 1 << 20),
        request(0, 0, 1 << 20),
        request(2, 0, 0),
    ]
    .concat();
    for length in 0..=whole.len() {
        let mut talk = Talk::greeted(socket);
        talk.say(&whole[..length]);
        drop(talk);
    }
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0xff; 5000],
        [vec![0, 0, 0, 3], vec![0; 5000]].concat(),
        [vec![0, 0, 0, 3], option(1, b"nowhere")].concat(),
        [vec![0, 0, 0, 3], option(1, b""), vec![0xaa; 500]].concat(),
    ] {
        let mut talk = Talk::greeted(socket);
        // The server may have closed before all is said.
        let _ = talk.0.write_all(&bytes);
        assert!(talk.is_closed());
    }
    // Options that claim 4 GiB of data, and never send it.
    let endless: Vec<Talk> = [1_u32, 3, 6, 7, 10, 999]
        .into_iter()
        .map(|number| {
            let mut talk = Talk::begun(socket);
            let head = [b"IHAVEOPT", &number.to_be_bytes()[..], &u32::MAX.to_be_bytes()].concat();
            talk.say(&[head, vec![1; 100_000]].concat());
            talk
        })
        .collect();
    // Requests of impossible places and lengths.
    for (kind, offset, length) in
        [(0, 0, u32::MAX), (0, u64::MAX, u32::MAX), (0, u64::MAX, 1), (7, 1 << 63, 1), (77, 0, 0), (0, 0, 0)]
    {
        honest.say(&request(kind, offset, length));
        let (flags, kind, payload) = honest.chunk();
        assert_eq!((flags, kind, &payload[..4]), (1, 0x8001, &22_u32.to_be_bytes()[..]));
    }
    serves(socket);
    drop(endless);
    serves(socket);
    assert!(peak(served.id()) < 100_000, "{} KiB", peak(served.id()));
    let said = served.end();
    assert!(!said.error().contains("panicked"), "{}", said.error());
}

#[test]
fn a_thousand_silent_connections_keep_nobody_out() {
    let (folder, [gpt, _]) = fixture();
    let served = Served::start(folder.path(), &[&gpt]);
    let mut honest = Talk::old(&served.socket, "");
    let mut silent = Vec::new();
    for number in 0..1000 {
        silent.push(UnixStream::connect(&served.socket).unwrap());
        if number % 250 == 0 {
            serves(&served.socket);
            assert_eq!(honest.read(510, 2).unwrap(), [0x55, 0xaa]);
        }
    }
    serves(&served.socket);
    assert_eq!(honest.read(510, 2).unwrap(), [0x55, 0xaa]);
    assert!(peak(served.id()) < 150_000, "{} KiB", peak(served.id()));
    drop(silent);
    serves(&served.socket);
}

/// Clients that ask for much and read nothing.
#[test]
fn who_does_not_listen_costs_a_buffer_and_no_more() {
    let (folder, [gpt, _]) = fixture();
    let served = Served::start(folder.path(), &[&gpt]);
    let deaf: Vec<Talk> = (0..40)
        .map(|number| {
            let mut talk = if number % 2 == 0 {
                Talk::chunked(&served.socket, "")
            } else {
                Talk::old(&served.socket, "")
            };
            (0..50).for_each(|_| talk.say(&request(0, 0, 4 << 20)));
            talk
        })
        .collect();
    serves(&served.socket);
    // 40 buffers of at most 2 MiB, and what the program needs anyway.
    assert!(peak(served.id()) < 40 * 2048 + 80_000, "{} KiB", peak(served.id()));
    drop(deaf);
    serves(&served.socket);
}

/// Random reads by several connections, against the written image.
#[test]
fn random_reads_by_eight_connections_are_right() {
    let (folder, [gpt, _]) = fixture();
    let built = folder.path().join("built.img");
    build(&gpt, &built);
    let disk = std::fs::read(&built).unwrap();
    let served = Served::start(folder.path(), &[&gpt]);
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let (disk, socket) = (&disk, &served.socket);
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                let mut talk = Talk::old(socket, "");
                let size = u64::try_from(disk.len()).unwrap();
                for _ in 0..400 {
                    let most = [512, 4096, 100_000, 3 << 20][usize::try_from(dice.below(4)).unwrap()];
                    let length = 1 + dice.below(most);
                    let at = dice.below(size - length);
                    let found = talk.read(at, u32::try_from(length).unwrap()).unwrap();
                    let at = usize::try_from(at).unwrap();
                    assert!(found == disk[at..at + found.len()], "{at}");
                }
            });
        }
    });
}

/// Many clients that come and go at once, killed at any time.
#[test]
fn killed_clients_leave_nothing_behind() {
    let (folder, [gpt, _]) = fixture();
    let served = Served::start(folder.path(), &[&gpt]);
    for _ in 0..5 {
        let mut clients: Vec<Child> = (0..4)
            .map(|_| {
                let mut copy = command("nbdcopy");
                copy.args([&served.uri, "null:"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
            })
            .collect();
        for client in &mut clients {
            std::thread::sleep(std::time::Duration::from_millis(15));
            let _ = client.kill();
            client.wait().unwrap();
        }
    }
    must(command("nbdcopy").args([&served.uri, "null:"]));
    let files = std::fs::read_dir(format!("/proc/{}/fd", served.id())).unwrap().count();
    assert!(files < 40, "{files} files are open");
    assert_eq!(served.end().error(), "");
}
