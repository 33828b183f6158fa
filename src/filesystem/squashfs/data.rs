//! What is stored of regular files: blocks, the tails of small files together in fragments, and holes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::codec::data_length;
use crate::error::{Error, Kind, Result};
use crate::image::{self, Files, Image};
use crate::option::option;
use crate::tree::{Content, NodeId, Tree};
use crate::units::{Bytes, narrow, u64_of, usize_of};

/// Blocks that all files have together at most: the lists of their lengths take 4 bytes for each.
const MOST_BLOCKS: u64 = 1 << 28;

/// A regular file as it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input {
    pub(super) node: NodeId,
    /// Where its bytes begin in [`Inputs::image`].
    pub(super) offset: u64,
    pub(super) size: u64,
    /// Whether another file has this length, and may be the same.
    pub(super) may_repeat: bool,
}

/// All regular files, in the order of the tree.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) files: Vec<Input>,
    /// Their bytes, behind each other.
    pub(super) image: Image,
}

impl Inputs {
    /// # Errors
    /// [`Kind::Capacity`] for files that are too large for blocks of `chunk` bytes.
    pub(super) fn new(tree: &Arc<Tree>, chunk: u64) -> Result<Self> {
        let nodes: Vec<NodeId> = tree.ids().filter(|node| is_file(tree, *node)).collect();
        check_sizes(tree, &nodes, chunk)?;
        let mut lengths: Vec<u64> = nodes.iter().map(|node| tree.size(*node)).collect();
        lengths.sort_unstable();
        let repeated: BTreeSet<u64> =
            lengths.windows(2).filter(|pair| pair[0] == pair[1] && pair[0] > 0).map(|pair| pair[0]).collect();
        let total = lengths.iter().map(|length| Bytes::new(*length)).sum();
        let mut image = image::Builder::new(total);
        image.reserve(nodes.len());
        let table: Arc<dyn Files> = Arc::<Tree>::clone(tree);
        let table = image.files(table);
        let (mut files, mut offset) = (Vec::with_capacity(nodes.len()), 0);
        for node in nodes {
            let size = tree.size(node);
            tree.data(node, table)?.put(&mut image, Bytes::new(offset), Bytes::new(size), 0)?;
            files.push(Input { node, offset, size, may_repeat: repeated.contains(&size) });
            offset += size;
        }
        Ok(Self { files, image: image.finish()? })
    }

    /// How many bytes from byte `from` of a file on are not stored: they read as zero.
    pub(super) fn hole(&self, file: &Input, from: u64) -> u64 {
        let (start, end) = (Bytes::new(file.offset + from), Bytes::new(file.offset + file.size));
        let data = self.image.clipped(start, end).next().map_or(end, |segment| segment.offset);
        data.get().saturating_sub(start.get())
    }

    /// A file by its number.
    pub(super) fn file(&self, number: usize) -> Result<&Input> {
        self.files.get(number).ok_or_else(|| Error::bug("a piece is of no file"))
    }
}

/// Whether a node is a regular file and the first name of it.
fn is_file(tree: &Tree, node: NodeId) -> bool {
    matches!(tree.node(node).content, Content::File { .. } | Content::Text { .. } | Content::Slice { .. })
}

fn check_sizes(tree: &Tree, nodes: &[NodeId], chunk: u64) -> Result<()> {
    let mut blocks = 0_u64;
    for node in nodes {
        blocks = blocks.saturating_add(tree.size(*node) / chunk);
        if blocks > MOST_BLOCKS {
            return Err(Error::new(Kind::Capacity, "the files are too large for the lists of their blocks")
                .at(tree.path(*node))
                .expected(format!(
                    "at most {} in all, in blocks of {}",
                    Bytes::new(MOST_BLOCKS * chunk).human(),
                    Bytes::new(chunk).human()
                ))
                .found(format!("{} and more", Bytes::new(blocks.saturating_mul(chunk)).human()))
                .hint(format!("larger blocks ({}) make shorter lists", option("chunk"))));
        }
    }
    Ok(())
}

/// Lengths of blocks as their fields have them. No block has the length 0: that is a run of holes, and the number of them
/// follows. So holes take no memory for each of their blocks.
#[derive(Debug, Default)]
pub(super) struct Lengths(Vec<u32>);

impl Lengths {
    /// How many words there are.
    pub(super) const fn words(&self) -> usize {
        self.0.len()
    }

    /// Appends a block.
    pub(super) fn block(&mut self, length: u32) {
        self.0.push(length);
    }

    /// Appends holes to a list that begins with word `first`.
    pub(super) fn holes(&mut self, first: usize, count: u64) -> Result<()> {
        let mut count = narrow(count, "a number of holes")?;
        match self.0.get_mut(first..) {
            Some([.., 0, last]) => {
                count = last.checked_add(count).ok_or_else(|| Error::bug("a file has over 2^32 holes"))?;
                *last = count;
            }
            _ if count == 0 => {}
            _ => self.0.extend([0, count]),
        }
        Ok(())
    }

