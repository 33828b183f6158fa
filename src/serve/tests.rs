//! Conversations without sockets, byte by byte, and the server with them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::connection::{Hear, Talk, converse};
use super::format::{
    ExportInfo, OptionHead, OptionReply, Request, chunk, command, errno, info, option, reply,
};
use super::*;
use crate::error::{Error, Result};
use crate::image::{Builder, Files, HostFile, Image};
use crate::units::{Bytes, KIB, MIB};
use crate::wire::Wire;

/// What a conversation reported.
#[derive(Debug, Default)]
struct Ear {
    chosen: Vec<String>,
    failed: Vec<String>,
}

impl Hear for Ear {
    fn chosen(&mut self, export: &Export) {
        self.chosen.push(export.name().to_owned());
    }

    fn failed(&mut self, error: &Error) {
        self.failed.push(error.what().to_owned());
    }
}

/// A file of the host, which may change.
#[derive(Debug)]
struct One(PathBuf);

impl Files for One {
    fn file(&self, _: u32) -> Result<HostFile<'_>> {
        Ok(HostFile { path: self.0.as_path().into(), size: 300_000, stamp: None })
    }
}

/// A disk of 4 MiB: text in the first block, a file of the host at 1 MiB, holes elsewhere.
fn image(file: PathBuf) -> Image {
    let mut image = Builder::new(Bytes::mib(4));
    image.bytes(Bytes::new(10), "text", *b"hello");
    let files = image.files(Arc::new(One(file)));
    image.file(Bytes::mib(1), Bytes::new(300_000), files, 0, 0);
    image.finish().unwrap()
}

fn exports() -> Exports {
    let image = image(PathBuf::from("/nonexistent"));
    let part =
        |number, label| Part { number, label, offset: Bytes::mib(u64::from(number)), length: Bytes::mib(1) };
    let mut exports = Exports::new();
    exports.push_disk("", &image, &[part(1, "esp"), part(2, "esp"), part(3, "1")]).unwrap();
    exports
}

/// What a client says.
#[derive(Debug, Default)]
struct Client(Vec<u8>);

impl Client {
    fn new() -> Self {
        Self(vec![0, 0, 0, 3])
    }

    fn option(mut self, option: u32, data: &[u8]) -> Self {
        let length = u32::try_from(data.len()).unwrap();
        self.0.extend_from_slice(&OptionHead { option, length, ..OptionHead::BLANK }.bytes());
        self.0.extend_from_slice(data);
        self
    }

    /// NBD_OPT_INFO, NBD_OPT_GO.
    fn about(self, option: u32, name: &str, kinds: &[u16]) -> Self {
        let mut data = text(name);
        data.extend_from_slice(&u16::try_from(kinds.len()).unwrap().to_be_bytes());
        kinds.iter().for_each(|kind| data.extend_from_slice(&kind.to_be_bytes()));
        self.option(option, &data)
    }

    fn contexts(self, option: u32, name: &str, queries: &[&str]) -> Self {
        let mut data = text(name);
        data.extend_from_slice(&u32::try_from(queries.len()).unwrap().to_be_bytes());
        queries.iter().for_each(|query| data.extend_from_slice(&text(query)));
        self.option(option, &data)
    }

