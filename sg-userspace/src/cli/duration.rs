//! Times on the command line.

use std::time::Duration;

use jiff::SignedDuration;

/// `90s`, `30m`, `1h 30m`, `30d` and the like.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "a time such as 90s, 30m, 2h or 30d".to_owned();
    // jiff's days belong to a calendar; here a day has 24 hours.
    let parsed = match text.strip_suffix('d').map(str::parse::<u32>) {
        Some(Ok(days)) => Duration::from_secs(u64::from(days) * 86400),
        Some(Err(_)) | None => {
            let time: SignedDuration = text.parse().map_err(|_not_a_time| wrong())?;
            Duration::try_from(time).map_err(|_negative| wrong())?
        }
    };
    if parsed.is_zero() { Err(wrong()) } else { Ok(parsed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in
            [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h 30m", 5400), ("30d", 2_592_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "90", "-5s", "0s", "soon", "d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