    /// Appends the list `words` to one that begins with word `first`.
    pub(super) fn append(&mut self, first: usize, words: &[u32]) -> Result<()> {
        match words {
            [0, holes, rest @ ..] => {
                self.holes(first, u64::from(*holes))?;
                self.0.extend_from_slice(rest);
            }
            words => self.0.extend_from_slice(words),
        }
        Ok(())
    }

    /// The words from `first` on.
    pub(super) fn from(&self, first: usize) -> &[u32] {
        self.0.get(first..).unwrap_or_default()
    }

    /// Forgets the words from `first` on.
    pub(super) fn truncate(&mut self, first: usize) {
        self.0.truncate(first);
    }
}

/// What is stored of a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) node: NodeId,
    /// Where its first block is, from the start of the data.
    pub(super) start: u64,
    /// Which words of the lengths are those of its blocks.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Bytes of it that are not stored, but never all: the kernel counts blocks by the difference.
    pub(super) sparse: u64,
    /// Which fragment its tail is in, and where.
    pub(super) fragment: Option<(u32, u32)>,
}

/// A block of tails: where it is from the start of the data, and its length as the field has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredFragment {
    pub(super) start: u64,
    pub(super) size: u32,
}

/// What is stored of all regular files.
#[derive(Debug)]
pub(super) struct Data {
    /// In the order of the tree.
    pub(super) files: Vec<Stored>,
    pub(super) lengths: Lengths,
    pub(super) fragments: Vec<StoredFragment>,
    /// Where the bytes come from.
    pub(super) image: Image,
    /// Which bytes of that stand behind each other: start and length.
    pub(super) runs: Vec<(u64, u64)>,
    /// How many bytes they are.
    pub(super) length: u64,
}

impl Data {
    /// The lengths of a file's blocks, as [`Lengths`] has them.
    pub(super) fn list(&self, file: &Stored) -> Result<&[u32]> {
        let list = self.lengths.0.get(file.first..file.first.saturating_add(file.count));
        list.ok_or_else(|| Error::bug("a file has blocks without lengths"))
    }

    /// Puts the data at byte `start` of `image`.
    pub(super) fn put(&self, image: &mut image::Builder, start: u64) {
        let mut at = Bytes::new(start);
        image.reserve(self.runs.len());
        for (from, length) in &self.runs {
            let (from, length) = (Bytes::new(*from), Bytes::new(*length));
            image.put(at, &self.image.slice(from, from + length));
            at += length;
        }
    }
}

/// The bytes of a file in holes as its inode has them.
pub(super) const fn sparse(holes: u64, size: u64) -> u64 {
    let most = size.saturating_sub(1);
    if holes < most { holes } else { most }
}

/// Stores files as they are: a sum over their lengths, without reading one. What two files have in common is not known
/// then.
pub(super) fn uncompressed(inputs: Inputs, chunk: u64) -> Result<Data> {
    let mut plain = Plain { chunk, ..Plain::default() };
    for file in &inputs.files {
        plain.file(&inputs, file)?;
    }
    plain.end()?;
    let Plain { files, lengths, mut runs, tails, fragments, length, .. } = plain;
    runs.extend(tails);
    let (mut start, mut placed) = (length, Vec::with_capacity(fragments.len()));
    for size in fragments {
        placed.push(StoredFragment { start, size: data_length(usize_of(size), true)? });
        start += size;
    }
    Ok(Data { files, lengths, fragments: placed, image: inputs.image, runs, length: start })
}

/// The sums of [`uncompressed`].
#[derive(Debug, Default)]
struct Plain {
    chunk: u64,
    files: Vec<Stored>,
    lengths: Lengths,
    runs: Vec<(u64, u64)>,
    /// Where the tails are read from, which stand behind all blocks.
    tails: Vec<(u64, u64)>,
    /// Lengths of the fragments that are full.
    fragments: Vec<u64>,
    /// Bytes of the fragment in hand.
    tail: u64,
    length: u64,
}

impl Plain {
    fn file(&mut self, inputs: &Inputs, file: &Input) -> Result<()> {
        let Input { node, size, offset, .. } = *file;
        let first = self.lengths.words();
        let mut stored = Stored { node, start: self.length, first, count: 0, sparse: 0, fragment: None };
        if size > 0 && size < self.chunk {
            if self.tail + size > self.chunk {
                self.end()?;
            }
            let number = narrow(self.fragments.len(), "the number of a fragment")?;
            stored.fragment = Some((number, narrow(self.tail, "a place in a fragment")?));
            self.tails.push((offset, size));
            self.tail += size;
        } else {
            self.blocks(inputs, file, &mut stored)?;
        }
        stored.count = self.lengths.words() - first;
        self.files.push(stored);
        Ok(())
    }

