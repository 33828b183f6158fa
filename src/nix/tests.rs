//! Closures in every format of Nix, the database of one, and errors with their lines.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::error::{Kind, Result};

const A: &str = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-a-1.0";
const B: &str = "/nix/store/10bgd045z0d4icpbc2yyz4gx48ak44la-b";
const DRV: &str = "/nix/store/20bgd045z0d4icpbc2yyz4gx48ak44la-a-1.0.drv";
/// SHA-256 of "a" and of "b".
const HASH_A: &str = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
const HASH_B: &str = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d";

/// `b`, and `a` with a reference to `b` and itself, and a deriver.
fn registration() -> String {
    format!("{B}\nsha256:{HASH_B}\n200\n\n0\n{A}\nsha256:{HASH_A}\n120\n{DRV}\n2\n{A}\n{B}\n")
}

fn read(text: &str) -> Result<Closure> {
    Closure::from_registration(text.as_bytes(), Path::new("registration"))
}

fn path(text: &str) -> StorePath {
    text.parse().unwrap()
}

#[test]
fn a_registration_is_read_and_printed_as_nix_prints_it() {
    let closure = read(&registration()).unwrap();
    assert_eq!((closure.len(), closure.nar_size()), (2, 320));
    let a = closure.facts(&path(A)).unwrap();
    assert_eq!((a.nar_size, a.deriver.as_ref()), (120, Some(&path(DRV))));
    assert_eq!(a.references.iter().collect::<Vec<_>>(), [&path(A), &path(B)]);
    // By base names, in base 16 and without a prefix, as with --dump-db; the printed text reads back.
    let printed = closure.registration().unwrap();
    assert_eq!(printed, format!("{A}\n{HASH_A}\n120\n{DRV}\n2\n{A}\n{B}\n{B}\n{HASH_B}\n200\n\n0\n"));
    assert_eq!(read(&printed).unwrap(), closure);
    // Repeated entries have no effect.
    assert_eq!(read(&format!("{printed}{printed}")).unwrap(), closure);
}

#[test]
fn what_is_no_registration_is_refused_with_its_line() {
    let whole = registration();
    let line = |number: usize, text: &str| {
        let mut lines: Vec<&str> = whole.lines().collect();
        lines[number - 1] = text;
        lines.join("\n") + "\n"
    };
    for (text, expected) in [
        (line(1, "/nix/stor/x"), "registration:1: /nix/stor/x"),
        (line(1, &B[11..]), &*format!("registration:1: {}", &B[11..])),
        (line(2, "sha256:zz"), "registration:2: sha256:zz"),
        (line(2, "md5:00"), "registration:2: md5:00"),
        (line(3, "-1"), "registration:3: -1"),
        (line(3, "+1"), "registration:3: +1"),
        (line(3, ""), "registration:3"),
        (line(3, "18446744073709551616"), "registration:3: 18446744073709551616"),
        (line(4, "x"), "registration:4: x"),
        (line(5, "1"), "registration:7: sha256:"),
        (line(5, "99999999999999999"), "registration:7: sha256:"),
        (line(10, "3"), "expected: reference 3 of 3"),
        (line(11, "\x1b[31m"), "registration:11: \\x1b[31m"),
        // Line ends of Windows are part of the text.
        (whole.replace('\n', "\r\n"), "registration:1: /nix/store/10bgd045z0d4icpbc2yyz4gx48ak44la-b\\x0d"),
        (whole[..whole.len() - 1].to_owned(), "the registration is cut off"),
        (whole[..whole.len() - 60].to_owned(), "the registration is cut off"),
        (format!("{whole}\n"), "registration:13"),
        (String::new(), "the closure lists no store path"),
        ("\n".to_owned(), "registration:1"),
    ] {
        let error = read(&text).unwrap_err();
        assert_eq!(error.kind(), Kind::Manifest);
        assert!(error.to_string().contains(expected), "{error}\nhas no `{expected}`");
    }
}

#[test]
fn a_closure_is_closed_and_says_one_thing() {
    let alone = format!("{A}\n{HASH_A}\n120\n\n1\n{B}\n");
    let error = read(&alone).unwrap_err().to_string();
    assert!(error.contains("a reference is not in it") && error.contains("registration:6"), "{error}");
    for (other, what) in [
        (format!("{B}\n{HASH_A}\n200\n\n0\n"), "hash"),
        (format!("{B}\n{HASH_B}\n201\n\n0\n"), "size"),
        (format!("{B}\n{HASH_B}\n200\n\n1\n{B}\n"), "references"),
        (format!("{A}\n{HASH_A}\n120\n{}\n2\n{A}\n{B}\n", DRV.replace("/2", "/3")), "deriver"),
    ] {
        let error = read(&(registration() + &other)).unwrap_err().to_string();
        assert!(
            error.contains(&format!("two truths about the {what} of ")) && error.contains("registration:13"),
            "{error}"
        );
    }
}

