//! The little that the record needs to know about the machine: which boot this
//! is, the time for stamps and names, and unique ids.

use crate::device::clock;
use std::time::{SystemTime, UNIX_EPOCH};

/// An id of 128 bits as two words.
pub type Id = [u64; 2];

/// Which boot of the kernel this is; `None` where the kernel does not say.
/// The page cache, and with it the ring, survives everything but the end of a boot.
pub fn boot_id() -> Option<Id> {
    uuid("/proc/sys/kernel/random/boot_id")
}

/// An id that no other ring file has.
pub fn fresh_id() -> Id {
    // Without /proc, time and process together are as good: rings are made one at a time under a lock.
    uuid("/proc/sys/kernel/random/uuid").unwrap_or_else(|| {
        [
            wall_ms() as u64,
            (clock::now().as_micros() as u64) << 16 ^ u64::from(std::process::id()),
        ]
    })
}

fn uuid(path: &str) -> Option<Id> {
    let text = std::fs::read_to_string(path).ok()?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    let value = u128::from_str_radix(&digits, 16).ok()?;
    Some([(value >> 64) as u64, value as u64])
}

/// Milliseconds since 1970 by the wall clock, for people only: it may step.
pub fn wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        // A box without a battery may believe in a time before 1970.
        Err(before) => -(before.duration().as_millis() as i64),
    }
}

/// `2026-11-22` in UTC.
pub fn date(wall_ms: i64) -> String {
    let (year, month, day) = civil(wall_ms.div_euclid(86_400_000));
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-11-22 03:04:05 UTC`.
pub fn date_time(wall_ms: i64) -> String {
    let second = wall_ms.div_euclid(1_000).rem_euclid(86_400);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{} {hour:02}:{minute:02}:{:02} UTC", date(wall_ms), second % 60)
}

/// Year, month and day of a count of days since 1970-01-01 in the Gregorian calendar.
///
/// Counted from a 1st of March, so that the leap day is the last day of a year
/// and the months' lengths follow `(153 m + 2) / 5`.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097; // 400 years
    let from_march_0000 = days + 719_468;
    let era = from_march_0000.div_euclid(DAYS_PER_ERA);
    let day_of_era = from_march_0000.rem_euclid(DAYS_PER_ERA);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_at_the_seams_of_the_calendar() {
        let day = 86_400_000;
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(-1), "1969-12-31");
        assert_eq!(date(11_016 * day), "2000-02-29");
        assert_eq!(date(11_017 * day), "2000-03-01");
        assert_eq!(date(20_454 * day), "2026-01-01");
        assert_eq!(date(47_540 * day), "2100-02-28");
        assert_eq!(date(47_541 * day), "2100-03-01", "2100 is no leap year");
        assert_eq!(date_time(20_454 * day + 3_723_999), "2026-01-01 01:02:03 UTC");
    }
}