    fn blocks(&mut self, inputs: &Inputs, file: &Input, stored: &mut Stored) -> Result<()> {
        let (mut from, mut holes) = (0, 0);
        while from < file.size {
            let (mut length, hole) = (self.chunk.min(file.size - from), inputs.hole(file, from));
            if hole >= length {
                // Only the last block of a file may be short.
                length = if from + hole == file.size { hole } else { hole / self.chunk * self.chunk };
                self.lengths.holes(stored.first, length.div_ceil(self.chunk))?;
                holes += length;
            } else {
                self.lengths.block(data_length(usize_of(length), true)?);
                self.run(file.offset + from, length);
            }
            from += length;
        }
        stored.sparse = sparse(holes, file.size);
        Ok(())
    }

    /// Appends bytes of the input.
    fn run(&mut self, from: u64, length: u64) {
        match self.runs.last_mut() {
            Some((start, count)) if *start + *count == from => *count += length,
            _ => self.runs.push((from, length)),
        }
        self.length += length;
    }

    /// Ends the fragment in hand.
    fn end(&mut self) -> Result<()> {
        if self.tail > 0 {
            self.fragments.push(self.tail);
            self.tail = 0;
        }
        if u64_of(self.fragments.len()) < u64::from(u32::MAX) {
            return Ok(());
        }
        Err(Error::new(Kind::Capacity, "there are too many small files")
            .expected("fewer than 2^32 - 1 fragments"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Builder, Meta, Time};
    use std::path::Path;

    fn tree(sizes: &[u64]) -> Arc<Tree> {
        let mut builder = Builder::new(Time::default());
        let origin = builder.origin("the test");
        let meta = Meta::root(0o644, Time::default());
        for (number, size) in sizes.iter().enumerate() {
            let target = format!("/{number:03}");
            builder.file(target.as_bytes(), Path::new("/nowhere"), (*size, 0), meta, origin).unwrap();
        }
        Arc::new(builder.finish(1).unwrap())
    }

    #[test]
    fn files_are_blocks_and_small_ones_share_fragments() {
        let tree = tree(&[0, 10, 8192, 4090, 9000, 6, 4096]);
        let inputs = Inputs::new(&tree, 4096).unwrap();
        assert!(inputs.files.iter().all(|file| !file.may_repeat));
        let data = uncompressed(inputs, 4096).unwrap();
        let shown: Vec<_> = data
            .files
            .iter()
            .map(|file| (file.start, data.list(file).unwrap().len(), file.fragment))
            .collect();
        let expected = [
            (0, 0, None),
            (0, 0, Some((0, 0))),
            (0, 2, None),
            (8192, 0, Some((1, 0))),
            (8192, 3, None),
            (17_192, 0, Some((1, 4090))),
            (17_192, 1, None),
        ];
        assert_eq!(shown, expected);
        assert_eq!(data.lengths.0, [4096, 4096, 4096, 4096, 808, 4096].map(|length| length | 1 << 24));
        let fragments = [(21_288, 10), (21_298, 4096)];
        let fragments = fragments.map(|(start, size)| StoredFragment { start, size: size | 1 << 24 });
        assert_eq!(data.fragments, fragments);
        assert_eq!(data.length, 21_298 + 4096);
    }

    #[test]
    fn holes_are_counted_and_not_listed() {
        let mut lengths = Lengths::default();
        lengths.block(7);
        // The number of holes of one list is that of no other.
        lengths.holes(1, 3).unwrap();
        lengths.holes(3, 2).unwrap();
        lengths.holes(3, 1 << 27).unwrap();
        lengths.append(3, &[0, 1, 9]).unwrap();
        lengths.append(3, &[8, 0, 4]).unwrap();
        lengths.holes(3, 0).unwrap();
        assert_eq!(lengths.0, [7, 0, 3, 0, 3 + (1 << 27), 9, 8, 0, 4]);
        assert_eq!((lengths.words(), lengths.from(7)), (9, &[0, 4][..]));
        lengths.truncate(3);
        assert_eq!(lengths.0, [7, 0, 3]);
    }

    #[test]
    fn lengths_that_two_files_have_may_repeat() {
        let inputs = Inputs::new(&tree(&[0, 0, 10, 11, 10]), 4096).unwrap();
        let repeat: Vec<bool> = inputs.files.iter().map(|file| file.may_repeat).collect();
        assert_eq!(repeat, [false, false, true, false, true]);
    }

    #[test]
    fn files_that_are_too_large_are_refused_before_any_work() {
        for sizes in [&[i64::MAX.unsigned_abs()][..], &[1 << 40, 1 << 40], &[(1 << 40) + 4096]] {
            let error = Inputs::new(&tree(sizes), 4096).unwrap_err();
            assert_eq!(error.kind(), Kind::Capacity);
            assert!(error.to_string().contains("at most 1 TiB in all, in blocks of 4 KiB"), "{error}");
        }
        Inputs::new(&tree(&[1 << 40]), 4096).unwrap();
    }
}
