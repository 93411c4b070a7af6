//! Protocols and directions on the command line.

use clap::ValueEnum;

use crate::events::PROTOCOL_NAMES;

/// Which way a packet travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Direction {
    /// Towards the protected end
    Ingress,
    /// Away from the protected end
    Egress,
}

impl From<Direction> for sg_common::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Ingress => Self::Ingress,
            Direction::Egress => Self::Egress,
        }
    }
}

/// Reads `tcp`, `icmpv6`, `47`.
pub(super) fn protocol(text: &str) -> Result<u8, String> {
    let named = PROTOCOL_NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    named.map(|(_, number)| *number).or_else(|| text.parse().ok()).ok_or_else(|| {
        let names: Vec<_> = PROTOCOL_NAMES.iter().map(|(name, _)| *name).collect();
        format!("a protocol is {} or a number up to 255", names.join(", "))
    })
}

/// Reads an address range, or an address as the range of itself.
pub(super) fn range(text: &str) -> Result<ipnet::IpNet, String> {
    let address = || text.parse().map(|address: std::net::IpAddr| address.into()).ok();
    text.parse::<ipnet::IpNet>()
        .ok()
        .or_else(address)
        .ok_or_else(|| "neither an address nor a CIDR block such as 10.0.0.0/8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_names_and_numbers() {
        for (text, number) in [("tcp", 6), ("UDP", 17), ("icmpv6", 58), ("47", 47), ("0", 0)] {
            assert_eq!(protocol(text), Ok(number));
        }
        for text in ["", "tpc", "256", "-1"] {
            assert!(protocol(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_is_a_range() {
        assert_eq!(range("10.0.0.1").map(|net| net.to_string()), Ok("10.0.0.1/32".to_owned()));
        assert_eq!(range("fd00::/8").map(|net| net.to_string()), Ok("fd00::/8".to_owned()));
        assert!(range("10.0.0.0/33").is_err());
    }
}
