//! Moments as people and programs read them: RFC 3339, in UTC, wherever a command prints one.

use jiff::Timestamp;

/// `2026-03-01T12:03:04Z`, of seconds since 1970.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let stamp = i64::try_from(seconds).ok().and_then(|it| Timestamp::from_second(it).ok());
    // Out of range: beyond the year 9999.
    stamp.unwrap_or(Timestamp::MAX).to_string()
}

/// Serializes seconds since 1970, which files keep, as every `-o json` prints them.
///
/// # Errors
/// The serializer's.
#[cfg(feature = "kernel")]
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn serialize<S: serde::Serializer>(seconds: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&rfc3339(*seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_868_799), "2000-02-29T23:59:59Z");
        assert!(rfc3339(u64::MAX).starts_with("9999-12-"));
    }
}
