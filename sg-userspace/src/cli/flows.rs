//! `sgctl flows`: the conversations that are tracked now.

mod flush;
mod selection;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use sg_common::abi::FlowState;

use super::table::Table;
use super::{Exit, Format, Global, attached, output, traffic};
use crate::events::{BothWays, End, Names, protocol_name};
use crate::kernel::live::Live;
use crate::kernel::read::{self, FlowRecord};
use crate::kernel::{Paths, require_root};

/// Show the tracked flows
///
/// Established flows, and those that only one end has spoken in so far, sorted by interface, protocol and
/// addresses.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  sgctl flows
  sgctl flows --interface web --established
  sgctl flows list --address 198.51.100.0/24 --port 443 -o json
  sgctl flows flush --group web --peer 198.51.100.7"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    wanted: Wanted,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List them; the same as no verb
    List(Wanted),
    Flush(flush::Arguments),
}

/// Which flows.
#[derive(Debug, clap::Args)]
struct Wanted {
    /// Of this interface only
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// With an end in this range only
    #[arg(long, value_name = "CIDR", value_parser = traffic::range)]
    address: Option<IpNet>,
    /// With this port at one end only
    #[arg(long)]
    port: Option<u16>,
    /// Established ones only
    #[arg(long)]
    established: bool,
}

