//! Finding and reading definition files with their drop-ins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::Options;
use super::check;
use super::definition::{Definition, Place};
use super::ini::{self, Parsed};
use super::inside;
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
        // What does not fit together in a definition that is left out does not matter (`partition_read_definition`).
        if !options.leaves_out(&definition.kind)? {
            check::complete(&mut definition, options)?;
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
    let root = root(options)?;
    let root = root.as_deref();
    let found = |(name, path): (OsString, PathBuf)| {
        let own = name.to_str().and_then(|name| name.strip_suffix(ENDING));
        let own = own.filter(|own| options.written.contains_key(*own));
        let said = own.map_or(Said::Here, |own| Said::Manifest(own.to_owned()));
        let mut drop_ins = name;
        drop_ins.push(".d");
        let drop_ins = folders.iter().map(|folder| settled(root, &folder.join(&drop_ins)));
        let drop_ins = drop_ins.filter_map(Result::transpose).collect::<Result<Vec<_>>>()?;
        let drop_ins = files(&drop_ins, Wanted::DropIns, root)?.into_values().collect();
        Ok(Found { path, said, drop_ins })
    };
    let mut names = files(&folders, Wanted::Definitions, root)?;
    // A definition of a manifest hides files of its name, as one in an earlier folder does.
    names.extend(options.written.keys().map(|name| {
        let name = format!("{name}{ENDING}");
        (OsString::from(&name), PathBuf::from(name))
    }));
    names.into_iter().map(found).collect()
}

/// How the names of definitions end.
const ENDING: &str = ".conf";

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        Error::io(ErrorKind::Usage, "the folder of the definitions has no name", path, error)
    })
}

/// The root that links of definitions are followed in: none for folders that were named, which are those of this host
/// (systemd `context_read_definitions`).
fn root(options: &Options) -> Result<Option<PathBuf>> {
    let root = options.root.as_deref().filter(|_| options.definitions.is_empty());
    root.map(absolute).transpose()
}

/// Where a path below `root` leads to inside of it; `None` where that is nothing. Without a root the path as it is.
fn settled(root: Option<&Path>, path: &Path) -> Result<Option<PathBuf>> {
    let inner = root.and_then(|root| path.strip_prefix(root).ok());
    inside::find(root.filter(|_| inner.is_some()), inner.unwrap_or(path))
}

/// The folders that are searched.
fn folders(options: &Options) -> Result<Vec<PathBuf>> {
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
        Some(root) => {
            let root = absolute(root)?;
            let found = |folder: &&str| inside::find(Some(&root), Path::new(folder)).transpose();
            FOLDERS.iter().filter_map(found).collect()
        }
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
fn files(folders: &[PathBuf], wanted: Wanted, root: Option<&Path>) -> Result<BTreeMap<OsString, PathBuf>> {
    let mut found: BTreeMap<OsString, (PathBuf, Leads)> = BTreeMap::new();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let failed =
            |error| Error::io(ErrorKind::Source, "cannot read the folder of the definitions", folder, error);
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let fits = name.to_str().is_some_and(|name| name.ends_with(ENDING) && !name.starts_with('.'));
            let path = folder.join(&name);
            if !fits {
                continue;
            }
            let leads = leads(root, &path)?;
            if wanted == Wanted::DropIns || leads != Leads::Other {
                found.entry(name).or_insert((path, leads));
            }
        }
    }
    let read = |leads| matches!(leads, Leads::File | Leads::Other);
    let found = found.into_iter().filter(|(_, (_, leads))| read(*leads));
    Ok(found.map(|(name, (path, _))| (name, path)).collect())
}

/// What the name of a definition leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leads {
    File,
    /// Something else, as a folder.
    Other,
    /// Nothing, an empty file or /dev/null.
    Nowhere,
}

/// What `path` leads to inside `root`.
fn leads(root: Option<&Path>, path: &Path) -> Result<Leads> {
    const NULL: &str = "/dev/null";
    // A root need not have that device.
    if root.is_some() && std::fs::read_link(path).is_ok_and(|to| to == Path::new(NULL)) {
        return Ok(Leads::Nowhere);
    }
    let Some(path) = settled(root, path)? else { return Ok(Leads::Nowhere) };
    if path.canonicalize().is_ok_and(|path| path == Path::new(NULL)) {
        return Ok(Leads::Nowhere);
    }
    Ok(match std::fs::metadata(path) {
        Ok(meta) if !meta.is_file() => Leads::Other,
        Ok(meta) if meta.len() > 0 => Leads::File,
        Ok(_) | Err(_) => Leads::Nowhere,
    })
}

/// Reads one file.
fn read(reader: &mut Reader<'_>, path: &Path) -> Result<()> {
    const WHAT: &str = "cannot read the definition";
    let real = settled(root(reader.options)?.as_deref(), path)?.ok_or_else(|| inside::missing(WHAT, path))?;
    let bytes = std::fs::read(real).map_err(|error| Error::io(ErrorKind::Source, WHAT, path, error))?;
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
