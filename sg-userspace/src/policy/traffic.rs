//! The protocol part of a rule: protocol names, ports, ICMP types and AWS's named types.

use super::model::Traffic;

/// IP protocol numbers that rules know by name.
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SCTP: u8 = 132;

/// What a rule's `protocol` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    All,
    Number(u8),
}

/// Protocol names, as AWS's API has them.
pub(crate) const PROTOCOLS: &[(&str, Protocol)] = &[
    ("tcp", Protocol::Number(TCP)),
    ("udp", Protocol::Number(UDP)),
    ("icmp", Protocol::Number(ICMP)),
    ("icmpv6", Protocol::Number(ICMPV6)),
    ("sctp", Protocol::Number(SCTP)),
    ("all", Protocol::All),
    ("-1", Protocol::All),
];

/// Protocols that people name and AWS wants as numbers.
const NUMBERED: &[(&str, u8)] =
    &[("igmp", 2), ("ipip", 4), ("gre", 47), ("esp", 50), ("ah", 51), ("ospf", 89), ("vrrp", 112)];

/// A `protocol` that is not one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a protocol")]
pub(crate) struct ProtocolError(pub(crate) String);

impl ProtocolError {
    pub(crate) fn hint(&self) -> String {
        let word = self.0.to_ascii_lowercase();
        if let Some((_, number)) = NUMBERED.iter().find(|(name, _)| *name == word) {
            return format!("write its number: protocol: {number}");
        }
        if SHORTHANDS.iter().any(|(name, _)| fold(name) == fold(&word)) {
            return format!("`{word}` is a type: write type: {word}");
        }
        let names = PROTOCOLS.iter().map(|(name, _)| *name);
        super::names::did_you_mean(&word, names).unwrap_or_else(|| {
            "tcp, udp, icmp, icmpv6, sctp, all, or a number from 0 to 255".to_owned()
        })
    }
}

/// A name in any case, or a number.
pub(crate) fn protocol(text: &str) -> Result<Protocol, ProtocolError> {
    let word = text.to_ascii_lowercase();
    if let Some(&(_, protocol)) = PROTOCOLS.iter().find(|(name, _)| *name == word) {
        return Ok(protocol);
    }
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let number = word.parse().ok().filter(|_| digits);
    number.map(Protocol::Number).ok_or_else(|| ProtocolError(text.to_owned()))
}

/// Why a text is not a port or a range of ports.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PortError {
    #[error("{0:?} is not a port: 0 to 65535, or a range like 8000-8080")]
    Malformed(String),
    #[error("the range {0}-{1} is reversed")]
    Reversed(u16, u16),
}

/// One port or `first-last`.
pub(crate) fn ports(text: &str) -> Result<(u16, u16), PortError> {
    let port = |part: &str| {
        let part = part.trim();
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u16>().ok().filter(|_| digits)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        (Some(first), Some(last)) => Err(PortError::Reversed(first, last)),
        _ => Err(PortError::Malformed(text.to_owned())),
    }
}

/// Whether rules for the protocol have ports.
pub(crate) fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
}

/// Whether rules for the protocol have an ICMP type.
pub(crate) fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, ICMP | ICMPV6)
}

/// Whether an IPv4 packet (else IPv6) can be of the protocol.
pub(crate) fn fits_family(traffic: Traffic, is_ipv4: bool) -> bool {
    match traffic {
        Traffic::Icmp { protocol, .. } => (protocol == ICMP) == is_ipv4,
        Traffic::All | Traffic::Ports { .. } | Traffic::Protocol(_) => true,
    }
}

