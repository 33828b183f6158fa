//! What compresses: an estimate from samples that lie at equal distances in the data of all files.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::inventory::{Contents, tolerate};
use super::{LISTED, sum};
use crate::error::Result;
use crate::look::copy::Reader;
use crate::text::shortened;
use crate::units::{KIB, u64_of, usize_of};

/// How many samples are taken, and the bytes of each.
const SAMPLES: u64 = 768;
const SAMPLE: u64 = 64 * KIB;
/// Suffixes that are longer are no types of files.
const LONGEST_SUFFIX: usize = 12;

/// What compresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compression {
    /// How the samples were compressed.
    pub method: &'static str,
    /// How many samples there were.
    pub samples: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// What these would be.
    pub compressed: u64,
    /// The same by type of file, those with most bytes first.
    pub suffixes: Vec<Suffix>,
}

/// Files whose names end in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suffix {
    /// The suffix with its dot; empty for names without one.
    pub suffix: String,
    /// Bytes of the files, by the samples.
    pub bytes: u64,
    /// What these would be.
    pub compressed: u64,
    /// How many samples say so.
    pub samples: u64,
}

/// A sample of a file.
struct Sample {
    file: usize,
    from: u64,
    to: u64,
    /// How many bytes it stands for.
    weight: u64,
}

/// Compresses samples of the data of all files.
pub(super) fn estimate(contents: &Contents<'_>, remarks: &mut Vec<String>) -> Result<Compression> {
    let samples = samples(contents);
    let compressed: Vec<Result<(u64, u64)>> = samples
        .par_iter()
        .map_init(Reader::default, |reader, sample| {
            let mut bytes = vec![0; usize_of(sample.to - sample.from)];
            contents.pieces(sample.file, (sample.from, sample.to), reader, &mut |at, piece| {
                let from = usize_of(at - sample.from);
                bytes[from..from + piece.len()].copy_from_slice(piece);
                Ok(())
            })?;
            Ok((u64_of(bytes.len()), length(&bytes)))
        })
        .collect();
    let mut all = Compression { method: METHOD, ..Compression::default() };
    let mut of: BTreeMap<String, Suffix> = BTreeMap::new();
    for (sample, compressed) in samples.iter().zip(compressed) {
        let (length, compressed) = match compressed {
            Ok(lengths) => lengths,
            Err(error) => {
                tolerate(Err(error), "samples", remarks)?;
                continue;
            }
        };
        let share = u128::from(sample.weight) * u128::from(compressed) / u128::from(length.max(1));
        let share = u64::try_from(share).unwrap_or(sample.weight).min(sample.weight);
        let suffix = suffix(&contents.inventory.entries[sample.file].name);
        let empty = || Suffix { suffix: suffix.clone(), bytes: 0, compressed: 0, samples: 0 };
        let own = of.entry(suffix.clone()).or_insert_with(empty);
        own.bytes = own.bytes.saturating_add(sample.weight);
        own.compressed = own.compressed.saturating_add(share);
        own.samples += 1;
        all.bytes = all.bytes.saturating_add(sample.weight);
        all.compressed = all.compressed.saturating_add(share);
        all.samples += 1;
    }
    all.suffixes = of.into_values().collect();
    all.suffixes
        .sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.suffix.cmp(&other.suffix)));
    all.suffixes.truncate(LISTED / 2);
    Ok(all)
}

/// Samples at equal distances of the data of all files, one behind the other. If there are not many bytes, they are all of
/// them.
fn samples(contents: &Contents<'_>) -> Vec<Sample> {
    let inventory = contents.inventory;
    // A file that is longer than what it occupies has holes, or is compressed already: it counts as what it occupies.
    let length = |file: usize| inventory.entries[file].size.min(inventory.entries[file].own);
    let all = sum(inventory.files().map(length));
    let step = (all / SAMPLES).max(SAMPLE);
    let (mut found, mut next, mut at) = (Vec::new(), (step / 2).min(all / 2), 0_u64);
    for file in inventory.files() {
        let end = at.saturating_add(length(file));
        while next < end && u64_of(found.len()) <= SAMPLES {
            let size = inventory.entries[file].size;
            let from = (next - at) / SAMPLE * SAMPLE;
            found.push(Sample { file, from, to: (from + SAMPLE).min(size), weight: step });
            next = next.saturating_add(step);
        }
        at = end;
    }
    // The last sample stands for what is left.
    let told = u64_of(found.len()).saturating_mul(step);
    if let Some(last) = found.last_mut() {
        last.weight = last.weight.saturating_add(all).saturating_sub(told).max(1);
    }
    found
}

/// The suffix of a name, in small letters.
fn suffix(name: &[u8]) -> String {
    let Some(dot) = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0) else {
        return String::new();
    };
    let suffix = &name[dot..];
    let plain = suffix.len() <= LONGEST_SUFFIX && suffix[1..].iter().any(u8::is_ascii_alphabetic);
    if plain { shortened(&suffix.to_ascii_lowercase(), LONGEST_SUFFIX) } else { String::new() }
}

#[cfg(feature = "zstd")]
const METHOD: &str = "zstd at level 3, blocks of 64 KiB";
#[cfg(not(feature = "zstd"))]
const METHOD: &str = "lz4, blocks of 64 KiB";

/// The length of bytes that are compressed.
#[cfg(feature = "zstd")]
fn length(bytes: &[u8]) -> u64 {
    zstd::bulk::compress(bytes, 3).map_or(u64_of(bytes.len()), |out| u64_of(out.len()))
}

/// The length of bytes that are compressed.
#[cfg(not(feature = "zstd"))]
fn length(bytes: &[u8]) -> u64 {
    u64_of(lz4_flex::block::compress(bytes).len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_types_of_files() {
        for (name, expected) in [
            ("a.TXT", ".txt"),
            ("a.tar.gz", ".gz"),
            ("libc.so.6", ""),
            (".bashrc", ""),
            ("README", ""),
            ("a.averyveryverylongone", ""),
            ("a.", ""),
        ] {
            assert_eq!(suffix(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn zeros_compress_and_noise_does_not() {
        assert!(length(&[0; 4096]) < 400);
        let noise: Vec<u8> = (0..512_u64).flat_map(|at| Sha(at).bytes()).collect();
        assert!(length(&noise) * 10 > u64_of(noise.len()) * 9);
    }

    struct Sha(u64);

    impl Sha {
        fn bytes(&self) -> Vec<u8> {
            use sha2::Digest;
            sha2::Sha256::digest(self.0.to_le_bytes()).to_vec()
        }
    }
}
