//! One declaration of an on-disk structure that writes it, reads it and lists its fields.
//!
//! `wire!` takes what a specification says about a structure: its length, its byte order, and the offset,
//! name and type of each field. Everything else follows from that declaration. So a reader cannot disagree
//! with a writer, and the tables of docs/formats are tested against it.
//!
//! ```text
//! wire! {
//!     /// The superblock (kernel.org, ext4, "Super Block").
//!     pub(super) struct Superblock: "ext4 superblock", little, 1024 {
//!         0x00 s_inodes_count: u32,
//!         0x38 s_magic: u16 = 0xef53,
//!         0x68 s_uuid: Uuid,
//!     }
//! }
//!
//! let bytes = Superblock { s_inodes_count: 12, ..Superblock::BLANK }.bytes();
//! let superblock = Superblock::read(&bytes)?;
//! ```
//!
//! - A field is a number (`u8` to `u64`, `i32`, `i64`), a `Uuid` (16 bytes in their order), a `Guid` (its first three
//!   numbers little-endian, as in a GPT), another structure, or an array of any of these. A nested structure keeps its
//!   own byte order.
//! - `= value` fixes a field: `Wire::BLANK` has the value, and reading refuses any other.
//! - A name may be followed by its spelling in the specification, if that is not a Rust name: `my_lba "MyLBA": u64`.
//! - Fields are declared in ascending order. A field that overlaps another or the end of the structure does not compile.
//! - Bytes that belong to no field are written as zero, and reading ignores them.

#[cfg(test)]
mod tests;
mod value;

use crate::error::{Error, Kind, Result};

pub(crate) use value::{Guid, Value};

/// Byte order of the numbers of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The least significant byte comes first.
    Little,
    /// The most significant byte comes first.
    Big,
}

/// One field of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its first byte, from the start of the structure.
    pub offset: usize,
    /// Its length in bytes.
    pub length: usize,
    /// Its name in the specification.
    pub name: &'static str,
}

/// An on-disk structure as it is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Its name with its format: `ext4 superblock`.
    pub title: &'static str,
    /// Its length in bytes.
    pub length: usize,
    /// Byte order of its numbers.
    pub order: Order,
    /// Its fields, ascending by offset.
    pub fields: &'static [Field],
}

/// A structure that was declared with `wire!`.
pub(crate) trait Wire: Sized {
    /// Its bytes: an array of its length.
    type Bytes: AsRef<[u8]> + AsMut<[u8]>;

    /// Its length in bytes.
    const LENGTH: usize;
    /// Its fields, ascending by offset.
    const FIELDS: &'static [Field];
    /// The whole declaration.
    const STRUCTURE: Structure;
    /// Zero in every field except fixed ones.
    const BLANK: Self;

    /// Its bytes.
    fn bytes(&self) -> Self::Bytes;

    /// Writes it to the first bytes of `out`, gaps included; `out` has at least [`LENGTH`](Self::LENGTH) bytes.
    fn write_to(&self, out: &mut [u8]);

    /// Reads it from the first bytes of `bytes`.
    ///
    /// # Errors
    /// [`Kind::Format`] for fewer than [`LENGTH`](Self::LENGTH) bytes, and for a wrong value in a fixed
    /// field: with its name and offset, and with the expected and found values.
    fn read(bytes: &[u8]) -> Result<Self>;
}

impl Field {
    /// One past its last byte, from the start of the structure.
    pub(crate) const fn end(&self) -> usize {
        self.offset + self.length
    }

    /// Makes the field zero in the bytes of a structure, for a checksum over everything else. A field that
    /// ends after the bytes is left alone.
    pub(crate) fn clear(&self, bytes: &mut [u8]) {
        if let Some(own) = bytes.get_mut(self.offset..self.end()) {
            own.fill(0);
        }
    }
}

/// The name of the field at `offset` of a structure, or the offset itself where it is in none.
pub(crate) fn named(fields: &[Field], offset: u64) -> String {
    let offset = crate::units::usize_of(offset);
    let found = fields.iter().find(|field| (field.offset..field.end()).contains(&offset));
    found.map_or_else(|| format!("byte {offset}"), |field| field.name.to_owned())
}

/// The field with this name. In a constant, a name that no field has does not compile.
pub(crate) const fn field(fields: &[Field], name: &str) -> Field {
    let mut at = 0;
    while !same(fields[at].name, name) {
        at += 1;
    }
    fields[at]
}

/// Whether two names are equal; `==` cannot be used in a constant.
const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// The name of a field that begins before the end of the previous one, or ends after the structure.
pub(crate) const fn misplaced(fields: &[Field], length: usize) -> Option<&'static str> {
    let mut end = 0;
    let mut at = 0;
    while at < fields.len() {
        let field = &fields[at];
        if field.offset < end || field.end() > length {
            return Some(field.name);
        }
        end = field.end();
        at += 1;
    }
    None
}