/// The packets in a few words, for messages.
pub(crate) fn describe(traffic: Traffic) -> String {
    let name = |number: u8| {
        let named = |entry: &&(&'static str, Protocol)| entry.1 == Protocol::Number(number);
        PROTOCOLS.iter().find(named).map_or(format!("protocol {number}"), |(n, _)| (*n).to_owned())
    };
    match traffic {
        Traffic::All => "all".to_owned(),
        Traffic::Ports { protocol, first: 0, last: u16::MAX } => name(protocol),
        Traffic::Ports { protocol, first, last } if first == last => {
            format!("{} {first}", name(protocol))
        }
        Traffic::Ports { protocol, first, last } => format!("{} {first}-{last}", name(protocol)),
        Traffic::Icmp { protocol, kind: None } => name(protocol),
        Traffic::Icmp { protocol, kind: Some((kind, None)) } => {
            format!("{} type {kind}", name(protocol))
        }
        Traffic::Icmp { protocol, kind: Some((kind, Some(code))) } => {
            format!("{} type {kind} code {code}", name(protocol))
        }
        Traffic::Protocol(protocol) => name(protocol),
    }
}

const fn tcp(port: u16) -> Traffic {
    Traffic::Ports { protocol: TCP, first: port, last: port }
}

const fn udp(port: u16) -> Traffic {
    Traffic::Ports { protocol: UDP, first: port, last: port }
}

/// The rule types of AWS's console.
pub(crate) const SHORTHANDS: &[(&str, Traffic)] = &[
    ("all-traffic", Traffic::All),
    ("all-tcp", Traffic::Ports { protocol: TCP, first: 0, last: u16::MAX }),
    ("all-udp", Traffic::Ports { protocol: UDP, first: 0, last: u16::MAX }),
    ("all-icmp-ipv4", Traffic::Icmp { protocol: ICMP, kind: None }),
    ("all-icmp-ipv6", Traffic::Icmp { protocol: ICMPV6, kind: None }),
    ("ssh", tcp(22)),
    ("smtp", tcp(25)),
    ("dns-udp", udp(53)),
    ("dns-tcp", tcp(53)),
    ("http", tcp(80)),
    ("pop3", tcp(110)),
    ("imap", tcp(143)),
    ("ldap", tcp(389)),
    ("https", tcp(443)),
    ("smb", tcp(445)),
    ("smtps", tcp(465)),
    ("imaps", tcp(993)),
    ("pop3s", tcp(995)),
    ("mssql", tcp(1433)),
    ("oracle-rds", tcp(1521)),
    ("elastic-graphics", tcp(2007)),
    ("nfs", tcp(2049)),
    ("mysql", tcp(3306)),
    ("mysql-aurora", tcp(3306)),
    ("rdp", tcp(3389)),
    ("postgresql", tcp(5432)),
    ("redshift", tcp(5439)),
    ("winrm-http", tcp(5985)),
    ("winrm-https", tcp(5986)),
    ("cql-cassandra", tcp(9042)),
];

/// A named type; case and punctuation do not matter, so the console's "DNS (UDP)" and
/// "MYSQL/Aurora" are understood as they stand.
pub(crate) fn shorthand(text: &str) -> Option<Traffic> {
    let word = fold(text);
    SHORTHANDS.iter().find(|(name, _)| fold(name) == word).map(|&(_, traffic)| traffic)
}

/// What helps whoever writes a type that there is not.
pub(crate) fn shorthand_hint(text: &str) -> String {
    let word = text.to_ascii_lowercase();
    let mut names = SHORTHANDS.iter().map(|(name, _)| *name);
    // `all` is part of a name, and nearer to `all-traffic` than spelling can tell.
    if let Some(name) = names.find(|name| name.split('-').any(|part| part == word)) {
        return format!("did you mean `{name}`?");
    }
    if protocol(&word).is_ok() {
        return format!("`{word}` is a protocol: write protocol: {word}");
    }
    let names = SHORTHANDS.iter().map(|(name, _)| *name);
    super::names::did_you_mean(&word, names).unwrap_or_else(|| {
        "types are ssh, http, https, rdp, ...; for others write `protocol` and `ports`".to_owned()
    })
}

fn fold(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_by_name_and_number() {
        for (text, expected) in [
            ("tcp", Some(Protocol::Number(6))),
            ("TCP", Some(Protocol::Number(6))),
            ("6", Some(Protocol::Number(6))),
            ("icmpv6", Some(Protocol::Number(58))),
            ("ICMPv6", Some(Protocol::Number(58))),
            ("0", Some(Protocol::Number(0))),
            ("255", Some(Protocol::Number(255))),
            ("-1", Some(Protocol::All)),
            ("all", Some(Protocol::All)),
            ("256", None),
            ("-2", None),
            ("+6", None),
            ("", None),
            ("gre", None),
        ] {
            assert_eq!(protocol(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn hints_name_the_way_out() {
        for (text, hint) in [
            ("gre", "write its number: protocol: 47"),
            ("ssh", "`ssh` is a type: write type: ssh"),
            ("tpc", "did you mean `tcp`?"),
        ] {
            assert_eq!(ProtocolError(text.to_owned()).hint(), hint);
        }
    }

    #[test]
    fn types_are_found_by_a_part_of_their_name() {
        for (text, hint) in [
            ("all", "did you mean `all-traffic`?"),
            ("TCP", "did you mean `all-tcp`?"),
            ("dns", "did you mean `dns-udp`?"),
            ("htps", "did you mean `https`?"),
            ("sctp", "`sctp` is a protocol: write protocol: sctp"),
            ("icmpv6", "`icmpv6` is a protocol: write protocol: icmpv6"),
            (
                "gopher",
                "types are ssh, http, https, rdp, ...; for others write `protocol` and `ports`",
            ),
        ] {
            assert_eq!(shorthand_hint(text), hint);
        }
    }

    #[test]
    fn ports_and_ranges() {
        for (text, expected) in [
            ("22", Ok((22, 22))),
            ("0", Ok((0, 0))),
            ("65535", Ok((65535, 65535))),
            ("8000-8080", Ok((8000, 8080))),
            ("8000 - 8080", Ok((8000, 8080))),
            ("7-7", Ok((7, 7))),
            ("9-8", Err(PortError::Reversed(9, 8))),
            ("65536", Err(PortError::Malformed("65536".into()))),
            ("-1", Err(PortError::Malformed("-1".into()))),
            ("1-", Err(PortError::Malformed("1-".into()))),
            ("1-2-3", Err(PortError::Malformed("1-2-3".into()))),
            ("+1", Err(PortError::Malformed("+1".into()))),
            ("http", Err(PortError::Malformed("http".into()))),
            ("", Err(PortError::Malformed(String::new()))),
        ] {
            assert_eq!(ports(text), expected, "{text:?}");
        }
    }

    #[test]
    fn shorthands_as_the_console_spells_them() {
        for (text, expected) in [
            ("SSH", Some(tcp(22))),
            ("DNS (UDP)", Some(udp(53))),
            ("dns-tcp", Some(tcp(53))),
            ("MYSQL/Aurora", Some(tcp(3306))),
            ("All ICMP - IPv4", Some(Traffic::Icmp { protocol: ICMP, kind: None })),
            ("All traffic", Some(Traffic::All)),
            ("gopher", None),
            ("", None),
        ] {
            assert_eq!(shorthand(text), expected, "{text:?}");
        }
    }
}
