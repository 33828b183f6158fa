//! Which dataset has which node of a tree: what lies at and below a dataset's mount point is its own.

use std::collections::HashMap;

use crate::error::{Error, Kind, Result};
use crate::filesystem::mode::{self, MODE_FILE, MODE_TYPE};
use crate::text::shortened;
use crate::tree::{Content, NodeId, Tree};
use crate::units::{low16, narrow, u64_of};

/// Objects of a filesystem with fixed numbers, which are free except the first (zfs_znode.h, MASTER_NODE_OBJ).
pub(super) const MASTER: u64 = 1;
pub(super) const ATTRIBUTE_MASTER: u64 = 2;
pub(super) const UNLINKED: u64 = 3;
pub(super) const REGISTRATION: u64 = 4;
pub(super) const LAYOUTS: u64 = 5;
/// The root directory, and the first object after it.
pub(super) const ROOT: u64 = 6;
const FIRST: u32 = 7;

/// A dataset, as far as a tree is divided by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    /// For errors.
    pub(super) name: &'a str,
    /// The directory that it is mounted on; of a volume, the file that it has.
    pub(super) mount: Option<&'a [u8]>,
    pub(super) is_volume: bool,
    /// Whether the volume has a filesystem with what is below a directory.
    pub(super) is_inside: bool,
}

/// The nodes of a tree divided among datasets, with their object numbers.
#[derive(Debug)]
pub(super) struct Division {
    /// The dataset of what lies in a directory; that of a file itself.
    inside: Vec<u16>,
    /// The object that a name leads to, in the dataset of the directory that the name is in; 0 for a further name.
    numbers: Vec<u32>,
    /// The mount point of each dataset, if the tree has it; of a volume its file.
    roots: Vec<Option<NodeId>>,
    /// Which datasets are volumes.
    volumes: Vec<bool>,
    /// Names of files that have more than one.
    links: HashMap<NodeId, u64>,
    /// The first object of each dataset that no node is.
    ends: Vec<u32>,
}

impl Division {
    /// Divides `tree` among datasets; the first has what no other has.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where a mount point is no directory, where the file of a volume is no file, where two datasets have
    /// the same, and where names of one file are in two datasets.
    pub(super) fn new(tree: &Tree, datasets: &[Member<'_>]) -> Result<Self> {
        let mut roots = Vec::new();
        let mut mounted: HashMap<NodeId, u16> = HashMap::new();
        for (number, Member { name, mount, is_volume, is_inside }) in datasets.iter().enumerate() {
            let root = mount.and_then(|mount| tree.find(mount));
            roots.push(root);
            if *is_volume && !is_inside {
                volume_file(tree, root, *mount, name)?;
            }
            let Some(root) = root else { continue };
            if (!is_volume || *is_inside) && !tree.is_directory(root) {
                return Err(Error::new(
                    Kind::Manifest,
                    format!("{name} is to be mounted on something that is not a directory"),
                )
                .at(tree.path(root)));
            }
            if let Some(other) = mounted.insert(root, narrow(number, "the number of a dataset")?) {
                let other = datasets.get(usize::from(other)).map_or("another dataset", |other| other.name);
                return Err(Error::new(Kind::Manifest, "two datasets have the same mount point")
                    .at(tree.path(root))
                    .found(format!("{other} and {name}")));
            }
        }
        let volumes = datasets.iter().map(|dataset| dataset.is_volume).collect();
        let (inside, numbers, links) = (Vec::new(), Vec::new(), HashMap::new());
        let mut division = Self { inside, numbers, roots, volumes, links, ends: Vec::new() };
        division.number(tree, &mounted, datasets)?;
        Ok(division)
    }

    fn number(&mut self, tree: &Tree, mounted: &HashMap<NodeId, u16>, datasets: &[Member<'_>]) -> Result<()> {
        let mut next = vec![FIRST; datasets.len()];
        for node in tree.ids() {
            let home = if node == NodeId::ROOT { 0 } else { self.inside(tree.parent(node))? };
            let inside = mounted.get(&node).copied().unwrap_or(home);
            self.inside.push(inside);
            let next = next.get_mut(usize::from(home)).ok_or_else(|| no_dataset(home))?;
            let number = match tree.node(node).content {
                Content::Link { to } => {
                    let there = self.inside(to)?;
                    if there != home {
                        let name = |number: u16| datasets.get(usize::from(number)).map_or("", |own| own.name);
                        return Err(Error::new(Kind::Manifest, "names of one file are in two datasets")
                            .at(tree.path(node))
                            .at(tree.path(to))
                            .found(format!("{} and {}", name(home), name(there)))
                            .hint("dissolve the hard links of this entry (hardlinks = \"dissolve\")"));
                    }
                    *self.links.entry(to).or_insert(1) += 1;
                    0
                }
                _ if node == NodeId::ROOT || self.is_volume(inside)? => 0,
                _ => {
                    *next += 1;
                    *next - 1
                }
            };
            self.numbers.push(number);
        }
        self.ends = next;
        Ok(())
    }

    /// The dataset of what lies in a directory; of anything else its own.
    fn inside(&self, node: NodeId) -> Result<u16> {
        let dataset = self.inside.get(node.index()).copied();
        dataset.ok_or_else(|| Error::bug(format!("node {} belongs to no dataset", node.get())))
    }

    fn is_volume(&self, dataset: u16) -> Result<bool> {
        self.volumes.get(usize::from(dataset)).copied().ok_or_else(|| no_dataset(dataset))
    }

    /// The mount point of a dataset, or the file of a volume.
    pub(super) fn root(&self, dataset: u16) -> Result<Option<NodeId>> {
        self.roots.get(usize::from(dataset)).copied().ok_or_else(|| no_dataset(dataset))
    }

    /// Whether a node below the root of a dataset is an object of it.
    fn has(&self, tree: &Tree, dataset: u16, node: NodeId) -> Result<bool> {
        Ok(self.inside(tree.parent(node))? == dataset
            && !self.is_volume(self.inside(node)?)?
            && !matches!(tree.node(node).content, Content::Link { .. }))
    }

    /// The nodes of a dataset below its root that are objects of their own, in preorder. A mount point of another dataset
    /// is an empty directory here.
    pub(super) fn nodes<'a>(
        &'a self,
        tree: &'a Tree,
        dataset: u16,
    ) -> Result<impl Iterator<Item = Result<NodeId>> + 'a> {
        let root = self.root(dataset)?;
        let below = root.into_iter().flat_map(|root| tree.subtree(root));
        let below = below.filter(move |node| Some(*node) != root);
        Ok(below.filter_map(move |node| kept(node, self.has(tree, dataset, node))))
    }

