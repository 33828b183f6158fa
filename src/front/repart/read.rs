//! Finding and reading definition files with their drop-ins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::Options;
use super::check;
use super::definition::{Definition, Place};
use super::ini::{self, Parsed};
use super::keys::Reader;
use super::kind::Kind;
use super::options::option_key;
use super::section::Sections;
use super::specifier::Specifiers;
use crate::error::{Error, Kind as ErrorKind, Result};

/// Where definitions are looked for below a root, the first being the strongest.
const FOLDERS: [&str; 4] = ["etc/repart.d", "run/repart.d", "usr/local/lib/repart.d", "usr/lib/repart.d"];

/// The sections that mean something here.
const SECTIONS: [&str; 2] = ["Partition", super::nix::SECTION];

/// All definitions, in the order of their names, and what is told of them.
///
/// # Errors
/// [`ErrorKind::Manifest`] with file and line for what systemd refuses; [`ErrorKind::Source`] for what cannot be read.
pub(super) fn definitions(
    options: &Options,
    specifiers: &Specifiers,
) -> Result<(Vec<Definition>, Vec<String>)> {
    let (mut definitions, mut warnings) = (Vec::new(), Vec::new());
    for Found { path, said, drop_ins } in found(options)? {
        let kind = Kind::new(Uuid::nil());
        let mut reader = Reader {
            options,
            specifiers,
            definition: Definition::new(path.clone(), kind),
            typed: false,
            warnings: Vec::new(),
        };
        match said {
            Said::Here => read(&mut reader, &path)?,
            Said::Text(text) => take(&mut reader, &path, text.as_bytes())?,
            Said::Manifest(name) => written(&mut reader, &name)?,
        }
        for path in drop_ins {
            read(&mut reader, &path)?;
            reader.definition.drop_ins.push(path);
        }
        let Reader { typed, mut definition, warnings: told, .. } = reader;
        warnings.extend(told);
        if !typed {
            let error = Error::new(ErrorKind::Manifest, "Type= is not defined")
                .hint("a definition begins with [Partition] and a line such as Type=linux-generic");
            return Err(definition.place(error, "Type"));
        }
        check::complete(&mut definition, options)?;
        if !options.leaves_out(&definition.kind)? {
            definitions.push(definition);
        }
    }
    check::together(&definitions)?;
    Ok((definitions, warnings))
}

/// A definition to read.
struct Found {
    path: PathBuf,
    said: Said,
    drop_ins: Vec<PathBuf>,
}

/// Where what it says is.
enum Said {
    /// In its file.
    Here,
    /// It is this text.
    Text(String),
    /// In a manifest, under this name.
    Manifest(String),
}

/// The definitions there are, in their order.
fn found(options: &Options) -> Result<Vec<Found>> {
    if let Some(ddi) = options.ddi {
        let found = |(path, text): (String, String)| Found {
            path: path.into(),
            said: Said::Text(text),
            drop_ins: Vec::new(),
        };
        return Ok(ddi.definitions().into_iter().map(found).collect());
    }
    let folders = folders(options)?;
    let found = |(name, path): (OsString, PathBuf)| {
        let own = name.to_str().and_then(|name| name.strip_suffix(ENDING));
        let own = own.filter(|own| options.written.contains_key(*own));
        let said = own.map_or(Said::Here, |own| Said::Manifest(own.to_owned()));
        let mut drop_ins = name;
        drop_ins.push(".d");
        let drop_ins: Vec<PathBuf> = folders.iter().map(|folder| folder.join(&drop_ins)).collect();
        let drop_ins = files(&drop_ins, Wanted::DropIns)?.into_values().collect();
        Ok(Found { path, said, drop_ins })
    };
    let mut names = files(&folders, Wanted::Definitions)?;
    // A definition of a manifest hides files of its name, as one in an earlier folder does.
    names.extend(options.written.keys().map(|name| {
        let name = format!("{name}{ENDING}");
        (OsString::from(&name), PathBuf::from(name))
    }));
    names.into_iter().map(found).collect()
}

/// How the names of definitions end.
const ENDING: &str = ".conf";

