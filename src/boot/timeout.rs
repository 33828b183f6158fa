//! The time that a menu waits.

/// The time that a menu waits before it boots the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// This many seconds; 0 boots the default at once.
    Seconds(u32),
    /// Until someone chooses.
    Forever,
}

impl Default for Timeout {
    /// 5 seconds, the default of `boot.loader.timeout`.
    fn default() -> Self {
        Self::Seconds(5)
    }
}