    /// The object of a name.
    pub(super) fn object(&self, tree: &Tree, node: NodeId) -> Result<u64> {
        let number = self.numbers.get(tree.source(node).index()).copied().filter(|number| *number != 0);
        number.map(u64::from).ok_or_else(|| Error::bug(format!("node {} has no object", node.get())))
    }

    /// The first object of a dataset that no node of the tree is.
    pub(super) fn end(&self, dataset: u16) -> Result<u64> {
        let end = self.ends.get(usize::from(dataset)).copied();
        end.map(u64::from).ok_or_else(|| no_dataset(dataset))
    }

    /// The object of the directory that a node of `dataset` lies in.
    pub(super) fn parent(&self, tree: &Tree, node: NodeId, dataset: u16) -> Result<u64> {
        let parent = tree.parent(node);
        if Some(parent) == self.root(dataset)? { Ok(ROOT) } else { self.object(tree, parent) }
    }

    /// How many names a file has.
    pub(super) fn links(&self, node: NodeId) -> u64 {
        self.links.get(&node).copied().unwrap_or(1)
    }

    /// The entries of a directory of `dataset`: none where another dataset is mounted on it.
    pub(super) fn entries<'a>(
        &'a self,
        tree: &'a Tree,
        directory: NodeId,
        dataset: u16,
    ) -> Result<impl Iterator<Item = Result<NodeId>> + 'a> {
        let is_own = self.inside(directory)? == dataset;
        let own = tree.children(directory).filter(move |_| is_own);
        let is_listed = |child| Ok(!self.is_volume(self.inside(child)?)?);
        Ok(own.filter_map(move |child| kept(child, is_listed(child))))
    }

    /// The files of all datasets with contents, dataset by dataset, in the order of their objects.
    pub(super) fn files(&self, tree: &Tree) -> Result<Vec<(NodeId, u16)>> {
        let mut files = Vec::new();
        for dataset in 0..u64_of(self.roots.len()) {
            let dataset = low16(dataset);
            let volume = if self.is_volume(dataset)? { self.root(dataset)? } else { None };
            for node in self.nodes(tree, dataset)?.chain(volume.map(Ok)) {
                let node = node?;
                if tree.size(node) > 0 {
                    files.push((node, dataset));
                }
            }
        }
        Ok(files)
    }
}

