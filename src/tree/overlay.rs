//! What happens where two entries meet in a [`Builder`]: directories become one, files are a conflict or take each other's
//! place.

use super::build::{Builder, Cause, Origin, parts};
use super::{Content, Meta, Xattr};
use crate::error::{Error, Kind, Result, Warning};
use crate::text::printable;
use crate::units::index;

impl Builder {
    /// Puts one file in place of another. The other names and the holes of the old file do not pass to it.
    pub(super) fn supplant(&mut self, there: u32, meta: Meta, content: Content, origin: Origin, rank: u16) {
        self.ranges.remove(&there);
        self.groups.iter_mut().for_each(|group| group.retain(|id| *id != there));
        self.dedupe.retain(|id| *id != there);
        let draft = &mut self.drafts[index(there)];
        (draft.node.meta, draft.node.content) = (meta, content);
        (draft.origin, draft.rank) = (origin.0, rank);
    }

    /// Adds extended attributes to what is at `target`.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where nothing is there.
    pub fn attach(&mut self, target: &[u8], xattrs: &[Xattr]) -> Result<()> {
        let mut at = 0;
        for part in parts(target)? {
            let position = self.find(at, part).map_err(|_| {
                Error::new(Kind::Manifest, "there is nothing that could have these attributes")
                    .at(printable(target))
            })?;
            at = self.children_of(at)[position];
        }
        let number = self.drafts[index(at)].node.meta.xattrs;
        let mut all = self.xattrs.get(index(number)).cloned().unwrap_or_default();
        all.retain(|own| xattrs.iter().all(|new| new.name != own.name));
        all.extend_from_slice(xattrs);
        all.sort();
        self.drafts[index(at)].node.meta.xattrs = self.xattr_set(&all);
        Ok(())
    }

    /// Two entries say what a directory is like: the more specific one decides; where they are merged, the first one.
    pub(super) fn claim(
        &mut self,
        directory: u32,
        meta: Meta,
        origin: Origin,
        rank: u16,
        merge: bool,
    ) -> Result<()> {
        let draft = &mut self.drafts[index(directory)];
        if merge && draft.rank > 0 {
            return Ok(());
        }
        let other = draft.rank == rank && rank > 0 && draft.origin != origin.0;
        if other && !self.replacing {
            return Err(self.conflict(directory, origin));
        }
        if rank > draft.rank || other {
            draft.node.meta = meta;
            draft.rank = rank;
            draft.origin = origin.0;
        }
        self.replaced |= other;
        Ok(())
    }

    pub(super) fn conflict(&self, there: u32, origin: Origin) -> Error {
        let path = self.path_of(there);
        let draft = &self.drafts[index(there)];
        let error = Error::new(Kind::Manifest, format!("two entries for one target: {path}"))
            .hint("leave one of them out, or give it another target");
        let error = match draft.rank {
            0 => error.why("the target of one of them needs a directory there"),
            _ => error,
        };
        self.blame(error, origin.0, draft.origin)
    }

    /// The path of a draft, for people.
    pub(super) fn path_of(&self, id: u32) -> String {
        let mut path = Vec::new();
        let mut at = id;
        while at != 0 {
            let mut part = b"/".to_vec();
            part.extend_from_slice(self.name(at));
            path.splice(0..0, part);
            at = self.drafts[index(at)].node.parent;
        }
        if path.is_empty() { "/".to_owned() } else { printable(&path) }
    }

    /// Tells which links directories took the place of: what they led to is no longer found there, as in a system whose /bin
    /// was a link to usr/bin.
    pub(super) fn warn_of_covered(&mut self) {
        const SHOWN: usize = 4;
        let covered = std::mem::take(&mut self.covered);
        let more = match covered.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let shown = covered.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        self.warn(Warning(format!(
            "directories take the place of symbolic links, and hide what those led to: {shown}{more}; a target behind the link \
             keeps it"
        )));
    }

    /// Adds to an error about two causes what they are: entries as subjects, the later one first, others by name.
    pub(super) fn blame(&self, error: Error, late: u32, early: u32) -> Error {
        let causes = [late, early].map(|origin| self.origins.get(index(origin)));
        causes.into_iter().flatten().fold(error, |error, cause| match cause {
            Cause::Entry(subject) => error.on(*subject),
            Cause::Named(name) => error.at(name),
        })
    }

    /// The number of a set of attributes.
    pub fn xattr_set(&mut self, xattrs: &[Xattr]) -> u32 {
        if let Some(number) = self.xattr_numbers.get(xattrs) {
            return *number;
        }
        // There are fewer sets than inodes; a number past them all is refused where it is looked up.
        let number = u32::try_from(self.xattrs.len()).unwrap_or(u32::MAX);
        self.xattrs.push(xattrs.to_vec());
        self.xattr_numbers.insert(xattrs.to_vec(), number);
        number
    }
}