/// A flow as `flows -o json` lists it.
#[derive(Debug, Clone, Serialize)]
struct Listed {
    /// Name of the interface.
    interface: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp` or a number.
    protocol: String,
    /// The protected end.
    local: IpAddr,
    /// Null for ICMP and for protocols without ports, like the next port.
    local_port: Option<u16>,
    /// The other end.
    remote: IpAddr,
    /// Its port.
    remote_port: Option<u16>,
    /// `ingress` when the remote end opened it, else `egress`.
    opened: &'static str,
    /// `syn-sent`, `established`, `half-closed`, `closed`, `opened`, `replied`, `stream`, ...
    state: &'static str,
    /// Whether it is in the table that nothing evicts.
    established: bool,
    /// Whether it was open before the programs were attached.
    adopted: bool,
    /// AWS would leave it untracked: it ends as soon as its rule goes.
    untracked: bool,
    /// The rule that let it in, in words; null where none did, or it went too long ago.
    rule: Option<String>,
    /// Whether that rule is no longer in force.
    rule_gone: bool,
    /// Packets so far.
    packets: BothWays<u32>,
    /// Bytes so far.
    bytes: BothWays<u64>,
    /// Seconds until it dies, unless a packet comes.
    expires_in: u64,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    require_root("read the flow tables")?;
    let paths = Paths::from_environment();
    super::follow_addresses(&paths);
    let live = Live::require(&paths)?;
    let names = live.names();
    let wanted = match &arguments.verb {
        Some(Verb::List(wanted)) => wanted,
        Some(Verb::Flush(arguments)) => return flush::run(arguments, &paths, &live, global),
        None => &arguments.wanted,
    };
    if let Some(name) = &wanted.interface {
        attached::slot(&live.tables, name)?;
    }
    let flows = read::flows(&paths)?;
    let listed: Vec<_> = flows.iter().map(|flow| Listed::new(flow, &names)).collect();
    let mut listed: Vec<_> = listed.into_iter().filter(|flow| wanted.fits(flow)).collect();
    listed.sort_by(|a, b| a.order().cmp(&b.order()));
    match global.output {
        Format::Json => output::print_json(&listed)?,
        Format::Text if listed.is_empty() => eprintln!("no flow"),
        Format::Text => output::print(&text(&listed))?,
    }
    Ok(Exit::Yes)
}

impl Wanted {
    fn fits(&self, flow: &Listed) -> bool {
        let ports = [flow.local_port, flow.remote_port];
        self.interface.as_ref().is_none_or(|name| *name == flow.interface)
            && self
                .address
                .is_none_or(|net| net.contains(&flow.local) || net.contains(&flow.remote))
            && self.port.is_none_or(|port| ports.contains(&Some(port)))
            && (flow.established || !self.established)
    }
}

impl Listed {
    fn new(flow: &FlowRecord, names: &Names) -> Self {
        let port = |port| {
            (flow.has_ports() && (flow.local_port, flow.remote_port) != (0, 0)).then_some(port)
        };
        Self {
            interface: names.interface(flow.slot),
            protocol: protocol_name(flow.protocol),
            local: flow.local,
            local_port: port(flow.local_port),
            remote: flow.remote,
            remote_port: port(flow.remote_port),
            opened: flow.opened,
            state: flow.state,
            established: flow.established,
            adopted: flow.adopted,
            untracked: flow.untracked,
            rule_gone: names.is_gone(flow.rule),
            rule: names.rule(flow.rule).map(str::to_owned),
            packets: flow.packets.into(),
            bytes: flow.bytes.into(),
            expires_in: flow.expires_in,
        }
    }

    fn order(&self) -> impl Ord + '_ {
        let Self { interface, protocol, local, local_port, remote, remote_port, .. } = self;
        (interface, protocol, local, local_port, remote, remote_port)
    }

    fn row(&self) -> [String; 9] {
        let arrow = if self.opened == "ingress" { "<-" } else { "->" };
        let both = |ways: [String; 2]| ways.join("/");
        [
            self.interface.clone(),
            self.protocol.clone(),
            End(self.local, self.local_port).to_string(),
            arrow.to_owned(),
            End(self.remote, self.remote_port).to_string(),
            self.state_text(),
            both([self.packets.ingress, self.packets.egress].map(|number| number.to_string())),
            format!("{} s", self.expires_in),
            match (&self.rule, self.rule_gone) {
                (Some(rule), false) => rule.clone(),
                (Some(rule), true) => format!("{rule}; gone"),
                (None, true) => "(a rule that has gone)".to_owned(),
                (None, false) => "(no rule)".to_owned(),
            },
        ]
    }

    fn state_text(&self) -> String {
        if self.adopted && self.state != FlowState::Adopted.name() {
            format!("{} (adopted)", self.state)
        } else {
            self.state.to_owned()
        }
    }
}

fn text(flows: &[Listed]) -> String {
    let mut table = Table::new([
        "INTERFACE",
        "PROTOCOL",
        "LOCAL",
        "",
        "REMOTE",
        "STATE",
        "PACKETS IN/OUT",
        "EXPIRES",
        "RULE",
    ]);
    table.add_rows(flows.iter().map(Listed::row));
    table.text("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Listed {
        let ends = [([10, 0, 0, 2], 22), ([10, 0, 0, 9], 40000)];
        let [local, remote] = ends.map(|(address, port)| (IpAddr::from(address), port));
        let (rule, packets, bytes) = (5, [2, 1], [120, 60]);
        let record = FlowRecord { rule, packets, bytes, ..FlowRecord::sample(1, local, remote) };
        Listed::new(&record, &Names::default())
    }

    #[test]
    fn a_row_says_who_opened() {
        let row = flow().row();
        assert_eq!(row[2..5], ["10.0.0.2:22", "<-", "10.0.0.9:40000"]);
        assert_eq!(row[6..], ["2/1", "30 s", "(a rule that has gone)"]);
        let rule = Some("group web ingress all from ::/0".to_owned());
        let named = Listed { rule, ..flow() };
        assert_eq!(named.row()[8], "group web ingress all from ::/0; gone");
        assert_eq!(
            Listed { rule_gone: false, ..named }.row()[8],
            "group web ingress all from ::/0"
        );
    }

    #[test]
    fn a_row_says_what_was_adopted() {
        let adopted = Listed { adopted: true, rule_gone: false, ..flow() }.row();
        assert_eq!((&*adopted[5], &*adopted[8]), ("established (adopted)", "(no rule)"));
        assert_eq!(Listed { adopted: true, state: "adopted", ..flow() }.row()[5], "adopted");
    }

    #[test]
    fn filters_look_at_both_ends() {
        let all = || Wanted { interface: None, address: None, port: None, established: false };
        for (wanted, fits) in [
            (all(), true),
            (Wanted { port: Some(40000), ..all() }, true),
            (Wanted { port: Some(23), ..all() }, false),
            (Wanted { address: traffic::range("10.0.0.9").ok(), ..all() }, true),
            (Wanted { address: traffic::range("10.0.1.0/24").ok(), ..all() }, false),
            (Wanted { interface: Some("slot 1".to_owned()), ..all() }, true),
            (Wanted { interface: Some("web".to_owned()), ..all() }, false),
            (Wanted { established: true, ..all() }, true),
        ] {
            assert_eq!(wanted.fits(&flow()), fits, "{wanted:?}");
        }
        let opening = Listed { established: false, ..flow() };
        assert!(!Wanted { established: true, ..all() }.fits(&opening));
    }
}
