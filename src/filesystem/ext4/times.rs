//! Times that an inode cannot hold, or not without a remark.

use std::ops::Range;

use super::form::Form;
use super::format::EARLIEST;
use super::{Parameters, TimePolicy};
use crate::error::{Error, Kind, Result, Warning};
use crate::option::setting;
use crate::tree::Time;

/// How many times are odd, and in which way.
#[derive(Debug, Default)]
pub(super) struct Odd {
    /// Outside the range of ext4.
    outside: u64,
    /// Taken for other ones by e2fsck.
    doubted: u64,
    /// With fractions of seconds that small inodes do not hold.
    cut: u64,
}

impl Odd {
    /// With the time of the disk.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for one that ext4 does not hold, unless times are clamped.
    pub(super) fn of_disk(form: &Form, options: &Parameters) -> Result<Self> {
        let is_outside = is_outside(form, options.time);
        if is_outside && options.times == TimePolicy::Refuse {
            let what = "the time of the disk lies outside what ext4 holds";
            return Err(unfit(form, Kind::Manifest, what, options.time).about("time"));
        }
        Ok(Self { outside: u64::from(is_outside), ..Self::default() })
    }

    /// Counts one more time.
    ///
    /// # Errors
    /// [`Kind::Capacity`] for one that ext4 does not hold, unless times are clamped.
    pub(super) fn add(&mut self, form: &Form, time: Time, policy: TimePolicy) -> Result<()> {
        let is_outside = is_outside(form, time);
        if is_outside && policy == TimePolicy::Refuse {
            return Err(unfit(form, Kind::Capacity, "a time of change lies outside what ext4 holds", time));
        }
        self.outside += u64::from(is_outside);
        self.cut += u64::from(form.extra_size() == 0 && time.nanoseconds > 0);
        self.doubted += u64::from(form.extra_size() > 0 && DOUBTED.contains(&time.seconds));
        Ok(())
    }

    /// What there is to say.
    pub(super) fn warnings(&self, form: &Form) -> Vec<Warning> {
        let Self { outside, doubted, cut } = self;
        let cut_said = format!("inodes of 128 bytes have no fractions of seconds: {cut} times lose theirs");
        let doubted_said = format!(
            "e2fsck takes times from 2310-04-04 to 2378-04-22 for such before 1970 that an old kernel wrote, and would change \
             them: {doubted} of them"
        );
        let outside_said = format!(
            "times outside 1901-12-13 to {} became the nearest that ext4 can hold: {outside} of them",
            last_day(form)
        );
        let all = [(cut, cut_said), (doubted, doubted_said), (outside, outside_said)];
        all.into_iter().filter(|(count, _)| **count > 0).map(|(_, said)| Warning(said)).collect()
    }
}

/// The day after which there are no times.
const fn last_day(form: &Form) -> &'static str {
    if form.extra_size() > 0 { "2446-05-10" } else { "2038-01-19" }
}

/// 2310-04-04 to 2378-04-22: e2fsck takes such a time for one before 1970, which kernels before 3.14 wrote
/// with both upper bits set (e2fsck/pass1.c, `check_inode_extra_negative_epoch`).
const DOUBTED: Range<i64> = 3 * (1 << 32) - (1 << 31)..3 * (1 << 32);

/// Whether a time lies outside the range of ext4.
const fn is_outside(form: &Form, time: Time) -> bool {
    time.seconds < EARLIEST || time.seconds > form.latest()
}

/// The error for such a time.
fn unfit(form: &Form, kind: Kind, what: &str, time: Time) -> Error {
    Error::new(kind, what)
        .expected(format!(
            "{EARLIEST} to {} seconds since 1970 (1901-12-13 to {})",
            form.latest(),
            last_day(form)
        ))
        .found(format!("{} seconds", time.seconds))
        .hint(format!("clamp such times with {}", setting("times", "clamp")))
}

/// The nearest time ext4 can hold.
pub(super) fn clamp(form: &Form, time: Time) -> Time {
    if time.seconds < EARLIEST {
        Time::seconds(EARLIEST)
    } else if time.seconds > form.latest() {
        Time { seconds: form.latest(), nanoseconds: 999_999_999 }
    } else {
        time
    }
}
