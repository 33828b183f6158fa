//! Newtypes for the address spaces of a disk, and the text form of sizes.
//!
//! One type per unit keeps bytes, sectors, blocks and clusters from being mixed by accident. Sums
//! **saturate**. The largest value is beyond every limit of an [`Image`](crate::image::Image) or a format. So
//! a sum that overflows is refused at that limit and never wraps into a small, wrong number.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("diskwright addresses disks larger than memory and is written for 64-bit hosts");

/// A length of something in memory as a `u64`.
#[must_use]
pub const fn u64_of(value: usize) -> u64 {
    #[expect(clippy::as_conversions, reason = "usize has 64 bits, checked above, and From is not const")]
    {
        value as u64
    }
}

/// A `u64` as an index into memory.
#[must_use]
pub const fn usize_of(value: u64) -> usize {
    #[expect(clippy::as_conversions, reason = "usize has 64 bits, checked above")]
    {
        value as usize
    }
}

/// A `u32` as an index into memory.
#[must_use]
pub const fn index(value: u32) -> usize {
    #[expect(clippy::as_conversions, reason = "usize has 64 bits, checked above")]
    {
        value as usize
    }
}

/// A value as the type of its field; `what` is the field, for the error.
///
/// # Errors
/// [`Kind::Bug`](crate::error::Kind::Bug) where it does not fit: the layout was checked before and has no
/// such value.
pub fn narrow<T>(value: impl TryInto<T> + fmt::Display + Copy, what: &str) -> Result<T> {
    value.try_into().map_err(|_| {
        Error::bug(format!("{what} does not fit its field"))
            .expected(format!("a number of {} bits", 8 * size_of::<T>()))
            .found(value)
    })
}

/// The low half of a value that is stored in two fields of 32 bits.
#[must_use]
pub const fn half_lo(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The high half of a value that is stored in two fields of 32 bits.
#[must_use]
pub const fn half_hi(value: u64) -> u32 {
    half_lo(value >> 32)
}

/// The low half of a value that is stored in two fields of 16 bits.
#[must_use]
pub const fn half_lo16(value: u32) -> u16 {
    let [a, b, ..] = value.to_le_bytes();
    u16::from_le_bytes([a, b])
}

/// The high half of a value that is stored in two fields of 16 bits.
#[must_use]
pub const fn half_hi16(value: u32) -> u16 {
    half_lo16(value >> 16)
}

/// A value of up to 48 bits from its halves: the low 32 bits and the high 16.
#[must_use]
pub fn joined16(low: u32, high: u16) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// A value from its halves.
#[must_use]
pub fn joined(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// The low 16 bits of a value, for fields that are stored in two halves.
#[must_use]
pub const fn low16(value: u64) -> u16 {
    #[expect(clippy::as_conversions, reason = "masked to 16 bits")]
    {
        (value & 0xffff) as u16
    }
}

/// The low 8 bits of a value.
#[must_use]
pub const fn low8(value: u64) -> u8 {
    #[expect(clippy::as_conversions, reason = "masked to 8 bits")]
    {
        (value & 0xff) as u8
    }
}

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Nothing, and the first address.
            pub const ZERO: Self = Self(0);
            /// The value at which sums saturate; no format accepts it.
            pub const MAX: Self = Self(u64::MAX);

            /// A count or an address.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// `self - other`, or `None` below zero.
            #[must_use]
            pub const fn checked_sub(self, other: Self) -> Option<Self> {
                match self.0.checked_sub(other.0) {
                    Some(value) => Some(Self(value)),
                    None => None,
                }
            }

            /// `self - other`, zero where that would be negative.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// The smallest multiple of `step` that is not below `self`; saturates. `step` of 0 counts as 1.
            #[must_use]
            pub const fn round_up(self, step: u64) -> Self {
                let step = if step == 0 { 1 } else { step };
                Self(self.0.div_ceil(step).saturating_mul(step))
            }

            /// The largest multiple of `step` that is not above `self`. `step` of 0 counts as 1.
            #[must_use]
            pub const fn round_down(self, step: u64) -> Self {
                let step = if step == 0 { 1 } else { step };
                Self(self.0 / step * step)
            }

            /// Whether this is a multiple of `step`. `step` of 0 counts as 1.
            #[must_use]
            pub const fn is_multiple_of(self, step: u64) -> bool {
                self.round_down(step).0 == self.0
            }
        }

        impl std::ops::Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl std::ops::AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                items.fold(Self::ZERO, |sum, item| sum + item)
            }
        }
    };
}

unit!(
    /// Bytes: a length, or an offset from the start of a disk, a filesystem or a file.
    Bytes
);
unit!(
    /// Logical sectors of a disk, 512 or 4096 bytes: a count, or a logical block address (LBA).
    Sectors
);
unit!(
    /// Blocks of an ext4 filesystem, 4096 bytes: a count, or a block number.
    Blocks
);
unit!(
    /// Clusters of a FAT filesystem or of a container: a count, or a cluster number.
    Clusters
);

