//! The finder of judges, and the record of those that are missing.

use std::panic::catch_unwind;
use std::path::Path;

use crate::support::judges::{self, find, look};
use crate::support::left_out::{INSTALL, Record, judged, note};
use crate::support::tools::scratch;

/// In continuous integration a missing judge fails this test. Elsewhere each missing judge is recorded.
#[test]
fn every_judge_is_there() {
    let mut programs = 0;
    for (_, _, proof) in judges::list() {
        if proof.contains('*') {
            // The kernel and OVMF, whose names have versions: the guests look for them.
        } else if proof.contains('/') {
            let here =
                Path::new(proof).exists() || judges::unpacked().join("root").join(&proof[1..]).exists();
            if !here {
                note(&judges::package(proof), INSTALL);
            }
        } else {
            programs += 1;
            match look(proof) {
                Some(path) => assert!(path.is_file(), "{}", path.display()),
                None => note(&judges::package(proof), INSTALL),
            }
        }
    }
    assert!(programs > 50, "{programs}");
}

#[test]
fn each_line_of_the_list_is_right_and_they_are_in_order() {
    let lines: Vec<_> = judges::list().collect();
    assert!(
        lines.is_sorted()
            && lines.iter().all(|(how, _, _)| ["base", "build", "install", "unpack"].contains(how))
    );
    assert_eq!(judges::package("qemu-img"), "qemu-img of Debian's package qemu-utils");
    assert_eq!(judges::package("/usr/lib/grub"), "/usr/lib/grub of Debian's package grub-efi-amd64-bin");
}

#[test]
#[should_panic(expected = "no-such-tool of Debian's package no-such-tool is not here: tests/run --install")]
fn where_nothing_may_be_left_out_a_missing_judge_fails_the_test() {
    let strict = Record { path: "/nonexistent".into(), strict: true };
    strict.leave(&judges::package("no-such-tool"), INSTALL);
}

#[test]
fn elsewhere_the_test_is_left_out_and_counted() {
    let folder = scratch();
    let record = Record { path: folder.path().join("left-out"), strict: false };
    let mut after = false;
    judged::<()>("it::the_first", || {
        record.note("a judge", "a line");
        record.leave("another", INSTALL)
    });
    judged("it::the_second", || after = true);
    assert!(after);
    let text = std::fs::read_to_string(&record.path).unwrap();
    assert_eq!(text, "a judge\ta line\tit::the_first\nanother\ttests/run --install\tit::the_first\n");
    // proptest turns the panic that ends the test into another one.
    judged("it::the_third", || {
        let left = catch_unwind(|| record.leave("a third", INSTALL));
        assert!(left.is_ok(), "what proptest says");
    });
    // A test that fails still fails, also after one that was left out.
    let fails = || assert!(find("sh").is_dir(), "a test that is meant to fail");
    assert!(catch_unwind(|| judged("it::the_fourth", fails)).is_err());
}
