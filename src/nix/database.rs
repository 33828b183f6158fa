//! The database of Nix, `/nix/var/nix/db/db.sqlite`, schema 10, as a pure function of a closure.
//!
//! The rows are those that `nix-store --load-db` makes from the same registration, in its order: paths by
//! their base names with the ids 1 to n, then the references of each. The time of registration is an
//! argument; Nix would take it from the clock. SQLite itself makes the file, in memory. The same closure
//! gives the same bytes.

use super::closure::Closure;
use crate::error::{Error, Kind, Result};

/// The content of the file `schema` beside the database: its version, without a newline.
pub const SCHEMA_VERSION: &str = "10";

/// The tables of Nix 2.35 and later. Nix looks for tables and columns by their names and never compares the
/// text.
///
/// Nix up to 2.34 also made an index of Refs by referrer. The primary key of Refs makes it redundant, and Nix
/// 2.35 drops it. It is not made here, and [`MIGRATION`] records that.
#[cfg(feature = "nix-database")]
const SCHEMA: &str = "
create table ValidPaths (
    id integer primary key autoincrement not null,
    path text unique not null,
    hash text not null,
    registrationTime integer not null,
    deriver text,
    narSize integer,
    ultimate integer,
    sigs text,
    ca text
);
create table Refs (
    referrer integer not null,
    reference integer not null,
    primary key (referrer, reference),
    foreign key (referrer) references ValidPaths(id) on delete cascade,
    foreign key (reference) references ValidPaths(id) on delete restrict
);
create trigger DeleteSelfRefs before delete on ValidPaths begin
    delete from Refs where referrer = old.id and reference = old.id;
end;
create table DerivationOutputs (
    drv integer not null,
    id text not null,
    path text not null,
    primary key (drv, id),
    foreign key (drv) references ValidPaths(id) on delete cascade
);
create index IndexDerivationOutputs on DerivationOutputs(path);
create table SchemaMigrations (migration text primary key not null);
";

/// The index of references. It is made when all references are there: that is faster, and its pages are full.
#[cfg(feature = "nix-database")]
const INDEX: &str = "create index IndexReference on Refs(reference)";

/// The change of schema that Nix 2.35 makes if this name is missing, with an exclusive lock of the whole
/// store. Older versions of Nix ignore unknown names and make what they miss.
#[cfg(feature = "nix-database")]
const MIGRATION: &str = "20260309-drop-redundant-indexreferrer";

/// The database of `closure`, whose paths were registered at `registration_time`, in seconds since 1970. Nix
/// takes 0 for "not known", so 1 is the smallest time.
///
/// # Errors
/// [`Kind::Manifest`] where only the name of a store path is known, or a reference is missing;
/// [`Kind::Usage`] where this program was built without SQLite.
#[cfg(feature = "nix-database")]
pub fn build(closure: &Closure, registration_time: i64) -> Result<Vec<u8>> {
    let members = closure.registered()?;
    closure.closed()?;
    let sized = |size: u64| {
        i64::try_from(size).map_err(|_| {
            Error::new(Kind::Manifest, "a store path is larger than the database can say").found(size)
        })
    };
    // The sizes first: what follows can only fail by a bug of our own.
    let sizes = members.iter().map(|(_, facts)| sized(facts.nar_size)).collect::<Result<Vec<_>>>()?;
    fill(&members, &sizes, registration_time)
        .map_err(|error| Error::bug("SQLite refuses what diskwright writes").because(error))
}

/// The database of `closure`.
///
/// # Errors
/// [`Kind::Usage`]: this program was built without SQLite.
#[cfg(not(feature = "nix-database"))]
pub fn build(closure: &Closure, _: i64) -> Result<Vec<u8>> {
    closure.registered()?;
    Err(Error::new(Kind::Usage, "this diskwright was built without the database of Nix")
        .expected("the feature `nix-database`, which is on by default"))
}

#[cfg(feature = "nix-database")]
fn fill(
    members: &[(&super::StorePath, &super::Facts)],
    sizes: &[i64],
    registration_time: i64,
) -> rusqlite::Result<Vec<u8>> {
    use std::collections::HashMap;

    use rusqlite::{Connection, params};

    let mut database = Connection::open_in_memory()?;
    // The page size and encoding are SQLite's defaults, which Nix does not change. They are set explicitly so
    // that no build of SQLite decides. Foreign keys need no check, since the closure is closed.
    database.execute_batch(
        "pragma page_size = 4096; pragma encoding = 'UTF-8'; pragma auto_vacuum = none; pragma foreign_keys = off;",
    )?;
    let ids: HashMap<&super::StorePath, i64> =
        (1..).zip(members).map(|(id, (path, _))| (*path, id)).collect();
    let all = database.transaction()?;
    all.execute_batch(SCHEMA)?;
    all.execute("insert into SchemaMigrations (migration) values (?)", [MIGRATION])?;
    {
        let mut path = all.prepare("insert into ValidPaths values (?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
        let mut output = all.prepare("insert into DerivationOutputs values (?, ?, ?)")?;
        let mut reference = all.prepare("insert into Refs values (?, ?)")?;
        for (((store_path, facts), size), id) in members.iter().zip(sizes).zip(1_i64..) {
            let signatures = facts.signatures.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            path.execute(params![
                id,
                store_path.to_string(),
                facts.nar_hash.to_string(),
                registration_time,
                facts.deriver.as_ref().map(ToString::to_string),
                Some(*size).filter(|size| *size != 0),
                facts.ultimate.then_some(1),
                Some(signatures).filter(|signatures| !signatures.is_empty()),
                facts.ca,
            ])?;
            for (name, path) in &facts.outputs {
                output.execute(params![id, name, path.to_string()])?;
            }
        }
        for ((_, facts), id) in members.iter().zip(1_i64..) {
            for referred in &facts.references {
                // The closure is closed; otherwise SQLite would refuse a reference to NULL.
                reference.execute(params![id, ids.get(referred)])?;
            }
        }
    }
    all.execute_batch(INDEX)?;
    all.commit()?;
    Ok(database.serialize("main")?.to_vec())
}