fn no_dataset(number: u16) -> Error {
    Error::bug(format!("there is no dataset {number}"))
}

/// A node that is to be kept, or the error of asking.
fn kept(node: NodeId, keeps: Result<bool>) -> Option<Result<NodeId>> {
    keeps.map(|keeps| keeps.then_some(node)).transpose()
}

/// Refuses what cannot be the contents of a volume.
fn volume_file(tree: &Tree, found: Option<NodeId>, named: Option<&[u8]>, name: &str) -> Result<()> {
    let Some(named) = named else { return Ok(()) };
    let is_file = |node: NodeId| {
        mode::mode(tree, node) & MODE_TYPE == MODE_FILE
            && !matches!(tree.node(node).content, Content::Link { .. })
    };
    if found.is_some_and(is_file) {
        return Ok(());
    }
    Err(Error::new(Kind::Manifest, format!("the volume {name} has no contents"))
        .about("datasets")
        .expected("a file among the contents, with one name")
        .found(format!("`{}`", shortened(named, 80))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Builder, Meta, Time};

    /// `/a/file` in the dataset mounted on `/a`, which is the second of three; the third is the volume `/disk`.
    fn divided() -> (Tree, Division) {
        let mut builder = Builder::new(Time::default());
        let (meta, origin) = (Meta::root(0o644, Time::default()), builder.origin("test"));
        for path in ["/a/file", "/disk"] {
            builder.text(path.as_bytes(), b"x".to_vec(), meta, origin).unwrap();
        }
        let tree = builder.finish(1).unwrap();
        let member = |name, mount: &'static str, is_volume| Member {
            name,
            mount: Some(mount.as_bytes()),
            is_volume,
            is_inside: false,
        };
        let members =
            [member("tank", "/", false), member("tank/a", "/a", false), member("tank/v", "/disk", true)];
        let division = Division::new(&tree, &members).unwrap();
        (tree, division)
    }

    fn bug<T>(found: Result<T>) -> String {
        let error = found.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), Kind::Bug, "{error}");
        error.what().to_owned()
    }

    #[test]
    fn a_division_without_what_is_looked_up_is_a_bug_and_no_zero() {
        let (tree, good) = divided();
        let (file, disk) = (tree.find(b"/a/file").unwrap(), tree.find(b"/disk").unwrap());
        assert_eq!(good.files(&tree).unwrap(), [(file, 1), (disk, 2)]);
        assert_eq!((good.object(&tree, file).unwrap(), good.parent(&tree, file, 1).unwrap()), (7, ROOT));

        let poisoned = |change: &dyn Fn(&mut Division)| {
            let (_, mut division) = divided();
            change(&mut division);
            division
        };
        let last = tree.len() - 1;
        let homeless = poisoned(&|division| division.inside.truncate(last));
        let text = format!("node {last} belongs to no dataset");
        assert_eq!(bug(homeless.files(&tree)), text);
        let listed: Result<Vec<NodeId>> = homeless.entries(&tree, NodeId::ROOT, 0).unwrap().collect();
        assert_eq!(bug(listed), text);
        let nowhere = poisoned(&|division| division.inside.clear());
        assert_eq!(
            bug(nowhere.entries(&tree, NodeId::ROOT, 0).map(Iterator::count)),
            "node 0 belongs to no dataset"
        );

        let unknown = poisoned(&|division| division.volumes.truncate(2));
        assert_eq!(bug(unknown.files(&tree)), "there is no dataset 2");
        assert_eq!(bug(good.root(3)), "there is no dataset 3");
        assert_eq!(bug(good.parent(&tree, file, 3)), "there is no dataset 3");
        assert_eq!(bug(good.nodes(&tree, 3).map(Iterator::count)), "there is no dataset 3");

        assert_eq!((good.end(0).unwrap(), good.end(1).unwrap()), (8, 8));
        assert_eq!(bug(good.end(3)), "there is no dataset 3");
        let text = format!("node {} has no object", file.get());
        let gone = poisoned(&|division| division.numbers.truncate(file.index()));
        assert_eq!(bug(gone.object(&tree, file)), text);
        let zero = poisoned(&|division| division.numbers[file.index()] = 0);
        assert_eq!(bug(zero.object(&tree, file)), text);
        // The dataset that the file of a volume lies in has no object for it.
        assert_eq!(bug(good.object(&tree, disk)), format!("node {} has no object", disk.get()));
    }
}
