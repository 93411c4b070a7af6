//! Wall time from the monotonic clock of the data plane.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

/// Turns times of the monotonic clock into times of day.
#[derive(Debug, Clone)]
pub struct WallClock {
    /// Nanoseconds since 1970 when the monotonic clock stood at zero.
    zero: i128,
    /// Where `time_of_day` is.
    zone: TimeZone,
}

impl WallClock {
    /// As the two clocks stand now, in the local time zone; `monotonic` is that clock's time.
    #[must_use]
    pub fn now(monotonic: u64) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let zero = i128::try_from(wall.as_nanos()).unwrap_or_default() - i128::from(monotonic);
        Self { zero, zone: TimeZone::system() }
    }

    /// With both given, the zone as hours east of Greenwich.
    #[must_use]
    pub const fn at(zero: i128, east: i8) -> Self {
        Self { zero, zone: TimeZone::fixed(Offset::constant(east)) }
    }

    /// `2026-03-01T12:03:04.123456Z`
    #[must_use]
    pub fn rfc3339(&self, monotonic: u64) -> String {
        self.time(monotonic).strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
    }

    /// `12:03:04.123`, local time.
    #[must_use]
    pub fn time_of_day(&self, monotonic: u64) -> String {
        let local = self.time(monotonic).to_zoned(self.zone.clone());
        local.strftime("%H:%M:%S%.3f").to_string()
    }

    fn time(&self, monotonic: u64) -> Timestamp {
        // Out of range: beyond the year 9999.
        Timestamp::from_nanosecond(self.zero + i128::from(monotonic)).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        for (seconds, text) in [
            (0_i64, "1970-01-01T00:00:00.000000Z"),
            (951_868_799, "2000-02-29T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            let clock = WallClock::at(i128::from(seconds) * 1_000_000_000, 0);
            assert_eq!(clock.rfc3339(0), text);
        }
    }

    #[test]
    fn the_day_is_the_local_one() {
        let clock = WallClock::at(0, 9);
        assert_eq!(clock.time_of_day(15 * 3600 * 1_000_000_000 + 123_999_999), "00:00:00.123");
        assert_eq!(clock.rfc3339(1_500), "1970-01-01T00:00:00.000001Z");
    }
}
