//! Wall time from the monotonic clock of the data plane.

use std::time::{SystemTime, UNIX_EPOCH};

const NANOS: i128 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Turns times of the monotonic clock into times of day.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    /// Nanoseconds of the wall clock when the monotonic one stood at zero.
    zero: i128,
    /// Seconds east of Greenwich.
    east: i64,
}

impl WallClock {
    /// As the two clocks stand now, in the local time zone; `monotonic` is that clock's time.
    #[must_use]
    pub fn now(monotonic: u64) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let zero = i128::try_from(wall.as_nanos()).unwrap_or_default() - i128::from(monotonic);
        let seconds = i64::try_from(wall.as_secs()).unwrap_or_default();
        Self { zero, east: seconds_east(seconds) }
    }

    /// With both given.
    #[must_use]
    pub const fn at(zero: i128, east: i64) -> Self {
        Self { zero, east }
    }

    /// `2026-03-01T12:03:04.123456Z`
    #[must_use]
    pub fn rfc3339(&self, monotonic: u64) -> String {
        let (seconds, nanos) = self.split(monotonic);
        let (year, month, day) = date(seconds.div_euclid(DAY));
        let (hour, minute, second) = time(seconds);
        let micros = nanos / 1000;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }

    /// `12:03:04.123`, local time.
    #[must_use]
    pub fn time_of_day(&self, monotonic: u64) -> String {
        let (seconds, nanos) = self.split(monotonic);
        let (hour, minute, second) = time(seconds + self.east);
        format!("{hour:02}:{minute:02}:{second:02}.{:03}", nanos / 1_000_000)
    }

    /// Seconds since 1970, and nanoseconds.
    fn split(&self, monotonic: u64) -> (i64, i128) {
        let wall = self.zero + i128::from(monotonic);
        (i64::try_from(wall.div_euclid(NANOS)).unwrap_or_default(), wall.rem_euclid(NANOS))
    }
}

fn time(seconds: i64) -> (i64, i64, i64) {
    let seconds = seconds.rem_euclid(DAY);
    (seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar. Years begin in
/// March here, so that the leap day is the last of them (Howard Hinnant, "chrono-compatible low-level
/// date algorithms").
fn date(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let days = days + 719_468;
    let era = days.div_euclid(ERA);
    let of_era = days.rem_euclid(ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year_of_era + era * 400 + next_year, month, day)
}

/// The local time zone's offset at a time.
fn seconds_east(time: i64) -> i64 {
    // SAFETY: all zero bytes are a valid `tm`, whose only pointer may be null.
    let mut broken_down: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values, and nothing else knows of them.
    let filled = unsafe { libc::localtime_r(&raw const time, &raw mut broken_down) };
    if filled.is_null() { 0 } else { broken_down.tm_gmtoff }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_868_799, "2000-02-29T23:59:59.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            let clock = WallClock::at(i128::from(seconds) * NANOS, 0);
            assert_eq!(clock.rfc3339(0), text);
        }
    }

    #[test]
    fn the_day_is_the_local_one() {
        let clock = WallClock::at(0, 9 * 3600);
        assert_eq!(clock.time_of_day(15 * 3600 * 1_000_000_000 + 123_999_999), "00:00:00.123");
        assert_eq!(clock.rfc3339(1_500), "1970-01-01T00:00:00.000001Z");
    }
}
