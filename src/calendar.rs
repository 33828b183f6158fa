//! Dates of the Gregorian calendar in UTC, without a clock.

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Year, month and day of a number of days since 1970-01-01, which may be negative. Years count from March,
/// so that the leap day is the last day of a year and 153 days are five months (Howard Hinnant,
/// `civil_from_days`).
pub(crate) const fn civil(days: i64) -> (i64, u32, u32) {
    /// Days from 0000-03-01 to 1970-01-01.
    const EPOCH: i64 = 719_468;
    /// Days of 400 years.
    const ERA: i64 = 146_097;
    let days = days.saturating_add(EPOCH);
    let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / (ERA - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let in_month = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (year, crate::units::half_lo(month.unsigned_abs()), crate::units::half_lo(in_month.unsigned_abs()))
}

/// The days from 1970-01-01 to a date; the inverse of [`civil`] (Howard Hinnant, `days_from_civil`).
pub(crate) const fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let in_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + in_year - 719_468
}

/// `YYYY-MM-DD` of a number of seconds since 1970, in UTC.
pub(crate) fn date(seconds: i64) -> String {
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    format!("{year:04}-{month:02}-{day:02}")
}

/// `YYYY-MM-DD HH:MM` of a number of seconds since 1970, in UTC.
pub(crate) fn minute(seconds: i64) -> String {
    let second = seconds.rem_euclid(DAY);
    format!("{} {:02}:{:02}", date(seconds), second / 3600, second / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_follows_the_day_before_for_all_dates_a_file_can_have() {
        // 1901-01-01 to 2446-12-31 contains every date that ext4 can hold.
        let mut days = -25_202;
        for year in 1901_i64..=2446 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, length) in (1..).zip(lengths) {
                for day in 1..=length {
                    assert_eq!(civil(days), (year, month, day));
                    days += 1;
                }
            }
        }
    }

    #[test]
    fn dates_are_text() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00"),
            (59, "1970-01-01 00:00"),
            (-1, "1969-12-31 23:59"),
            (1_709_210_096, "2024-02-29 12:34"),
            (i64::MAX, "292277026596-12-04 15:30"),
        ] {
            assert_eq!(minute(seconds), text);
            assert_eq!(date(seconds), text.split(' ').next().unwrap_or_default());
        }
    }
}
