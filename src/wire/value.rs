//! The types of fields.

use uuid::Uuid;

use super::Order;
use crate::encoding::to_hex;
use crate::error::Result;

/// A type that a field of a structure can have.
pub(crate) trait Value: Sized + PartialEq {
    /// Its length in bytes.
    const LENGTH: usize;
    /// Its value before it is set.
    const BLANK: Self;

    /// Writes it; `out` has exactly [`LENGTH`](Self::LENGTH) bytes.
    fn put(&self, order: Order, out: &mut [u8]);

    /// Reads it; `bytes` has exactly [`LENGTH`](Self::LENGTH) bytes.
    ///
    /// # Errors
    /// Errors of a nested structure.
    fn get(order: Order, bytes: &[u8]) -> Result<Self>;
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Value for $type {
            const LENGTH: usize = size_of::<Self>();
            const BLANK: Self = 0;

            fn put(&self, order: Order, out: &mut [u8]) {
                out.copy_from_slice(&match order {
                    Order::Little => self.to_le_bytes(),
                    Order::Big => self.to_be_bytes(),
                });
            }

            fn get(order: Order, bytes: &[u8]) -> Result<Self> {
                let mut raw = [0; size_of::<Self>()];
                raw.copy_from_slice(bytes);
                Ok(match order {
                    Order::Little => Self::from_le_bytes(raw),
                    Order::Big => Self::from_be_bytes(raw),
                })
            }
        }
    )*};
}

number!(u8, u16, u32, u64, i32, i64);

impl Value for Uuid {
    const LENGTH: usize = 16;
    const BLANK: Self = Self::nil();

    fn put(&self, _: Order, out: &mut [u8]) {
        out.copy_from_slice(self.as_bytes());
    }

    fn get(_: Order, bytes: &[u8]) -> Result<Self> {
        let mut raw = [0; 16];
        raw.copy_from_slice(bytes);
        Ok(Self::from_bytes(raw))
    }
}

/// A UUID whose first three numbers are little-endian in a structure of either byte order: the EFI_GUID of
/// UEFI and the GUID of Microsoft (UEFI 2.10, appendix A).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Guid(pub(crate) Uuid);

impl Value for Guid {
    const LENGTH: usize = 16;
    const BLANK: Self = Self(Uuid::nil());

    fn put(&self, _: Order, out: &mut [u8]) {
        out.copy_from_slice(&self.0.to_bytes_le());
    }

    fn get(_: Order, bytes: &[u8]) -> Result<Self> {
        let mut raw = [0; 16];
        raw.copy_from_slice(bytes);
        Ok(Self(Uuid::from_bytes_le(raw)))
    }
}

impl<T: Value, const N: usize> Value for [T; N] {
    const LENGTH: usize = T::LENGTH * N;
    const BLANK: Self = [T::BLANK; N];

    fn put(&self, order: Order, out: &mut [u8]) {
        for (value, part) in self.iter().zip(out.chunks_exact_mut(T::LENGTH)) {
            value.put(order, part);
        }
    }

    fn get(order: Order, bytes: &[u8]) -> Result<Self> {
        let mut values = Self::BLANK;
        for (value, part) in values.iter_mut().zip(bytes.chunks_exact(T::LENGTH)) {
            *value = T::get(order, part)?;
        }
        Ok(values)
    }
}

/// The bytes of a value for a message: as text if they are text, otherwise in hexadecimal. A number begins
/// with its most significant digit.
pub(super) fn shown<T: Value>(value: &T, order: Order) -> String {
    let mut bytes = vec![0; T::LENGTH];
    value.put(order, &mut bytes);
    let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    if bytes.len() > 2 && bytes.iter().all(printable) {
        return format!("`{}`", String::from_utf8_lossy(&bytes));
    }
    if order == Order::Little && bytes.len() <= 8 {
        bytes.reverse();
    }
    format!("0x{}", to_hex(&bytes))
}
