//! A GRUB whose files are among the contents of a pool, and which features of ZFS it reads.

use std::sync::Arc;

use super::features;
use crate::error::Result;
use crate::image::Builder;
use crate::tree::{NodeId, Tree};
use crate::units::{Bytes, usize_of};

/// Where distributions keep the menu of GRUB, and beside it its modules.
const FOLDERS: [&str; 2] = ["/boot/grub", "/boot/grub2"];
const MENU: &str = "grub.cfg";
/// Its module of ZFS has the names of the features that it knows (GRUB 2.06 to 2.14, grub-core/fs/zfs/zfs.c, spa_feature_names).
const MODULE: &str = "zfs.mod";
/// The set of GRUB where it does not show what it knows.
const USUAL: &str = "grub2-2.12";
/// The largest module that is looked into: that of GRUB 2.14 has less than 100 KiB.
const LARGEST: u64 = 4 << 20;

/// A GRUB.
#[derive(Debug)]
pub(super) struct Grub {
    /// Its menu.
    pub(super) path: String,
    /// What errors call it.
    pub(super) name: &'static str,
    module: Option<Vec<u8>>,
}

impl Grub {
    /// Whether it reads pools that use a feature.
    pub(super) fn reads(&self, guid: &str) -> bool {
        match &self.module {
            Some(module) => module.windows(guid.len()).any(|part| part == guid.as_bytes()),
            None => features::set_has(USUAL, guid),
        }
    }
}

/// The GRUB whose menu is among the contents.
///
/// # Errors
/// Errors of reading its module.
pub(super) fn inside(tree: &Arc<Tree>) -> Result<Option<Grub>> {
    let file = |folder: NodeId, name: &[u8]| tree.child(folder, name).filter(|node| tree.size(*node) > 0);
    for name in FOLDERS {
        let Some(folder) = tree.find(name.as_bytes()) else { continue };
        if file(folder, MENU.as_bytes()).is_none() {
            continue;
        }
        // Modules are in a folder for each platform.
        let module = tree.children(folder).find_map(|platform| file(platform, MODULE.as_bytes()));
        if let Some(node) = module.filter(|node| tree.size(*node) <= LARGEST) {
            let module = Some(bytes(tree, node)?);
            return Ok(Some(Grub { path: tree.path(node), name: "this GRUB", module }));
        }
        return Ok(Some(Grub { path: format!("{name}/{MENU}"), name: "GRUB 2.12", module: None }));
    }
    Ok(None)
}

/// The bytes of a file.
fn bytes(tree: &Arc<Tree>, node: NodeId) -> Result<Vec<u8>> {
    let size = Bytes::new(tree.size(node));
    let mut image = Builder::new(size);
    let table = image.files(Arc::<Tree>::clone(tree));
    tree.data(node, table)?.put(&mut image, Bytes::ZERO, size, 0)?;
    image.finish()?.whole().bytes(0, usize_of(size.get()))
}
