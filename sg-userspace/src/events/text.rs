//! An event as one line of text.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};

use sg_common::abi::EventKind;
use sg_common::{Direction, Reason};

use super::{Names, Record, protocol_name};

impl Display for Record {
    /// `12:03:04.123 drop ingress web tcp 198.51.100.7:51234 -> 10.0.0.5:22 no_rule 60 B`
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { clock, verdict, direction, interface, .. } = self;
        write!(formatter, "{clock} {verdict} {direction} {interface} ")?;
        self.ends(formatter)?;
        match self.kind {
            EventKind::Allow => self.rule_or_reason(formatter)?,
            EventKind::Drop | EventKind::Audit => formatter.write_str(self.reason)?,
            EventKind::End => self.totals(formatter)?,
        }
        self.length.map_or(Ok(()), |length| write!(formatter, " {length} B"))
    }
}

impl Record {
    /// Protocol, source and destination, and a space behind them.
    fn ends(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let (Some(protocol), Some(source), Some(destination)) =
            (&self.protocol, self.source, self.destination)
        else {
            return formatter.write_str("not-ip ");
        };
        write!(
            formatter,
            "{protocol} {} -> {} ",
            End(source, self.source_port),
            End(destination, self.destination_port)
        )?;
        match (self.icmp_type, self.icmp_code) {
            (Some(kind), Some(code)) => write!(formatter, "type {kind} code {code} "),
            _ => Ok(()),
        }
    }

    fn rule_or_reason(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) if self.rule_gone => write!(formatter, "({rule}; gone)"),
            Some(rule) => write!(formatter, "({rule})"),
            None => formatter.write_str(self.reason),
        }
    }

    fn totals(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let (Some(packets), Some(bytes)) = (self.packets, self.bytes) else { return Ok(()) };
        write!(
            formatter,
            "in {} packets {} B, out {} packets {} B ",
            packets.ingress, bytes.ingress, packets.egress, bytes.egress
        )?;
        self.rule_or_reason(formatter)
    }
}

/// An address, with its port where there is one.
#[derive(Debug, Clone, Copy)]
pub struct End(pub IpAddr, pub Option<u16>);

impl Display for End {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(port) => SocketAddr::new(self.0, port).fmt(formatter),
            None => self.0.fmt(formatter),
        }
    }
}

/// A trace line of the programs, `slot=0 direction=1 reason=2 rule=7 protocol=6 source=4/...`, in words.
#[must_use]
pub fn trace_line(line: &str, names: &Names) -> String {
    let word = |pair: &str| trace_word(pair, names).unwrap_or_else(|| pair.to_owned());
    let words: Vec<_> = line.split(' ').map(word).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

fn trace_word(pair: &str, names: &Names) -> Option<String> {
    let (key, number) = pair.split_once('=')?;
    match key {
        "slot" => Some(names.interface(number.parse().ok()?)),
        "direction" => {
            let number: u8 = number.parse().ok()?;
            Direction::ALL
                .into_iter()
                .find(|way| *way as u8 == number)
                .map(|way| way.name().to_owned())
        }
        "reason" => {
            let reason = Reason::from_number(number.parse().ok()?)?;
            Some(format!("{} {}", reason.verdict().name(), reason.name()))
        }
        "protocol" => match number.split_once('/')? {
            ("0", _not_ip) => Some(String::new()),
            (_family, protocol) => Some(protocol_name(protocol.parse().ok()?)),
        },
        "source" | "destination" => trace_end(key, number),
        "rule" => names.rule(number.parse().ok()?).map(|rule| format!("({rule})")),
        _ => None,
    }
}

/// `-> 10.0.0.5:22`, from the numbers of family, address and port; nothing where there is no address.
fn trace_end(key: &str, numbers: &str) -> Option<String> {
    let numbers: Vec<u32> = numbers.split('/').map(str::parse).collect::<Result<_, _>>().ok()?;
    let &[family, a, b, c, d, port] = numbers.as_slice() else { return None };
    let Some(address) = super::address(family.try_into().ok()?, [a, b, c, d]) else {
        return Some(String::new());
    };
    let port = u16::try_from(port).ok().filter(|&port| port != 0);
    let end = End(address, port);
    Some(if key == "destination" { format!("-> {end}") } else { end.to_string() })
}
