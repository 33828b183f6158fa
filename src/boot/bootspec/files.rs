//! A toplevel without `boot.json`: the files and links in it say what boots. nixpkgs' installers read them
//! before bootspec existed.

use std::collections::BTreeMap;

use super::super::source::Source;
use super::json::SORT_KEY;
use super::{Reader, System};
use crate::error::{Error, Kind, Result};

/// The folders with a toplevel's variants: the present one, and the one before 2020.
const FOLDERS: [&str; 2] = ["specialisation", "fine-tune"];

/// Reads the system with the toplevel `top`.
pub(super) fn read(reader: &mut Reader<'_>, top: &Source) -> Result<System> {
    let mut system = one(reader, top)?;
    system.specialisations = variants(reader, top)?;
    Ok(system)
}

/// The system of a toplevel, without its variants.
fn one(reader: &mut Reader<'_>, top: &Source) -> Result<System> {
    let needed = |name: &str| {
        top.below(reader.store, name)?.ok_or_else(|| {
            Error::new(Kind::Source, "this is no toplevel of a NixOS system")
                .at(&top.host)
                .expected(format!("boot.json, or a file `{name}`"))
        })
    };
    let kernel = needed("kernel")?.file("kernel")?;
    needed("init")?;
    let initrd = match top.below(reader.store, "initrd")? {
        Some(initrd) => Some(initrd.file("initrd")?),
        None => None,
    };
    let kernel_params = reader.text(top, "kernel-params")?.unwrap_or_default();
    let version = reader.version(top, &kernel)?;
    let label = match reader.text(top, "label")? {
        Some(label) => label,
        None => match reader.kernel_version(top, &kernel)? {
            Some(kernel) if kernel != version => format!("NixOS {version} (Linux {kernel})"),
            _ => format!("NixOS {version}"),
        },
    };
    if let Some(program) = top.below(reader.store, "append-initrd-secrets")? {
        reader.secrets(top, &program.path)?;
    }
    Ok(System {
        toplevel: top.path.clone(),
        system: reader.text(top, "system")?.unwrap_or_default(),
        label,
        init: format!("{}/init", top.path),
        kernel,
        initrd,
        // Joined by blanks, the words are the content of the file again, including any quotes.
        kernel_params: kernel_params.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
        sort_key: SORT_KEY.to_owned(),
        devicetree: None,
        extra_initrds: Vec::new(),
        dtbs: reader.dtbs(top)?,
        xen: reader.xen(top)?,
        version,
        configuration_name: reader.text(top, "configuration-name")?.filter(|name| !name.is_empty()),
        specialisations: BTreeMap::new(),
    })
}

fn variants(reader: &mut Reader<'_>, top: &Source) -> Result<BTreeMap<String, System>> {
    let mut found = BTreeMap::new();
    for folder in FOLDERS {
        let Some(folder) = top.below(reader.store, folder)? else { continue };
        for name in folder.names()? {
            super::line(&name, "the name of a specialisation", &folder.host)?;
            if let Some(variant) = folder.below(reader.store, &name)? {
                // The variants of a variant are the same variants again.
                let system = one(reader, &variant)?;
                found.insert(name, system);
            }
        }
    }
    Ok(found)
}