/// 1024 bytes.
pub const KIB: u64 = 1 << 10;
/// 1024 KiB.
pub const MIB: u64 = 1 << 20;
/// 1024 MiB.
pub const GIB: u64 = 1 << 30;
/// 1024 GiB.
pub const TIB: u64 = 1 << 40;

/// The units sizes are written in, largest first.
const SUFFIXES: [(&str, u64); 6] =
    [("EiB", 1 << 60), ("PiB", 1 << 50), ("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)];

impl Bytes {
    /// The largest size of a file: offsets of the system are signed 64-bit numbers.
    pub const LIMIT: Self = Self(i64::MAX.unsigned_abs());

    /// How many sectors, blocks or clusters of `size` bytes hold this many bytes, rounded up.
    #[must_use]
    pub const fn div_ceil(self, size: u64) -> u64 {
        self.0.div_ceil(if size == 0 { 1 } else { size })
    }

    /// This many KiB.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count.saturating_mul(KIB))
    }

    /// This many MiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(MIB))
    }

    /// This many GiB.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count.saturating_mul(GIB))
    }

    /// A size as a person would write it, rounded up: whole MiB, below one MiB whole KiB; with the exact
    /// bytes.
    #[must_use]
    pub fn to_write(self) -> String {
        format!("{} ({} bytes)", self.round_up(if self.0 < MIB { KIB } else { MIB }), self.0)
    }

    /// For people who compare: the size as [`Bytes::human`] has it, and the exact bytes where it does not say them.
    #[must_use]
    pub fn in_full(self) -> String {
        let human = self.human();
        if human.contains('.') { format!("{human} ({} bytes)", self.0) } else { human }
    }

    /// What to ask somebody who may have written a number alone, which counts bytes, where so few of them make no sense.
    /// Whole KiB may be meant as they are.
    #[must_use]
    pub fn unit_forgotten(self) -> Option<String> {
        self.number_alone().filter(|_| !self.is_multiple_of(KIB))
    }

    /// What to ask somebody who wrote this number alone: nothing that has partitions or holds files is smaller than
    /// 64 KiB.
    pub(crate) fn number_alone(self) -> Option<String> {
        let few = (1..64 * KIB).contains(&self.0);
        few.then(|| format!("a number alone counts bytes; was {0}MiB or {0}GiB meant?", self.0))
    }

    /// A size for people: the largest unit with one decimal, and the exact bytes if the first is rounded.
    #[must_use]
    pub fn human(self) -> String {
        for (suffix, unit) in SUFFIXES {
            if self.0 >= unit {
                let tenths = u128::from(self.0) * 10 / u128::from(unit);
                let (whole, tenth) = (tenths / 10, tenths % 10);
                return if tenth == 0 && self.0.is_multiple_of(unit) {
                    format!("{whole} {suffix}")
                } else {
                    format!("{whole}.{tenth} {suffix}")
                };
            }
        }
        format!("{} bytes", self.0)
    }
}

impl Sectors {
    /// The bytes of this many sectors of `size` bytes.
    #[must_use]
    pub const fn bytes(self, size: u64) -> Bytes {
        Bytes(self.0.saturating_mul(size))
    }
}

impl Blocks {
    /// The bytes of this many blocks of `size` bytes.
    #[must_use]
    pub const fn bytes(self, size: u64) -> Bytes {
        Bytes(self.0.saturating_mul(size))
    }
}

impl Clusters {
    /// The bytes of this many clusters of `size` bytes.
    #[must_use]
    pub const fn bytes(self, size: u64) -> Bytes {
        Bytes(self.0.saturating_mul(size))
    }
}