    fn request(mut self, kind: u16, flags: u16, offset: u64, length: u32) -> Self {
        let request = Request { kind, flags, cookie: offset ^ 0xc00c, offset, length, ..Request::BLANK };
        self.0.extend_from_slice(&request.bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// What the server answers, after its greeting.
    fn hear(&self) -> (Vec<u8>, Talk, Ear) {
        self.hear_from(&exports())
    }

    fn hear_from(&self, exports: &Exports) -> (Vec<u8>, Talk, Ear) {
        let (mut out, mut ear) = (Vec::new(), Ear::default());
        let talk = converse(exports, std::io::Cursor::new(&self.0), &mut out, None, &mut ear);
        assert_eq!(&out[..18], b"NBDMAGICIHAVEOPT\0\x03");
        (out.split_off(18), talk, ear)
    }
}

fn text(name: &str) -> Vec<u8> {
    let mut data = u32::try_from(name.len()).unwrap().to_be_bytes().to_vec();
    data.extend_from_slice(name.as_bytes());
    data
}

/// A reply to an option: option, kind, data.
type Reply = (u32, u32, Vec<u8>);

/// The replies to options, and what follows them.
fn replies(mut bytes: &[u8]) -> (Vec<Reply>, &[u8]) {
    let mut found = Vec::new();
    while let Ok(head) = OptionReply::read(bytes) {
        let end = 20 + usize::try_from(head.length).unwrap();
        found.push((head.option, head.kind, bytes[20..end].to_vec()));
        bytes = &bytes[end..];
    }
    (found, bytes)
}

/// Chunks of structured replies: flags, kind, payload.
fn chunks(mut bytes: &[u8]) -> Vec<(u16, u16, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let head = super::format::Chunk::read(bytes).unwrap();
        let end = 20 + usize::try_from(head.length).unwrap();
        found.push((head.flags, head.kind, bytes[20..end].to_vec()));
        bytes = &bytes[end..];
    }
    found
}

#[test]
fn exports_are_listed_by_number_and_by_labels_that_name_one_thing() {
    let (out, talk, _) = Client::new().option(option::LIST, &[]).option(option::ABORT, &[]).hear();
    let (replies, rest) = replies(&out);
    assert!(rest.is_empty());
    let names: Vec<String> = replies
        .iter()
        .filter(|(_, kind, _)| *kind == reply::SERVER)
        .map(|(_, _, data)| {
            let length = usize::try_from(u32::from_be_bytes(data[..4].try_into().unwrap())).unwrap();
            String::from_utf8(data[4..4 + length].to_vec()).unwrap()
        })
        .collect();
    // Two partitions are called `esp`, and `1` is the number of another one.
    assert_eq!(names, ["", "1", "2", "3"]);
    assert_eq!(replies.last().unwrap(), &(option::ABORT, reply::ACK, Vec::new()));
    assert_eq!(talk.fault, None);
}

#[test]
fn options_that_nobody_knows_or_that_are_wrong_get_an_error_and_break_nothing() {
    let go_short = [text("1"), vec![0]].concat();
    let many = [text(""), u32::MAX.to_be_bytes().to_vec()].concat();
    let (out, talk, _) = Client::new()
        .option(77, b"whatever")
        .option(5, &[])
        .option(11, &[])
        .option(option::LIST, b"x")
        .option(option::GO, &go_short)
        .option(option::GO, &[0xff; 9])
        .option(option::SET_META_CONTEXT, &many)
        .option(option::STRUCTURED_REPLY, b"x")
        .option(option::STRUCTURED_REPLY, &[])
        .option(option::STRUCTURED_REPLY, &[])
        .option(option::SET_META_CONTEXT, &many)
        .option(99, &vec![7; 100_000])
        .about(option::GO, "nowhere", &[])
        .about(option::INFO, "2", &[info::NAME, info::BLOCK_SIZE, info::DESCRIPTION, 999])
        .option(option::ABORT, &[])
        .hear();
    let (replies, rest) = replies(&out);
    assert!(rest.is_empty());
    let kinds: Vec<u32> = replies.iter().map(|(_, kind, _)| *kind).collect();
    let (unsupported, invalid) = (reply::UNSUPPORTED, reply::INVALID);
    let wrong = [unsupported, unsupported, unsupported, invalid, invalid, invalid, invalid, invalid];
    assert_eq!(kinds[..8], wrong);
    assert_eq!(kinds[8..13], [reply::ACK, invalid, invalid, reply::TOO_BIG, reply::UNKNOWN]);
    let told = String::from_utf8(replies[12].2.clone()).unwrap();
    assert_eq!(told, "there is no export `nowhere`; there are: ``, `1`, `2`, `3`");
    assert_eq!(kinds[13..], [reply::INFO, reply::INFO, reply::INFO, reply::INFO, reply::ACK, reply::ACK]);
    let size = ExportInfo::read(&replies[13].2).unwrap();
    assert_eq!((size.size, size.flags), (MIB, 1 | 2 | 256));
    assert_eq!(talk.fault, None);
}

#[test]
fn the_oldest_way_in_serves_simple_replies() {
    for (zeroes, short) in [(3, 10), (1, 134)] {
        let client = Client(vec![0, 0, 0, zeroes])
            .option(option::EXPORT_NAME, b"")
            .request(command::READ, 0, 8, 10)
            .request(command::READ, 0, 4 * MIB - 1, 2)
            .request(command::WRITE, 0, 0, 5)
            .raw(b"abcde")
            .request(command::TRIM, 0, 0, 512)
            .request(command::BLOCK_STATUS, 0, 0, 512)
            .request(command::READ, 0, MIB, 512)
            .request(command::DISCONNECT, 0, 0, 0);
        let (out, talk, ear) = client.hear();
        assert_eq!(&out[..10], b"\0\0\0\0\0\x40\0\0\x01\x03");
        assert!(out[10..short].iter().all(|byte| *byte == 0));
        let mut rest = &out[short..];
        let mut answers = Vec::new();
        while let Ok(head) = super::format::SimpleReply::read(rest) {
            rest = &rest[16..];
            if head.error == 0 {
                assert_eq!(&rest[..10], b"\0\0hello\0\0\0");
                rest = &rest[10..];
            }
            answers.push(head.error);
        }
        let (perm, inval) = (errno::PERM, errno::INVAL);
        assert_eq!(answers, [0, inval, perm, perm, inval, errno::IO]);
        assert!(rest.is_empty());
        assert_eq!((talk.requests, talk.bytes, talk.fault), (2, 522, None));
        assert_eq!(ear.chosen, [""]);
        assert_eq!(ear.failed, ["the source vanished while the image was made"]);
    }
}

#[test]
fn structured_reads_have_holes_data_and_errors_with_the_path() {
    let client = Client::new().option(option::STRUCTURED_REPLY, &[]).about(option::GO, "", &[]);
    let (out, _, ear) = client
        .request(command::READ, 0, 0, 1024)
        .request(command::READ, 0, 3 * MIB, 1024)
        .request(command::READ, 0, 0, 2 << 20)
        .request(command::WRITE, 0, 0, 0)
        .hear();
    let (_, rest) = replies(&out);
    let chunks = chunks(rest);
    let shape: Vec<(u16, u16, usize)> =
        chunks.iter().map(|(flags, kind, data)| (*flags, *kind, data.len())).collect();
    let path = "the source vanished while the image was made: /nonexistent";
    assert_eq!(
        shape,
        [
            (1, chunk::DATA, 8 + 1024),
            (1, chunk::HOLE, 12),
            // The first piece, then a hole in whole pieces, then the file that is not there.
            (0, chunk::DATA, 8 + 256 * 1024),
            (0, chunk::HOLE, 12),
            (1, chunk::ERROR_OFFSET, 6 + path.len() + 8),
            (1, chunk::ERROR, 6 + "the export is read-only".len()),
        ]
    );
    assert_eq!(&chunks[0].2[18..23], b"hello");
    assert_eq!(chunks[1].2, [&(3 * MIB).to_be_bytes()[..], &1024_u32.to_be_bytes()].concat());
    assert_eq!(chunks[3].2, [&(256 * KIB).to_be_bytes()[..], &(768_u32 << 10).to_be_bytes()].concat());
    let failed = &chunks[4].2;
    assert_eq!(&failed[..4], &errno::IO.to_be_bytes());
    assert_eq!(&failed[6..6 + path.len()], path.as_bytes());
    assert_eq!(&failed[6 + path.len()..], &MIB.to_be_bytes());
    assert_eq!(ear.failed.len(), 1);
}

#[test]
fn holes_are_told_to_clients_that_asked_for_this_export() {
    let ask = |name: &str, go: &str, flags| {
        let client = Client::new()
            .option(option::STRUCTURED_REPLY, &[])
            .contexts(option::LIST_META_CONTEXT, name, &[])
            .contexts(option::LIST_META_CONTEXT, name, &["qemu:", "x:y"])
            .contexts(option::SET_META_CONTEXT, name, &["qemu:dirty", "base:allocation"])
            .about(option::GO, go, &[])
            .request(command::BLOCK_STATUS, flags, 0, 4 << 20);
        let (out, ..) = client.hear();
        let (replies, rest) = replies(&out);
        let contexts: Vec<&[u8]> = replies
            .iter()
            .filter(|(_, kind, _)| *kind == reply::META_CONTEXT)
            .map(|(_, _, data)| &data[..])
            .collect();
        assert_eq!(contexts, [b"\0\0\0\0base:allocation", b"\0\0\0\x01base:allocation"]);
        chunks(rest).remove(0)
    };
    let words = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let file = 300_000_u32.next_multiple_of(4096);
    let all = words(&[1, 4096, 0, (1 << 20) - 4096, 3, file, 0, (3 << 20) - file, 3]);
    assert_eq!(ask("", "", 0), (1, chunk::BLOCK_STATUS, all));
    assert_eq!(ask("", "", 8), (1, chunk::BLOCK_STATUS, words(&[1, 4096, 0])));
    // The contexts were those of another export.
    assert_eq!(ask("1", "", 0).1, chunk::ERROR);
}

#[test]
fn what_is_no_protocol_ends_the_conversation() {
    let too_long = OptionHead { option: option::EXPORT_NAME, length: 1 << 20, ..OptionHead::BLANK }.bytes();
    for client in [
        Client(vec![0, 0, 0, 4]),
        Client(vec![1, 0, 0, 3]),
        Client::new().raw(&[b'G'; 16]),
        Client::new().option(option::EXPORT_NAME, b"nowhere"),
        Client::new().option(option::EXPORT_NAME, &[0xff]),
        Client::new().raw(&too_long).raw(&vec![0; 1 << 20]),
        Client::new().option(option::EXPORT_NAME, b"1").raw(&[b'x'; 28]),
    ] {
        assert!(client.hear().1.fault.is_some(), "{client:?}");
    }
    // One that leaves in the middle of a message has done nothing that is forbidden.
    for length in 0..20 {
        let client = Client(Client::new().about(option::GO, "", &[]).0[..length].to_vec());
        assert_eq!(client.hear().1, Talk::default());
    }
}

#[test]
fn names_are_told_apart_and_limited() {
    let mut exports = exports();
    let export = |name: &str| Export::new(name, exports_slice());
    assert!(exports.push(export("1")).unwrap_err().to_string().contains("two exports"));
    assert!(exports.push(export(&"x".repeat(4097))).is_err());
    assert!(exports.push(export("a\0b")).is_err());
    exports.push(export("a").description("ä".repeat(4000))).unwrap();
    assert_eq!(exports.list().last().unwrap().described().len(), 4096);
}

fn exports_slice() -> crate::image::Slice {
    Builder::new(Bytes::mib(1)).finish().unwrap().whole()
}

#[test]
fn a_server_ends_when_it_is_asked_or_when_its_client_leaves() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let server = Server::new(exports()).log(move |event| log.lock().unwrap().push(format!("{event:?}")));
    let stop = Stop::new().unwrap();
    // A client that stays is sent away.
    let (own, mut other) = Stream::pair().unwrap();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve_one(own, &stop));
        let mut greeting = [0; 18];
        other.read_exact(&mut greeting).unwrap();
        stop.now();
        serving.join().unwrap().unwrap();
    });
    assert_eq!(other.read(&mut [0]).unwrap(), 0);
    // One that leaves ends its server.
    let stop = Stop::new().unwrap();
    assert!(!stop.is_now());
    let (own, mut other) = Stream::pair().unwrap();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve_one(own, &stop));
        other.write_all(&Client::new().about(option::GO, "1", &[]).0).unwrap();
        other.read_exact(&mut [0; 18 + 20 + 12 + 20]).unwrap();
        drop(other);
        serving.join().unwrap().unwrap();
    });
    let seen = seen.lock().unwrap().join("\n");
    assert!(seen.contains("Chosen { client: 1, export: \"1\" }"), "{seen}");
    assert!(seen.contains("Left { client: 1, requests: 0, bytes: 0, fault: None }"), "{seen}");
}

