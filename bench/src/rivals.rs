//! What a user would pick instead, each in its best form for the same policy: established flows first, sets and
//! verdict maps instead of lists of rules, no counter but that of drops, by which they are held to what they claim.

use std::time::Duration;

use ::tests::net::DEVICE;
use ::tests::netns::Namespace;
use ::tests::{nft, process};
use anyhow::{Context as _, Result};
use ipnet::IpNet;

/// The table of each ruleset, and its counter of drops.
const TABLE: &str = "bench";
const LIMIT: Duration = Duration::from_secs(20);

/// One packet filter, loaded into a namespace; gone with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rival {
    /// nftables with connection tracking at the hook `input`.
    NftInput,
    /// nftables at a device's hook `ingress`, without connection tracking: what begins a flow that no rule allows is
    /// dropped before anything else sees it, and everything else passes.
    NftIngress,
    /// iptables with connection tracking, and ipset.
    Iptables,
}

/// Ports that are open: protocol, port, and who may come.
pub(crate) struct Open<'a> {
    pub(crate) protocol: &'static str,
    pub(crate) port: u16,
    pub(crate) from: &'a [IpNet],
}

impl Rival {
    /// Loads it: what is not open is dropped.
    pub(crate) fn load(self, namespace: &Namespace, open: &[Open<'_>]) -> Result<()> {
        match self {
            Self::NftInput => nft::load(namespace, &input(open)),
            Self::NftIngress => nft::load(namespace, &ingress(open)),
            Self::Iptables => iptables(namespace, open),
        }
    }

    /// Packets that it has dropped.
    pub(crate) fn dropped(self, namespace: &Namespace) -> Result<u64> {
        let mut command = match self {
            Self::NftInput => namespace.command("nft"),
            Self::NftIngress => namespace.command("nft"),
            Self::Iptables => namespace.command("iptables"),
        };
        match self {
            Self::NftInput => command.args(["list", "counter", "inet", TABLE, "dropped"]),
            Self::NftIngress => command.args(["list", "counter", "netdev", TABLE, "dropped"]),
            Self::Iptables => command.args(["-L", "INPUT", "-n", "-v", "-x"]),
        };
        let listed = process::run(&mut command, LIMIT)?.ok()?.stdout;
        let word = if self == Self::Iptables { "DROP " } else { "packets " };
        number_behind(&listed, word).with_context(|| format!("no counter in {listed}"))
    }
}

/// The number behind a word.
fn number_behind(text: &str, word: &str) -> Option<u64> {
    let (_, rest) = text.split_once(word)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// A verdict map of open ports a protocol; a port that is not open to everybody leads to a chain that looks for the
/// peer in a set.
#[derive(Default)]
struct Ports {
    sets: String,
    chains: String,
    rules: String,
}

impl Ports {
    fn of(open: &[Open<'_>]) -> Self {
        let mut ports = Self::default();
        for wanted in ["tcp", "udp"] {
            let mut verdicts = Vec::new();
            for Open { protocol, port, from } in open.iter().filter(|one| one.protocol == wanted) {
                if from.iter().any(|from| from.prefix_len() == 0) {
                    verdicts.push(format!("{port} : accept"));
                    continue;
                }
                let name = format!("{protocol}_{port}");
                let from: Vec<_> = from.iter().map(IpNet::to_string).collect();
                ports.sets += &format!(
                    "set peers_{name} {{ type ipv4_addr; flags interval; elements = {{ {} }}; }}\n",
                    from.join(", ")
                );
                ports.chains += &format!(
                    "chain {name} {{ ip saddr @peers_{name} accept; counter name dropped drop; }}\n"
                );
                verdicts.push(format!("{port} : goto {name}"));
            }
            if !verdicts.is_empty() {
                ports.rules += &format!("{wanted} dport vmap {{ {} }}\n", verdicts.join(", "));
            }
        }
        ports
    }
}

fn input(open: &[Open<'_>]) -> String {
    let Ports { sets, chains, rules } = Ports::of(open);
    format!(
        "table inet {TABLE} {{\n{sets}counter dropped {{ }}\n{chains}chain input {{\n\
         type filter hook input priority filter; policy accept;\n\
         ct state vmap {{ established : accept, related : accept }}\n{rules}\
         counter name dropped drop\n}}\n}}\n"
    )
}

fn ingress(open: &[Open<'_>]) -> String {
    let Ports { sets, chains, rules } = Ports::of(open);
    // What is no SYN may be an answer: this hook does not know.
    format!(
        "table netdev {TABLE} {{\n{sets}counter dropped {{ }}\n{chains}chain ingress {{\n\
         type filter hook ingress device {DEVICE} priority -500; policy accept;\n\
         tcp flags & (fin | syn | rst | ack) != syn accept\n{rules}\
         counter name dropped drop\n}}\n}}\n"
    )
}

fn iptables(namespace: &Namespace, open: &[Open<'_>]) -> Result<()> {
    let run = |program: &str, arguments: &[&str]| -> Result<()> {
        let mut command = namespace.command(program);
        process::run(command.args(arguments), LIMIT)?.ok().map(|_output| ())
    };
    let established = ["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"];
    run("iptables", &[&["-A", "INPUT"], &established[..]].concat())?;
    for Open { protocol, port, from } in open {
        let (set, port) = (format!("{TABLE}-{protocol}-{port}"), port.to_string());
        let mut rule = vec!["-A", "INPUT", "-p", protocol, "--dport", &port];
        if from.iter().all(|from| from.prefix_len() > 0) {
            run("ipset", &["create", &set, "hash:net"])?;
            for block in *from {
                run("ipset", &["add", &set, &block.to_string()])?;
            }
            rule.extend(["-m", "set", "--match-set", &set, "src"]);
        }
        rule.extend(["-j", "ACCEPT"]);
        run("iptables", &rule)?;
    }
    run("iptables", &["-P", "INPUT", "DROP"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_no_set() {
        let (all, some) = (["0.0.0.0/0".parse().unwrap()], ["10.0.0.0/9".parse().unwrap()]);
        let open = [
            Open { protocol: "tcp", port: 443, from: &all },
            Open { protocol: "udp", port: 53, from: &some },
        ];
        let text = input(&open);
        assert!(text.contains("\ntcp dport vmap { 443 : accept }\n"), "{text}");
        assert!(text.contains("\nudp dport vmap { 53 : goto udp_53 }\n"), "{text}");
        assert!(text.contains("set peers_udp_53 { type ipv4_addr; flags interval; "), "{text}");
        assert!(text.contains("elements = { 10.0.0.0/9 };"), "{text}");
        assert!(!text.contains("peers_tcp"), "{text}");
    }

    #[test]
    fn counters_are_read() {
        let nft = "table inet bench {\n\tcounter dropped {\n\t\tpackets 12 bytes 720\n\t}\n}\n";
        assert_eq!(number_behind(nft, "packets "), Some(12));
        let iptables = "Chain INPUT (policy DROP 34 packets, 2040 bytes)\n    pkts bytes target\n";
        assert_eq!(number_behind(iptables, "DROP "), Some(34));
        assert_eq!(number_behind("", "packets "), None);
    }
}