#[test]
fn a_folder_of_closure_info_has_to_agree_with_itself() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("registration", &registration());
    write("store-paths", &format!("{A}\n{B}\n"));
    assert_eq!(Closure::load(folder.path()).unwrap(), read(&registration()).unwrap());
    write("store-paths", &format!("{A}\n"));
    let error = Closure::load(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("two files disagree") && error.contains(&format!("{B} in the first alone")),
        "{error}"
    );
    write("store-paths", &format!("{A}\n{B}\n{DRV}\n"));
    let error = Closure::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("{DRV} in the first alone")), "{error}");
    std::fs::remove_file(folder.path().join("registration")).unwrap();
    let error = Closure::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("the closure does not exist") && error.contains("registration"), "{error}");
    // A list alone has names and nothing else.
    let list = Closure::load(&folder.path().join("store-paths")).unwrap();
    assert_eq!((list.len(), list.unregistered()), (3, Some(&path(A))));
    let error = list.registered().unwrap_err().to_string();
    assert!(error.contains(&format!("nothing but the name of {A}")), "{error}");
}

#[test]
fn json_is_read_in_every_shape_that_nix_writes() {
    let b = format!(r#"{{"narHash":"sha256:{HASH_B}","narSize":200,"references":[]}}"#);
    let a = |name: fn(&str) -> &str| {
        format!(
            r#"{{"narHash":"sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs=","narSize":120,"deriver":"{}","references":["{}","{}"],"valid":true,"ultimate":true,"signatures":["k:c2ln"]}}"#,
            name(DRV),
            name(A),
            name(B)
        )
    };
    let whole: fn(&str) -> &str = |path| path;
    let base: fn(&str) -> &str = |path| &path[11..];
    let with_path = |path: &str, info: &str| info.replacen('{', &format!(r#"{{"path":"{path}","#), 1);
    let list = format!("[{},{}]", with_path(A, &a(whole)), with_path(B, &b));
    let map = format!(r#"{{"{A}":{},"{B}":{b}}}"#, a(whole));
    let version_2 = format!(
        r#"{{"version":2,"storeDir":"/nix/store","info":{{"{}":{},"{}":{b}}}}}"#,
        &A[11..],
        a(base),
        &B[11..]
    );
    let attributes = format!(r#"{{"outputs":{{}},"name":"x","graph":{list},"list":[1]}}"#);
    let named = format!(r#"{{"closure":{list},"other":{list}}}"#);
    let mut read_all = Vec::new();
    for text in [&list, &map, &version_2, &attributes, &named, &format!("\n {list}\n")] {
        let closure = Closure::from_json(text.as_bytes(), Path::new("json")).unwrap();
        read_all.push(closure);
    }
    for closure in &read_all {
        assert_eq!(closure, &read_all[0]);
    }
    let facts = read_all[0].facts(&path(A)).unwrap();
    assert_eq!(facts.nar_hash.to_string(), format!("sha256:{HASH_A}"));
    assert!(facts.ultimate && facts.signatures.contains("k:c2ln"));
    // All closures contain the facts of the registration.
    assert_eq!(read_all[0].registration().unwrap(), read(&registration()).unwrap().registration().unwrap());
}

#[test]
fn content_addresses_and_signatures_are_those_of_the_database() {
    let of = |more: &str| {
        let text =
            format!(r#"[{{"path":"{B}","narHash":"sha256:{HASH_B}","narSize":1,"references":[],{more}}}]"#);
        let closure = Closure::from_json(text.as_bytes(), Path::new("json"))?;
        Ok::<_, crate::error::Error>(closure.facts(&path(B)).unwrap().clone())
    };
    assert_eq!(of(r#""ca":"text:sha256:0abc""#).unwrap().ca.unwrap(), "text:sha256:0abc");
    // nix32 of 32 zeros.
    let zeros = "0".repeat(52);
    let hash = format!("sha256-{}=", "A".repeat(43));
    for (method, prefix) in
        [("nar", "fixed:r:"), ("flat", "fixed:"), ("text", "text:"), ("git", "fixed:git:")]
    {
        let ca = of(&format!(r#""ca":{{"method":"{method}","hash":"{hash}"}}"#)).unwrap().ca.unwrap();
        assert_eq!(ca, format!("{prefix}sha256:{zeros}"));
    }
    let signatures = of(r#""signatures":[{"keyName":"k","sig":"c2ln"},"a:b"]"#).unwrap().signatures;
    assert_eq!(signatures.into_iter().collect::<Vec<_>>(), ["a:b", "k:c2ln"]);
    for more in [
        r#""ca":{"method":"x","hash":"sha256-AAAA"}"#,
        r#""ca":{"method":"nar","hash":"sha256"}"#,
        r#""ca":7"#,
    ] {
        assert_eq!(of(more).unwrap_err().kind(), Kind::Manifest, "{more}");
    }
}

#[test]
fn json_that_says_no_closure_is_refused_where_it_is_wrong() {
    let b = format!(r#""path":"{B}","narHash":"sha256:{HASH_B}","narSize":200,"references":[]"#);
    for (text, expected) in [
        ("{", "json:1"),
        ("[\n{\"path\": 7}]", "json:2: {\"path\": 7}]"),
        ("[\n\n{\"path\":\"/etc\"}]", "json:3"),
        ("{\"a\":1}", "these keys: a"),
        ("[]", "lists no store path"),
        ("{\"closure\":[]}", "lists no store path"),
        (&format!("{{\"x\":[{{{b}}}],\"y\":[{{{b}}}]}}"), "several graphs: x, y"),
        ("[{\"narSize\":1}]", "has no path"),
        (&format!("[{{\"path\":\"{B}\"}}]"), "does not say what Nix knows"),
        (&format!("{{\"{B}\":null}}"), "does not say what Nix knows"),
        (&format!("[{{{b},\"storeDir\":\"/gnu/store\"}}]"), "of another store"),
        (&format!("[{{{}}}]", b.replace("[]", &format!("[\"{A}\"]"))), "a reference is not in it"),
        (
            &format!(
                "[{{{b}}},{{\"path\":\"{B}\",\"narHash\":\"sha256:{HASH_B}\",\"narSize\":1,\"references\":[]}}]"
            ),
            "two truths",
        ),
        (
            &format!("[{{\"path\":\"{B}\",\"narHash\":\"sha256:{HASH_B}\",\"narSize\":1}}]"),
            "and `references`",
        ),
        (&format!("[{{\"path\":\"{B}\",\"narHash\":\"sha256:{HASH_B}\",\"narSize\":-1}}]"), "json:1"),
    ] {
        let error = Closure::from_json(text.as_bytes(), Path::new("json")).unwrap_err();
        assert_eq!(error.kind(), Kind::Manifest);
        assert!(error.to_string().contains(expected), "{text}\n{error}\nhas no `{expected}`");
    }
    let error = Closure::from_json(b"[\"\xff\"]", Path::new("json")).unwrap_err().to_string();
    assert!(error.contains("no UTF-8") && error.contains("json, byte 2"), "{error}");
}

/// The output of Nix 2.34.8 about one store path.
const FORMAT_1: &str = r#"{"/nix/store/ab3li50xq0nl4q5lxdyinb8w8y13my9s-f":{"ca":"fixed:r:sha256:1xmr8jicvzszfzpz46g37mlpvbzjl2wpwvl2b05psipssyp1sm8h","deriver":null,"narHash":"sha256-EFUdrtf6Rn0LWIJufrmg8q99aT3jGfLvd1//zaJEufY=","narSize":120,"references":[],"registrationTime":1795957977,"signatures":[],"storeDir":"/nix/store","ultimate":false,"version":1}}"#;
const FORMAT_2: &str = r#"{"info":{"ab3li50xq0nl4q5lxdyinb8w8y13my9s-f":{"ca":{"hash":"sha256-EFUdrtf6Rn0LWIJufrmg8q99aT3jGfLvd1//zaJEufY=","method":"nar"},"deriver":null,"narHash":"sha256-EFUdrtf6Rn0LWIJufrmg8q99aT3jGfLvd1//zaJEufY=","narSize":120,"references":[],"registrationTime":1795957977,"signatures":[],"storeDir":"/nix/store","ultimate":false,"version":2}},"storeDir":"/nix/store","version":2}"#;
/// The attributes of a build with one graph, of the same Nix.
const ATTRIBUTES: &str = r#"{"builder":"/bin/sh","closure":[{"ca":"text:sha256:193s6bfb4ncbr0d3rpb177cac43b2z2h3afxi7grcswgci346hwg","closureSize":120,"narHash":"sha256:1z63q11s9hppsav4x9kh767bqr7ypmw7ncg3wjncgs4lijvx8li2","narSize":120,"path":"/nix/store/ww5ixrr91z8mx6fzy97kwzl5lv5slwdr-a","references":[],"valid":true}],"exportReferencesGraph":{"closure":["/nix/store/ww5ixrr91z8mx6fzy97kwzl5lv5slwdr-a"]},"name":"g","outputs":{"out":"/nix/store/z2q8i9wa05akw5g72vhqa4w6p91162sq-g"},"system":"x86_64-linux"}"#;

#[test]
fn formats_that_are_known_are_read_and_others_refused_by_name() {
    let read = |text: &str| Closure::from_json(text.as_bytes(), Path::new("json"));
    assert_eq!(read(FORMAT_1).unwrap(), read(FORMAT_2).unwrap());
    assert_eq!(read(ATTRIBUTES).unwrap().nar_size(), 120);
    // A build may have attributes of any name.
    let odd = ATTRIBUTES.replacen('{', r#"{"version":4,"info":{},"storeDir":"/x","#, 1);
    assert_eq!(read(&odd).unwrap(), read(ATTRIBUTES).unwrap());
    let three = FORMAT_2.replace(r#""version":2"#, r#""version":3"#);
    assert_eq!(read(&three).unwrap(), read(FORMAT_2).unwrap());
    let (before, after) = FORMAT_2.rsplit_once(r#","storeDir":"/nix/store","version":2}"#).unwrap();
    for (text, expected) in [
        (format!(r#"{before},"storeDir":"/nix/store","version":4}}{after}"#), "found: version 4\n"),
        (format!(r#"{before},"storeDir":"/nix/store","version":0}}"#), "found: version 0\n"),
        (FORMAT_2.replacen(r#""version":2"#, r#""version":4"#, 1), "found: version 4\n"),
        (FORMAT_1.replace(r#""version":1"#, r#""version":9"#), "found: version 9\n"),
        (r#"{"version":5,"paths":{}}"#.to_owned(), "found: version 5\n"),
        (format!(r#"{before},"storeDir":"/gnu/store","version":2}}"#), "found: /gnu/store"),
        (r#"{"version":2,"storeDir":"/nix/store"}"#.to_owned(), "found: these keys: storeDir, version"),
    ] {
        let error = read(&text).unwrap_err();
        assert!(error.kind() == Kind::Manifest && error.to_string().contains(expected), "{text}\n{error}");
    }
}

#[test]
fn a_file_is_taken_for_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("closure");
    for (text, registered) in [
        (registration(), true),
        (format!("{A}\n{B}\n"), false),
        (format!("{A}\n"), false),
        (format!(r#" [{{"path":"{B}","narHash":"sha256:{HASH_B}","narSize":1,"references":[]}}]"#), true),
    ] {
        std::fs::write(&file, &text).unwrap();
        let closure = Closure::load(&file).unwrap();
        assert_eq!(closure.unregistered().is_none(), registered, "{text}");
    }
    for text in ["", "\n\n", "nonsense\n", "a\nb\nc\n"] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(Closure::load(&file).unwrap_err().kind(), Kind::Manifest, "{text:?}");
    }
    let error = Closure::load(&folder.path().join("absent")).unwrap_err();
    assert_eq!((error.kind(), error.what()), (Kind::Source, "the closure does not exist"));
}

#[test]
fn what_is_missing_on_the_host_is_counted_and_derivations_say_what_they_make() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path());
    let mut closure = read(&format!("{A}\n{HASH_A}\n1\n\n0\n{DRV}\n{HASH_B}\n2\n\n0\n")).unwrap();
    let error = closure.present(&store).unwrap_err().to_string();
    assert!(error.contains("-a-1.0\n") && error.contains("1 more of 2 missing"), "{error}");
    assert!(closure.read_derivations(&store).unwrap_err().to_string().contains(".drv"));
    std::fs::create_dir_all(root.path().join(&A[1..])).unwrap();
    std::fs::write(root.path().join(&DRV[1..]), format!(r#"Derive([("out","{A}","","")],[],"#)).unwrap();
    closure.present(&store).unwrap();
    closure.read_derivations(&store).unwrap();
    let outputs = &closure.facts(&path(DRV)).unwrap().outputs;
    assert_eq!(outputs, &BTreeMap::from([("out".to_owned(), path(A))]));
}

#[cfg(feature = "nix-database")]
mod database {
    use super::super::database::build;
    use super::*;
    use rusqlite::Connection;
    use std::collections::BTreeSet;

    /// Opens the bytes of a database as a file, as Nix would.
    fn open(bytes: &[u8]) -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("db.sqlite");
        std::fs::write(&file, bytes).unwrap();
        let database = Connection::open(file).unwrap();
        (folder, database)
    }

    fn rows(database: &Connection, query: &str) -> Vec<String> {
        let mut statement = database.prepare(query).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            let mut cells = Vec::new();
            for column in 0..columns {
                cells.push(match row.get_ref(column)? {
                    rusqlite::types::ValueRef::Null => "-".to_owned(),
                    rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                    other => other.as_str()?.to_owned(),
                });
            }
            Ok(cells.join(" "))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn the_rows_are_those_of_load_db() {
        let mut closure = read(&registration()).unwrap();
        let mut drv = Facts::new(format!("sha256:{HASH_A}").parse().unwrap(), 0);
        drv.ca = Some("text:sha256:x".to_owned());
        drv.ultimate = true;
        drv.signatures = BTreeSet::from(["b:2".to_owned(), "a:1".to_owned()]);
        drv.outputs = BTreeMap::from([("out".to_owned(), path(A)), ("dev".to_owned(), path(B))]);
        closure.add(path(DRV), Some(drv)).unwrap();
        let bytes = build(&closure, 1).unwrap();
        let (_folder, database) = open(&bytes);
        assert_eq!(rows(&database, "pragma integrity_check"), ["ok"]);
        assert_eq!(rows(&database, "pragma foreign_key_check"), [""; 0]);
        assert_eq!(
            rows(&database, "select * from ValidPaths order by id"),
            [
                format!("1 {A} sha256:{HASH_A} 1 {DRV} 120 - - -"),
                format!("2 {B} sha256:{HASH_B} 1 - 200 - - -"),
                format!("3 {DRV} sha256:{HASH_A} 1 - - 1 a:1 b:2 text:sha256:x"),
            ]
        );
        assert_eq!(rows(&database, "select * from Refs order by rowid"), ["1 1", "1 2"]);
        assert_eq!(
            rows(&database, "select * from DerivationOutputs order by rowid"),
            [format!("3 dev {B}"), format!("3 out {A}")]
        );
        assert_eq!(
            rows(&database, "select * from SchemaMigrations"),
            ["20260309-drop-redundant-indexreferrer"]
        );
    }

    #[test]
    fn what_is_referred_to_stays_and_what_refers_to_itself_goes() {
        let (_folder, database) = open(&build(&read(&registration()).unwrap(), 7).unwrap());
        database.execute_batch("pragma foreign_keys = on").unwrap();
        assert!(database.execute("delete from ValidPaths where id = 2", []).is_err());
        assert_eq!(database.execute("delete from ValidPaths where id = 1", []).unwrap(), 1);
        assert_eq!(rows(&database, "select * from Refs"), [""; 0]);
        assert_eq!(rows(&database, "select registrationTime from ValidPaths"), ["7"]);
    }

    #[test]
    fn the_same_closure_is_the_same_bytes() {
        let mut other = Closure::default();
        // Blocks in another order.
        for block in [&registration()[..], ""] {
            for (path, facts) in read(&(block.to_owned() + &registration())).unwrap().registered().unwrap() {
                other.add(path.clone(), Some(facts.clone())).unwrap();
            }
        }
        let bytes = build(&read(&registration()).unwrap(), 1).unwrap();
        assert_eq!(build(&other, 1).unwrap(), bytes);
        assert_ne!(build(&other, 2).unwrap(), bytes);
        // A header of SQLite: page size 4096, not in WAL mode, UTF-8.
        assert_eq!(&bytes[..20], b"SQLite format 3\0\x10\0\x01\x01");
        assert_eq!(bytes[59], 1);
        assert_eq!(bytes.len() % 4096, 0);
    }

    #[test]
    fn what_no_database_can_hold_is_refused() {
        let mut names = Closure::default();
        names.add(path(A), None).unwrap();
        assert_eq!(build(&names, 1).unwrap_err().kind(), Kind::Manifest);
        let mut huge = read(&registration()).unwrap();
        huge.add(path(DRV), Some(Facts::new(format!("sha256:{HASH_A}").parse().unwrap(), u64::MAX))).unwrap();
        assert_eq!(build(&huge, 1).unwrap_err().what(), "a store path is larger than the database can say");
        let mut open = Closure::default();
        let mut facts = Facts::new(format!("sha256:{HASH_A}").parse().unwrap(), 1);
        facts.references.insert(path(B));
        open.add(path(A), Some(facts)).unwrap();
        assert_eq!(
            build(&open, 1).unwrap_err().what(),
            "the closure is not closed: a reference is not in it"
        );
    }
}
