//! A directory of a tree as a tree of its own.

use super::{Content, NodeId, Tree};
use crate::error::{Error, Kind, Result};

impl Tree {
    /// What is at and below the directory `top`, as a tree whose root that is.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where a file below it has its first name elsewhere.
    pub(crate) fn below(&self, top: NodeId) -> Result<Self> {
        let (first, end) = (top.get(), self.node(top).end);
        let mut nodes = Vec::new();
        for id in self.subtree(top) {
            let mut node = *self.node(id);
            node.parent = node.parent.saturating_sub(first);
            node.end = node.end.saturating_sub(first);
            if let Content::Link { to } = node.content {
                let to = to.get().checked_sub(first).ok_or_else(|| {
                    Error::new(Kind::Manifest, "names of one file are in two filesystems")
                        .at(self.path(id))
                        .at(self.path(to))
                        .hint("dissolve the hard links of this entry (hardlinks = \"dissolve\")")
                })?;
                node.content = Content::Link { to: NodeId::new(to) };
            }
            nodes.push(node);
        }
        if let Some(root) = nodes.first_mut() {
            root.name_length = 0;
        }
        let ranges = self.ranges.range(first..end);
        Ok(Self {
            nodes,
            names: self.names.clone(),
            places: self.places.clone(),
            texts: self.texts.clone(),
            slices: self.slices.clone(),
            xattrs: self.xattrs.clone(),
            ranges: ranges.map(|(id, ranges)| (id - first, ranges.clone())).collect(),
            // Whose owners change is told of the whole tree.
            owners: super::owners::Owners::of_process(),
            warnings: Vec::new(),
            longest: self.longest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Builder, Meta, Time};
    use super::*;

    #[test]
    fn a_directory_becomes_a_root_with_all_below_it() {
        let mut builder = Builder::new(Time::default());
        let origin = builder.origin("an entry");
        let meta = |mode| Meta::root(mode, Time::default());
        for (target, content) in
            [("/a", Content::Directory), ("/a/b", Content::Directory), ("/c", Content::Fifo)]
        {
            builder.put(target.as_bytes(), meta(0o750), content, origin).unwrap();
        }
        builder.text(b"/a/b/text", b"hello".as_slice(), meta(0o640), origin).unwrap();
        builder.symlink(b"/a/link", b"b/text", meta(0o777), origin).unwrap();
        let tree = builder.finish(1).unwrap();
        let below = tree.below(tree.find(b"/a").unwrap()).unwrap();
        let paths: Vec<String> = below.ids().map(|id| below.path(id)).collect();
        assert_eq!(paths, ["/", "/b", "/b/text", "/link"]);
        assert_eq!(below.node(NodeId::ROOT).meta.mode, 0o750);
        let text = below.find(b"/b/text").unwrap();
        assert_eq!((below.size(text), below.node(text).meta.mode), (5, 0o640));
        assert_eq!(below.target(below.find(b"/link").unwrap()), b"b/text");
        assert_eq!(below.children(NodeId::ROOT).count(), 2);
    }
}