/// The folders that are searched.
fn folders(options: &Options) -> Result<Vec<PathBuf>> {
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|error| {
            Error::io(ErrorKind::Usage, "the folder of the definitions has no name", path, error)
        })
    };
    if !options.definitions.is_empty() {
        if let Some(folder) = options.definitions.iter().find(|folder| !folder.is_dir()) {
            return Err(Error::new(ErrorKind::Usage, "there is no such folder with definitions")
                .at(folder)
                .at_key(&option_key("definitions")));
        }
        return options.definitions.iter().map(|path| absolute(path)).collect();
    }
    match &options.root {
        // Those of a manifest are all there are, where it names no folders.
        _ if !options.written.is_empty() => Ok(Vec::new()),
        Some(root) => FOLDERS.iter().map(|folder| absolute(&root.join(folder))).collect(),
        None => Err(Error::new(ErrorKind::Usage, "there are no definitions")
            .expected("a folder with definitions, or a root with etc/repart.d or usr/lib/repart.d in it")
            .why("those of the machine that builds would make another image on each")),
    }
}

/// What is looked for in a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Definitions: what is no file, as a folder of that name, is passed over, and hides nothing.
    Definitions,
    /// Drop-ins, which systemd opens whatever they are.
    DropIns,
}

/// The files in `folders` whose names end as those of definitions, by name: of two with one name the one in the earlier folder.
/// An empty file and a link to /dev/null stand for nothing, and hide those in later folders.
fn files(folders: &[PathBuf], wanted: Wanted) -> Result<BTreeMap<OsString, PathBuf>> {
    let mut found: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    let other = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) && !is_masked(path);
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let failed =
            |error| Error::io(ErrorKind::Source, "cannot read the folder of the definitions", folder, error);
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let fits = name.to_str().is_some_and(|name| name.ends_with(ENDING) && !name.starts_with('.'));
            let path = folder.join(&name);
            if fits && !(wanted == Wanted::Definitions && other(&path)) {
                found.entry(name).or_insert(path);
            }
        }
    }
    found.retain(|_, path| {
        !is_masked(path) && std::fs::metadata(path).is_ok_and(|meta| !meta.is_file() || meta.len() > 0)
    });
    Ok(found)
}

/// Whether it leads to /dev/null.
fn is_masked(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| path == Path::new("/dev/null"))
}

/// Reads one file.
fn read(reader: &mut Reader<'_>, path: &Path) -> Result<()> {
    let bytes = std::fs::read(path)
        .map_err(|error| Error::io(ErrorKind::Source, "cannot read the definition", path, error))?;
    take(reader, path, &bytes)
}

/// Takes all that a file says.
fn take(reader: &mut Reader<'_>, path: &Path, bytes: &[u8]) -> Result<()> {
    let place = |line| Place::File(path.to_owned(), line);
    let Parsed { assignments, remarks } =
        ini::parse(bytes, &SECTIONS).map_err(|(line, error)| place(line).blame(error, ""))?;
    for remark in remarks {
        reader.tell(&place(remark.line), remark.text)?;
    }
    assignments.iter().try_for_each(|it| reader.take(&it.section, &it.key, &it.value, &place(it.line)))
}

/// Takes what a manifest says of the definition `name`.
fn written(reader: &mut Reader<'_>, name: &str) -> Result<()> {
    let none = Sections::new();
    let sections = reader.options.written.get(name).unwrap_or(&none);
    let table = option_key("partitions").key(name.to_owned());
    reader.definition.key = Some(table.clone());
    for (section, keys) in sections {
        let table = table.key(section.clone());
        if !SECTIONS.contains(&section.as_str()) {
            return Err(Error::new(ErrorKind::Manifest, "definitions have no section of this name")
                .at_key(&table)
                .expected(SECTIONS.join(" or "))
                .found(section));
        }
        for (key, setting) in keys {
            let path = table.key(key.clone());
            for (number, value) in setting.values().iter().enumerate() {
                let place = Place::Key(if setting.is_list() { path.index(number) } else { path.clone() });
                reader.take(section, key, value, &place)?;
            }
        }
    }
    Ok(())
}