impl fmt::Display for Bytes {
    /// The form that parses back to the same size: the largest unit that divides it, else plain bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (suffix, unit) in SUFFIXES {
            if self.0 != 0 && self.0.is_multiple_of(unit) {
                return write!(f, "{}{suffix}", self.0 / unit);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// Why a text is not a size. The message does not repeat the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeError(String);

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SizeError {}

impl FromStr for Bytes {
    type Err = SizeError;

    /// `4096`, `64KiB`, `1.5GiB`: a number and an optional unit of 1024. A decimal part must give whole bytes.
    ///
    /// # Errors
    /// An unknown unit (the error names the one that was probably meant), no number, or more than 8 EiB - 1.
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let bad = || SizeError("a size is a number with an optional unit: 4096, 64KiB, 1.5GiB".to_owned());
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = unit.trim_start();
        let factor = match SUFFIXES.iter().find(|(suffix, _)| *suffix == unit) {
            Some((_, factor)) => *factor,
            None if unit.is_empty() || unit == "B" => 1,
            None if number.is_empty() => return Err(bad()),
            None => return Err(unknown_unit(number, unit)),
        };
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || number.ends_with('.') || decimals.contains('.') || decimals.len() > 18 {
            return Err(bad());
        }
        let too_large = || SizeError("larger than 8 EiB - 1, the largest file there can be".to_owned());
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        // 10^18 fits in 64 bits and the product in 128 bits, so the result is exact.
        let scale = 10_u128.pow(u32::try_from(decimals.len()).unwrap_or(0));
        let part: u128 = if decimals.is_empty() { 0 } else { decimals.parse().map_err(|_| bad())? };
        let scaled = (u128::from(whole) * scale + part) * u128::from(factor);
        if !scaled.is_multiple_of(scale) {
            return Err(SizeError("not a whole number of bytes".to_owned()));
        }
        match u64::try_from(scaled / scale) {
            Ok(bytes) if bytes <= Self::LIMIT.0 => Ok(Self(bytes)),
            _ => Err(too_large()),
        }
    }
}

/// The message for an unknown unit; it names the unit that was probably meant.
fn unknown_unit(number: &str, unit: &str) -> SizeError {
    let letter = unit.chars().next().map(|c| c.to_ascii_uppercase());
    let hint = SUFFIXES
        .iter()
        .find(|(suffix, _)| suffix.chars().next() == letter)
        .map_or(String::new(), |(suffix, _)| format!("; write {number}{suffix}"));
    SizeError(format!("unknown unit `{unit}`: sizes count in 1024s as KiB, MiB, GiB, TiB, PiB, EiB{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_and_print() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 64 * KIB),
            ("1.5GiB", 3 * GIB / 2),
            ("10 GiB", 10 * GIB),
            ("7B", 7),
            ("0.5KiB", 512),
            ("7.999999999999999999EiB", 0),
        ] {
            let parsed: Result<Bytes, _> = text.parse();
            match parsed {
                Ok(size) => assert_eq!(size.get(), bytes, "{text}"),
                Err(e) => assert!(e.to_string().contains("whole number"), "{text}: {e}"),
            }
        }
        assert_eq!(Bytes::new(64 * KIB).to_string(), "64KiB");
        assert_eq!(Bytes::new(1025).to_string(), "1025");
        assert_eq!(Bytes::new(0).to_string(), "0");
        assert_eq!(Bytes::new(GIB + GIB / 2).human(), "1.5 GiB");
        assert_eq!(Bytes::new(GIB).human(), "1 GiB");
        for (bytes, text) in
            [(0, "0 bytes"), (600, "600 bytes"), (GIB, "1 GiB"), (MIB + 1, "1.0 MiB (1048577 bytes)")]
        {
            assert_eq!(Bytes::new(bytes).in_full(), text);
        }
        for (bytes, asked) in
            [(0, false), (1, true), (256, true), (4096, false), (65_535, true), (65_537, false)]
        {
            assert_eq!(Bytes::new(bytes).unit_forgotten().is_some(), asked, "{bytes}");
        }
        let question = Bytes::new(256).unit_forgotten().unwrap();
        assert!(question.ends_with("was 256MiB or 256GiB meant?"), "{question}");
    }

    #[test]
    fn a_bare_m_is_refused_with_the_unit_that_was_meant() {
        let error = "64M".parse::<Bytes>().unwrap_err().to_string();
        assert!(error.contains("64MiB"), "{error}");
        for bad in ["", "KiB", "1..5KiB", "-1", "1e3", "8EiB", "99999999999999999999", "1.KiB", ".5KiB"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_field_takes_what_fits_and_refuses_the_rest() {
        assert_eq!(narrow::<u16>(65_535_u64, "s_block_group_nr").unwrap(), 65_535);
        assert_eq!(narrow::<u8>(7_usize, "name_len").unwrap(), 7);
        let error = narrow::<u16>(65_536_u64, "s_block_group_nr").unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Bug);
        let text = error.to_string();
        assert!(text.starts_with("s_block_group_nr does not fit its field\n"), "{text}");
        assert!(text.contains("expected: a number of 16 bits\n  found: 65536"), "{text}");
        assert!(narrow::<u32>(-1_i64, "seconds").is_err());
    }

    #[test]
    fn halves_join_to_the_whole() {
        let value = 0x0123_4567_89ab_cdef;
        assert_eq!((half_lo(value), half_hi(value)), (0x89ab_cdef, 0x0123_4567));
        assert_eq!((half_lo16(0x89ab_cdef), half_hi16(0x89ab_cdef)), (0xcdef, 0x89ab));
        assert_eq!(joined(half_lo(value), half_hi(value)), value);
        assert_eq!(joined16(0x89ab_cdef, 0x4567), 0x4567_89ab_cdef);
    }

    #[test]
    fn sums_saturate_and_round() {
        assert_eq!(Bytes::MAX + Bytes::new(1), Bytes::MAX);
        assert_eq!(Sectors::new(u64::MAX).bytes(512), Bytes::MAX);
        assert_eq!(Bytes::new(4097).round_up(4096), Bytes::new(8192));
        assert_eq!(Bytes::new(4097).round_down(4096), Bytes::new(4096));
        assert_eq!(Bytes::new(1).checked_sub(Bytes::new(2)), None);
    }
}
