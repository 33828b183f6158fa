//! Tables of numbers of one width, rendered from any byte on.

use crate::units::{u64_of, usize_of};

/// Fills `out`, which begins `skip` bytes into a table, with the bytes of its entries.
pub(super) fn each_entry<const WIDTH: usize>(skip: u64, out: &mut [u8], entry: impl Fn(u64) -> [u8; WIDTH]) {
    let width = u64_of(WIDTH);
    let mut done = 0;
    while done < out.len() {
        let at = skip + u64_of(done);
        let bytes = entry(at / width);
        let from = usize_of(at % width);
        let length = (WIDTH - from).min(out.len() - done);
        out[done..done + length].copy_from_slice(&bytes[from..from + length]);
        done += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_a_table_is_that_part_of_the_whole() {
        let entry = |number: u64| (0x0102_0304_0506_0708 * (number + 1)).to_be_bytes();
        let mut whole = [0; 40];
        each_entry(0, &mut whole, entry);
        assert_eq!(whole[8..16], entry(1));
        for from in 0..40 {
            for to in from..40 {
                let mut part = vec![0; to - from];
                each_entry(u64_of(from), &mut part, entry);
                assert_eq!(part, whole[from..to]);
            }
        }
    }
}
