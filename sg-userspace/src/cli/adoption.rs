//! What `attach` says of the connections that were open already.

use std::time::Duration;

use super::output::count;
use crate::kernel::adopt::Adoption;
use crate::kernel::live::AttachedDevice;

/// Longest time of grace: in it, a scan that opens nothing passes.
const LONGEST: Duration = Duration::from_secs(600);

/// `30s` or `5m`.
pub(super) fn grace(text: &str) -> Result<Duration, String> {
    let wrong = || format!("a time such as 30s or 5m, at most {} m", LONGEST.as_secs() / 60);
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_not_a_number| wrong())?;
    let time = Duration::from_secs(number.saturating_mul(seconds));
    if time <= LONGEST { Ok(time) } else { Err(wrong()) }
}

/// A line for each device that has something to say, on standard error.
pub(super) fn tell(attached: &[AttachedDevice], grace: Duration) {
    for device in attached {
        let Some(adoption) = device.adoption else { continue };
        if let Some(line) = summary(&device.device, &adoption) {
            eprintln!("{line}");
        }
        if !adoption.asked && grace.is_zero() {
            log::warn!(
                "{}: no sockets can be asked behind it; what is open there is cut where no rule lets it go on (--grace 30s learns it from its packets)",
                device.device
            );
        }
        if !grace.is_zero() {
            eprintln!("{}: learning what is open for {} s", device.device, grace.as_secs());
        }
    }
}

fn summary(device: &str, adoption: &Adoption) -> Option<String> {
    let Adoption { tcp, udp, denied, cut, .. } = *adoption;
    if tcp + udp + cut == 0 {
        return None;
    }
    let flows = count(tcp + udp, "flow");
    let mut line = format!("{device}: adopted {flows} ({tcp} tcp, {udp} udp)");
    if denied > 0 {
        line += &format!("; {denied} of them no rule allows: kept (live_flows: keep)");
    }
    if cut > 0 {
        line += &format!("; {cut} more no rule allows: cut (live_flows: cut)");
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_an_end() {
        assert_eq!(grace("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(grace("10m"), Ok(Duration::from_secs(600)));
        for wrong in
            ["", "s", "30", "1h", "601s", "-1s", "1.5s", "30\u{e9}", "18446744073709551615m"]
        {
            assert!(grace(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_summary_says_what_was_kept_and_what_was_not() {
        let some = Adoption { asked: true, tcp: 10, udp: 2, denied: 3, cut: 0 };
        assert_eq!(
            summary("eth0", &some).as_deref(),
            Some(
                "eth0: adopted 12 flows (10 tcp, 2 udp); 3 of them no rule allows: kept (live_flows: keep)"
            )
        );
        let cut = Adoption { tcp: 1, udp: 0, denied: 0, cut: 2, ..some };
        assert_eq!(
            summary("eth0", &cut).as_deref(),
            Some(
                "eth0: adopted 1 flow (1 tcp, 0 udp); 2 more no rule allows: cut (live_flows: cut)"
            )
        );
        assert_eq!(summary("eth0", &Adoption::default()), None);
    }
}
