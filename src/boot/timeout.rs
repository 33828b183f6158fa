//! How long a menu waits.

/// How long a menu waits before it boots the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// This many seconds; 0 boots the default at once.
    Seconds(u32),
    /// Until someone chooses.
    Forever,
}

impl Default for Timeout {
    /// 5 seconds, as `boot.loader.timeout` has it.
    fn default() -> Self {
        Self::Seconds(5)
    }
}
