//! Tables of records of one size, rendered from any byte on.

use crate::error::{Error, Result};
use crate::units::{u64_of, usize_of};

/// Fills `out`, which begins `skip` bytes into a table of records of `size` bytes. Each record that `out`
/// touches is made by its number and cut to `out`.
pub(crate) fn records<T: AsRef<[u8]>>(
    size: u64,
    skip: u64,
    out: &mut [u8],
    mut record: impl FnMut(u64) -> Result<T>,
) -> Result<()> {
    let mut done = 0;
    while done < out.len() {
        let at = skip + u64_of(done);
        let bytes = record(at / size)?;
        let from = usize_of(at % size);
        let length = (usize_of(size) - from).min(out.len() - done);
        let piece = bytes.as_ref().get(from..from + length);
        let piece = piece.ok_or_else(|| Error::bug("a record is shorter than its size"))?;
        out[done..done + length].copy_from_slice(piece);
        done += length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_a_table_is_that_part_of_the_whole() {
        let entry = |number: u64| Ok((0x0102_0304_0506_0708 * (number + 1)).to_be_bytes());
        let mut whole = [0; 40];
        records(8, 0, &mut whole, entry).unwrap();
        assert_eq!(whole[8..16], entry(1).unwrap());
        for from in 0..40 {
            for to in from..40 {
                let mut part = vec![0; to - from];
                records(8, u64_of(from), &mut part, entry).unwrap();
                assert_eq!(part, whole[from..to]);
            }
        }
    }

    #[test]
    fn a_record_that_cannot_be_made_or_is_too_short_is_an_error() {
        let mut out = [0; 12];
        let made = |number| if number < 2 { Ok([7; 4]) } else { Err(Error::bug("no such record")) };
        assert_eq!(records(4, 1, &mut out, made).unwrap_err().what(), "no such record");
        let error = records(8, 0, &mut out, |_| Ok([7; 4])).unwrap_err();
        assert_eq!(error.what(), "a record is shorter than its size");
    }
}
