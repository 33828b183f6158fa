//! The name hash of directory indexes: half MD4, with names read as signed bytes (linux/fs/ext4/hash.c;
//! kernel.org, ext4, "Hash Tree Directories").
//!
//! ext4 leaves it to the host's `char` whether a byte above 0x7f counts as negative, and records the choice
//! in `s_flags`. An image must not depend on the host that made it, so bytes are always signed here, as on
//! x86-64.

/// Hash and minor hash of a name. The lowest bit of the hash is 0: the index uses it as its continuation flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameHash {
    pub(super) major: u32,
    pub(super) minor: u32,
}

/// The initial state of MD4 (RFC 1320, 3.3), used if the seed is all zero.
const MD4_START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// The additive constants of rounds 2 and 3 (RFC 1320, 3.4).
const ROUND_2: u32 = 0x5a82_7999;
const ROUND_3: u32 = 0x6ed9_eba1;
/// The hash that readdir would take for "end of directory"; the kernel replaces it by the one below.
const END_OF_DIRECTORY: u32 = 0x7fff_ffff << 1;

/// Hashes `name` with the 16 bytes of `s_hash_seed`.
pub(super) fn half_md4(name: &[u8], seed: &[u8; 16]) -> NameHash {
    let mut state = MD4_START;
    if seed.iter().any(|byte| *byte != 0) {
        for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(4)) {
            *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
    }
    // An empty name hashes nothing, because the kernel's loop runs only while bytes are left.
    let mut rest = name;
    while !rest.is_empty() {
        transform(&mut state, &words(rest));
        rest = rest.get(32..).unwrap_or(&[]);
    }
    let major = state[1] & !1;
    NameHash { major: if major == END_OF_DIRECTORY { END_OF_DIRECTORY - 2 } else { major }, minor: state[2] }
}

/// The next 32 bytes of a name as 8 words; missing bytes are filled with the length of the rest.
fn words(rest: &[u8]) -> [u32; 8] {
    let length = u32::from(u8::try_from(rest.len()).unwrap_or(u8::MAX));
    let pad = length | length << 8 | length << 16 | length << 24;
    let mut words = [pad; 8];
    for (word, bytes) in words.iter_mut().zip(rest.chunks(4)) {
        *word = bytes.iter().fold(pad, |word, byte| {
            let signed = i32::from(byte.cast_signed());
            (word << 8).wrapping_add(signed.cast_unsigned())
        });
    }
    words
}

/// MD4 reduced to 8 words and 24 steps.
fn transform(state: &mut [u32; 4], input: &[u32; 8]) {
    let choose = |x: u32, y: u32, z: u32| z ^ (x & (y ^ z));
    let majority = |x: u32, y: u32, z: u32| (x & y).wrapping_add((x ^ y) & z);
    let parity = |x: u32, y: u32, z: u32| x ^ y ^ z;
    let [mut a, mut b, mut c, mut d] = *state;
    let mut round = |mix: &dyn Fn(u32, u32, u32) -> u32, order: [usize; 8], add: u32, shifts: [u32; 4]| {
        for (step, word) in order.into_iter().enumerate() {
            let sum = a.wrapping_add(mix(b, c, d)).wrapping_add(input[word]).wrapping_add(add);
            // The roles of the four words rotate with each step.
            (a, d, c, b) = (d, c, b, sum.rotate_left(shifts[step % 4]));
        }
    };
    round(&choose, [0, 1, 2, 3, 4, 5, 6, 7], 0, [3, 7, 11, 19]);
    round(&majority, [1, 3, 5, 7, 0, 2, 4, 6], ROUND_2, [3, 5, 9, 13]);
    round(&parity, [3, 7, 2, 6, 1, 5, 0, 4], ROUND_3, [3, 9, 11, 15]);
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors from `debugfs -R "dx_hash -h half_md4 -s 01234567-89ab-cdef-0123-456789abcdef NAME"` of e2fsprogs
    /// 1.47.0; the last two hold bytes above 0x7f and were made on x86-64, where `char` is signed.
    #[test]
    fn hashes_agree_with_debugfs() {
        let seed =
            [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        for (name, major, minor) in VECTORS {
            assert_eq!(half_md4(name, &seed), NameHash { major: *major, minor: *minor }, "{name:?}");
        }
    }

    const VECTORS: &[(&[u8], u32, u32)] = &[
        (b"a", 0x35dc_0cc4, 0x3f1d_acef),
        (b"abc", 0xa68e_7118, 0x02bd_12cf),
        (b"hello.txt", 0x42a8_5304, 0xcb5c_9f78),
        // Exactly one round of 32 bytes, and one byte more.
        (b"0123456789abcdef0123456789abcdef", 0x992c_74da, 0xb847_327d),
        (b"x0123456789abcdef0123456789abcdef", 0x501e_34d8, 0x6c63_d50e),
        (b"qm6yz3bvxkl0c2d4f5g6h7i8j9kapmns-glibc-locales-2.38-66", 0x75dd_c2c4, 0x4a38_92df),
        (b"gr\xc3\xbcn", 0x31cb_1010, 0x236c_ad79),
        (b"\xff\xfe", 0xec74_94b0, 0x38d6_a96f),
    ];
}
