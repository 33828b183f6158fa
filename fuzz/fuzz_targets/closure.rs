//! Arbitrary bytes as a closure in each of its formats. An error is fine, a panic is a bug. A valid closure
//! is closed, gives a database, and survives a print in Nix's format.

#![no_main]

use std::path::Path;

use diskwright::nix::{Closure, database};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let file = Path::new("fuzz");
    for read in [Closure::from_registration, Closure::from_json, Closure::from_list] {
        let closure = match read(data, file) {
            Ok(closure) => closure,
            Err(error) => {
                let text = error.to_string();
                assert!(!text.contains('\x1b'), "an error commands the terminal");
                assert!(text.contains("fuzz"), "an error does not name the file: {text}");
                continue;
            }
        };
        assert!(!closure.is_empty());
        if closure.unregistered().is_some() {
            continue;
        }
        closure.closed().expect("what is read is closed");
        let printed = closure.registration().expect("every path is known");
        let again = Closure::from_registration(printed.as_bytes(), file).expect("a print can be read");
        assert_eq!(again.registration().expect("every path is known"), printed);
        // Sizes of more than 63 bits can be read, but no database can hold them.
        let large = closure.registered().expect("all are").iter().any(|(_, facts)| facts.nar_size > i64::MAX as u64);
        assert_eq!(database::build(&closure, 1).is_err(), large);
    }
});
