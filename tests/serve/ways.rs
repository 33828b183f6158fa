//! Ways in and ways out: sockets, activation, inherited descriptors, commands, signals.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::served::{LIMIT, Served, fixture, signal};
use crate::support::program::{build, diskwright, path};
use crate::talk::{Talk, option};
use crate::tools::{attend, command, digest, must, names_in, quiet, run, scratch};

#[test]
fn a_signal_ends_it_by_that_signal_and_the_socket_goes_away() {
    let (folder, [gpt, _]) = fixture();
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let served = Served::start(folder.path(), &[&gpt]);
        let socket = served.socket.clone();
        let mode = socket.symlink_metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let mut idle = Talk::old(&socket, "");
        signal(served.id(), name);
        let said = served.said();
        assert_eq!((said.code, said.error().as_str()), (128 + number, ""));
        assert!(!socket.exists(), "{name}");
        assert!(idle.is_closed());
    }
    let names = names_in(folder.path());
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with('.')), "{names:?}");
}

/// A manifest that never comes keeps nobody waiting.
#[test]
fn the_first_signal_ends_it_while_it_reads_its_manifest() {
    let folder = scratch();
    let socket = folder.path().join("socket");
    for (name, number) in [("TERM", 15), ("INT", 2)] {
        let mut serve = diskwright();
        serve.args(["serve", "-", "--socket"]).arg(&socket);
        let mut child = serve.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        for _ in 0..600 {
            if socket.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        signal(child.id(), name);
        let said = attend(child, LIMIT, |_| {});
        assert_eq!(said.code, 128 + number, "{}", said.error());
        assert!(said.error().contains("stopped by a signal"), "{}", said.error());
        assert!(!socket.exists(), "{name}");
        drop(input);
    }
}

#[test]
fn once_means_until_the_last_client_leaves() {
    let (folder, [gpt, _]) = fixture();
    let served = Served::start(folder.path(), &[gpt.to_str().unwrap(), "--once"]);
    // A client that only looks around does not end it.
    must(command("nbdinfo").args(["--list", &served.uri]));
    let mut looks = Talk::begun(&served.socket);
    looks.say(&option(2, &[]));
    assert!(looks.is_closed());
    let first = Talk::old(&served.socket, "");
    let mut second = Talk::old(&served.socket, "1");
    drop(first);
    second.read(0, 512).unwrap();
    drop(second);
    let socket = served.socket.clone();
    assert_eq!(served.said().code, 0);
    assert!(!socket.exists());
}

#[test]
fn tcp_serves_only_when_it_is_asked_for() {
    let (folder, [gpt, _]) = fixture();
    let mut serve = diskwright();
    serve.arg("serve").arg(&gpt).args(["--tcp", "127.0.0.1:0"]);
    let served = Served::of(serve, folder.path().join("none"));
    assert!(served.uri.starts_with("nbd://127.0.0.1:") && served.uri.ends_with('/'), "{}", served.uri);
    let built = folder.path().join("built.img");
    build(&gpt, &built);
    let same = ["compare", "-f", "raw", "-F", "raw", &served.uri];
    must(command("qemu-img").args(same).arg(&built));
    let port = served.uri.trim_end_matches('/').rsplit(':').next().unwrap();
    let listed = run(command("nbd-client").args(["-l", "127.0.0.1", port]));
    assert!(listed.text().contains("ESP"), "{}{}", listed.text(), listed.error());
    let taken = run(diskwright().arg("serve").arg(&gpt).args(["--tcp", &format!("127.0.0.1:{port}")]));
    assert_eq!(taken.code, 1);
    let error = taken.error();
    assert!(
        error.contains("cannot listen at this address") && error.contains("take another port"),
        "{error}"
    );
}

#[test]
fn libnbd_starts_it_by_socket_activation() {
    let (folder, [gpt, _]) = fixture();
    let (built, out) = (folder.path().join("built.img"), folder.path().join("out.img"));
    build(&gpt, &built);
    let mut copy = command("nbdcopy");
    copy.args(["--", "["]).arg(path()).arg("serve").arg(&gpt).arg("]").arg(&out);
    let said = must(&mut copy);
    assert_eq!((said.text().as_str(), said.error().as_str()), ("", ""));
    assert_eq!(digest(&out), digest(&built));
    must(command("nbdinfo").arg("--size").arg("--").arg("[").arg(path()).arg("serve").arg(&gpt).arg("]"));
}

#[test]
fn activation_that_is_not_for_it_or_not_there_is_no_socket() {
    let (_folder, [gpt, _]) = fixture();
    let other = run(diskwright().arg("serve").arg(&gpt).env("LISTEN_PID", "1").env("LISTEN_FDS", "1"));
    assert_eq!(other.code, 2);
    assert!(other.error().contains("there is no socket to serve on"), "{}", other.error());
    // The shell's exec keeps its number.
    for (count, expected) in [("1", "no descriptor 3"), ("2", "found: 2"), ("x", "found: x")] {
        let script = "LISTEN_PID=$$ exec \"$0\" serve \"$1\"";
        let mut shell = command("sh");
        shell.args(["-c", script]).arg(path()).arg(&gpt).env("LISTEN_FDS", count);
        if count != "1" {
            shell.args(["x"]);
        }
        let script_with = if count == "1" { script.to_owned() } else { format!("{script} 3</dev/null") };
        let mut shell = command("sh");
        shell.args(["-c", &script_with]).arg(path()).arg(&gpt).env("LISTEN_FDS", count);
        let said = run(&mut shell);
        assert_eq!(said.code, 2, "{}", said.error());
        assert!(said.error().contains(expected), "{count}: {}", said.error());
    }
}

#[test]
fn an_inherited_socket_serves_its_client_and_ends_with_it() {
    let (_folder, [gpt, _]) = fixture();
    let (own, other) = UnixStream::pair().unwrap();
    let mut serve = quiet(Command::new(path()));
    serve.arg("serve").arg(&gpt).args(["--fd", "0", "-v"]).stdin(OwnedFd::from(other));
    let child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(serve);
    let mut talk = Talk(own);
    talk.hear(18);
    talk.say(&[0, 0, 0, 3]);
    talk.say(&option(1, b"ESP"));
    talk.hear(10);
    assert_eq!(talk.read(510, 2).unwrap(), [0x55, 0xaa]);
    drop(talk);
    let said = attend(child, LIMIT, |_| {});
    assert_eq!((said.code, said.text().as_str()), (0, ""));
    assert_eq!(
        said.error(),
        "diskwright: client 1 has connected\ndiskwright: client 1 reads the export \"ESP\"\n\
         diskwright: client 1 has left after 1 requests, 2 bytes\n"
    );
}

/// By its number: a shell moves the socket from standard input.
#[test]
fn a_descriptor_has_any_number() {
    let (_folder, [gpt, _]) = fixture();
    let (own, other) = UnixStream::pair().unwrap();
    let mut shell = command("sh");
    shell.args(["-c", "exec \"$0\" serve \"$1\" --fd 7 7<&0 </dev/null"]).arg(path()).arg(&gpt);
    let child =
        shell.stdin(OwnedFd::from(other)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(shell);
    let mut talk = Talk(own);
    talk.hear(18);
    drop(talk);
    let said = attend(child, LIMIT, |_| {});
    assert_eq!(said.code, 0, "{}", said.error());
}

#[test]
fn a_command_runs_beside_it_and_gives_its_exit_code() {
    let (folder, [gpt, _]) = fixture();
    let built = folder.path().join("built.img");
    build(&gpt, &built);
    let script = format!("nbdcopy \"$uri\" - | cmp - {} && echo \"$uri\" && exit 7", built.display());
    let temporary = folder.path().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let serve = || {
        let mut serve = diskwright();
        serve.arg("serve").arg(&gpt).env("TMPDIR", &temporary);
        serve
    };
    let said = run(serve().args(["--run", &script]));
    assert_eq!(said.code, 7, "{}", said.error());
    assert!(said.text().starts_with("nbd+unix:///?socket="), "{}", said.text());
    assert_eq!(names_in(&temporary).len(), 0, "the folder of the socket goes away");
    let said = run(serve().args(["--run", "kill -KILL $$"]));
    assert_eq!(said.code, 128 + 9);
    // A signal ends both.
    let mut serve = serve();
    serve.args(["--run", "echo ready; exec sleep 1000"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = serve.spawn().unwrap();
    let id = child.id();
    let mut sent = false;
    let said = attend(child, LIMIT, move |_| {
        if !std::mem::replace(&mut sent, true) {
            signal(id, "TERM");
        }
    });
    assert_eq!(said.code, 128 + 15);
    assert_eq!(names_in(&temporary).len(), 0);
}

#[test]
fn json_is_one_line_when_clients_can_connect() {
    let (folder, [gpt, _]) = fixture();
    let served = Served::start(folder.path(), &[gpt.to_str().unwrap(), "--json"]);
    let line: serde_json::Value = serde_json::from_str(&served.uri).unwrap();
    assert_eq!(line["uri"], format!("nbd+unix:///?socket={}", served.socket.display()));
    let exports = line["exports"].as_array().unwrap();
    assert_eq!(exports[0]["name"], "");
    assert_eq!(exports.len(), 7);
    let said = served.end();
    assert_eq!(said.text(), "");
}

#[test]
fn a_manifest_comes_from_standard_input_too() {
    let (folder, [gpt, _]) = fixture();
    let built = folder.path().join("built.img");
    build(&gpt, &built);
    let mut serve = diskwright();
    serve.args(["serve", "-", "--run", "nbdcopy \"$uri\" out.img"]).current_dir(folder.path());
    serve.stdin(std::fs::File::open(&gpt).unwrap());
    must(&mut serve);
    assert_eq!(digest(&folder.path().join("out.img")), digest(&built));
}

/// A client gets a URI that leads to the socket, however deep the folder is.
#[test]
fn a_uri_is_short_enough_to_connect() {
    let (folder, [gpt, _]) = fixture();
    let deep = folder.path().join("d".repeat(100));
    std::fs::create_dir(&deep).unwrap();
    let mut serve = diskwright();
    serve.args(["serve", "--socket", "near.sock"]).arg(&gpt).current_dir(&deep);
    let served = Served::of(serve, deep.join("near.sock"));
    assert_eq!(served.uri, "nbd+unix:///?socket=near.sock");
    must(command("nbdinfo").arg(&served.uri).current_dir(&deep));
    served.end();
    let mut serve = diskwright();
    serve.args(["serve", "--socket", "near.sock", "--run", "nbdinfo \"$uri\""]).arg(&gpt).current_dir(&deep);
    must(&mut serve);
    // Without a path of one's own, the folder of temporary files has to be less deep.
    let said = run(diskwright().args(["serve", "--run", "true"]).arg(&gpt).env("TMPDIR", &deep));
    assert!(said.code == 2 && said.error().contains("set TMPDIR"), "{}", said.error());
}