#[test]
fn a_socket_is_its_owners_alone_and_goes_away() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b");
    let listener = Listener::unix(&path).unwrap();
    assert_eq!(path.symlink_metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let uri = listener.uri("esp/1").unwrap();
    assert_eq!(uri, format!("nbd+unix:///esp/1?socket={}/a%20b", folder.path().display()));
    // It is taken, and by a server that is there.
    assert!(Listener::unix(&path).unwrap_err().to_string().contains("another server"));
    drop(listener);
    assert!(!path.exists());
    // One of a server that died is replaced, and a file is not.
    let dead = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(dead);
    assert!(path.exists());
    drop(Listener::unix(&path).unwrap());
    std::fs::write(&path, b"precious").unwrap();
    assert!(Listener::unix(&path).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn the_longest_path_of_a_socket_works_and_a_longer_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let left = 107 - folder.path().as_os_str().len() - 1;
    let longest = folder.path().join("s".repeat(left));
    let listener = Listener::unix(&longest).unwrap();
    UnixStream::connect(&longest).unwrap();
    drop(listener);
    let error = Listener::unix(&folder.path().join("s".repeat(left + 1))).unwrap_err().to_string();
    assert!(error.contains("at most 107 bytes") && error.contains("108 bytes"), "{error}");
}

#[test]
fn only_sockets_are_inherited() {
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(Inherited::over(file.into()).is_err());
    let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
    assert!(Inherited::over(datagram.into()).is_err());
    let (one, _other) = UnixStream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    let number = u16::try_from(std::os::fd::AsRawFd::as_raw_fd(&one)).unwrap();
    assert!(matches!(Inherited::numbered(number), Ok(Inherited::Stream(_))));
    assert!(Inherited::numbered(u16::MAX).is_err());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(matches!(Inherited::over(listener.into()), Ok(Inherited::Listener(_))));
}