/// The name for a constant assertion; empty if nothing is wrong.
pub(crate) const fn name_of(misplaced: Option<&'static str>) -> &'static str {
    match misplaced {
        Some(name) => name,
        None => "",
    }
}

/// The first `length` bytes of a structure that is to be read.
pub(crate) fn enough<'a>(title: &str, length: usize, bytes: &'a [u8]) -> Result<&'a [u8]> {
    bytes.get(..length).ok_or_else(|| {
        Error::new(Kind::Format, format!("{title}: it is cut off"))
            .expected(format!("{length} bytes"))
            .found(format!("{} bytes", bytes.len()))
    })
}

/// Refuses a wrong value in a fixed field. The error shows both values as they are in the bytes, because many
/// magic numbers are text.
pub(crate) fn fixed<T: Value>(
    title: &str,
    field: &Field,
    order: Order,
    expected: &T,
    found: &T,
) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let what = format!("{title}: {} at byte {:#x} is wrong", field.name, field.offset);
    Err(Error::new(Kind::Format, what)
        .expected(value::shown(expected, order))
        .found(value::shown(found, order)))
}

/// Declares an on-disk structure; see the [module](crate::wire).
macro_rules! wire {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident: $title:literal, $order:ident, $length:literal {
            $(
                $(#[$about:meta])*
                $offset:literal $field:ident $($spelling:literal)? : $type:ty $(= $fixed:expr)?
            ),* $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $visibility struct $name {
            $(
                $(#[$about])*
                $visibility $field: $type,
            )*
        }

        const _: () = {
            use $crate::wire::{Field, Order, Structure, Value, Wire};

            const ORDER: Order = $crate::wire::order!($order);

            impl Wire for $name {
                type Bytes = [u8; $length];

                const LENGTH: usize = $length;
                const FIELDS: &'static [Field] = &[$(
                    Field {
                        offset: $offset,
                        length: <$type as Value>::LENGTH,
                        name: $crate::wire::spelling!($field $($spelling)?),
                    },
                )*];
                const STRUCTURE: Structure =
                    Structure { title: $title, length: $length, order: ORDER, fields: Self::FIELDS };
                const BLANK: Self = Self { $( $field: $crate::wire::blank!($type $(= $fixed)?), )* };

                fn bytes(&self) -> [u8; $length] {
                    let mut bytes = [0; $length];
                    self.write_to(&mut bytes);
                    bytes
                }

                fn write_to(&self, out: &mut [u8]) {
                    let out = &mut out[..$length];
                    out.fill(0);
                    $( self.$field.put(ORDER, &mut out[$offset..$offset + <$type as Value>::LENGTH]); )*
                }

                fn read(bytes: &[u8]) -> $crate::error::Result<Self> {
                    let bytes = $crate::wire::enough($title, $length, bytes)?;
                    $(
                        let $field =
                            <$type as Value>::get(ORDER, &bytes[$offset..$offset + <$type as Value>::LENGTH])?;
                    )*
                    $( $crate::wire::check!($title, ORDER, $offset, $field $($spelling)?, $type $(= $fixed)?); )*
                    Ok(Self { $($field),* })
                }
            }

            const MISPLACED: Option<&str> = $crate::wire::misplaced(<$name as Wire>::FIELDS, $length);
            assert!(MISPLACED.is_none(), "{}", $crate::wire::name_of(MISPLACED));

            impl Default for $name {
                fn default() -> Self {
                    <Self as Wire>::BLANK
                }
            }

            impl Value for $name {
                const LENGTH: usize = $length;
                const BLANK: Self = <Self as Wire>::BLANK;

                fn put(&self, _: Order, out: &mut [u8]) {
                    self.write_to(out);
                }

                fn get(_: Order, bytes: &[u8]) -> $crate::error::Result<Self> {
                    Self::read(bytes)
                }
            }
        };
    };
}

/// The byte order that a word of a declaration stands for.
macro_rules! order {
    (little) => {
        $crate::wire::Order::Little
    };
    (big) => {
        $crate::wire::Order::Big
    };
}

/// The name of a field in its specification.
macro_rules! spelling {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $spelling:literal) => {
        $spelling
    };
}

/// The value of a field before it is set.
macro_rules! blank {
    ($type:ty) => {
        <$type as $crate::wire::Value>::BLANK
    };
    ($type:ty = $fixed:expr) => {
        $fixed
    };
}

/// Compares a field with its fixed value, if it has one.
macro_rules! check {
    ($title:literal, $order:expr, $offset:literal, $field:ident $($spelling:literal)?, $type:ty) => {};
    ($title:literal, $order:expr, $offset:literal, $field:ident $($spelling:literal)?, $type:ty = $fixed:expr) => {{
        const EXPECTED: $type = $fixed;
        let field = $crate::wire::Field {
            offset: $offset,
            length: <$type as $crate::wire::Value>::LENGTH,
            name: $crate::wire::spelling!($field $($spelling)?),
        };
        $crate::wire::fixed($title, &field, $order, &EXPECTED, &$field)?;
    }};
}

pub(crate) use {blank, check, order, spelling, wire};
