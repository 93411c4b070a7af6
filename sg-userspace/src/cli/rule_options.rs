//! A rule as options of the command line, turned into the rule as a file has it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use sg_common::Direction;

use super::{duration, edit};
use crate::policy::fragment::{list, scalar};
use crate::policy::model::Vpc;
use crate::policy::{self, Fragment};

/// Which rule.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RuleOptions {
    /// What passes, by AWS's name: ssh, http, https, postgresql, ...
    #[arg(long = "type", value_name = "TYPE", conflicts_with_all = ["protocol", "port"])]
    shorthand: Option<String>,
    /// What passes: tcp, udp, icmp, icmpv6, sctp, all, or a number from 0 to 255
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// Destination ports of tcp, udp or sctp, such as 443 or 8000-8080,9000; every port unless given
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    port: Vec<String>,
    /// Type of icmp or icmpv6; any unless given
    #[arg(long, value_name = "NUMBER")]
    icmp_type: Option<String>,
    /// Code of icmp or icmpv6; any unless given
    #[arg(long, value_name = "NUMBER", requires = "icmp_type")]
    icmp_code: Option<String>,
    /// Ingress, who may send: an address, a CIDR block, a group, a prefix list, or `my-ip`, the address that
    /// this ssh session comes from. `group:NAME` and `prefix-list:NAME` say which is meant
    #[arg(long, value_name = "PEER", conflicts_with = "to")]
    from: Vec<String>,
    /// Egress, who may receive
    #[arg(long, value_name = "PEER")]
    to: Vec<String>,
    /// Said by --from already
    #[arg(long, requires = "from", conflicts_with = "to")]
    ingress: bool,
    /// Said by --to already
    #[arg(long, requires = "to", conflicts_with = "from")]
    egress: bool,
}

/// What the rule has besides.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Extras {
    /// Free text
    #[arg(short, long, value_name = "TEXT")]
    description: Option<String>,
    /// The rule goes by itself after this time, such as 30m or 8h
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
}

/// A rule as a file has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Which way.
    pub(super) direction: Direction,
    /// As it was given, for the reader of files, who has a word about host bits.
    pub(super) rule: String,
    /// As it is taken, without them.
    pub(super) taken_as: String,
}

impl RuleOptions {
    /// Whether anything is given.
    pub(super) fn is_empty(&self) -> bool {
        self.shorthand.is_none()
            && self.protocol.is_none()
            && self.port.is_empty()
            && self.from.is_empty()
            && self.to.is_empty()
    }

    /// The rule of a group of this VPC.
    pub(super) fn written(&self, vpc: &Vpc, extras: &Extras) -> anyhow::Result<Written> {
        let (direction, key, peers) = match (&self.from[..], &self.to[..]) {
            ([], []) => bail!("say who: --from for ingress, --to for egress"),
            (from, []) => (Direction::Ingress, "from", from),
            (_, to) => (Direction::Egress, "to", to),
        };
        let packets = self.packets()?;
        let peers = peers.iter().map(|text| peer(text, vpc)).collect::<anyhow::Result<Vec<_>>>()?;
        let expires = extras.timeout.map(moment).transpose()?;
        let rule = |peers: Vec<String>| {
            let mut rule = match &peers[..] {
                [only] => packets.clone().with(key, only),
                _ => packets.clone().with(key, list(peers)),
            };
            if let Some(description) = &extras.description {
                rule = rule.text("description", description);
            }
            if let Some(expires) = &expires {
                rule = rule.text("expires", expires);
            }
            rule.to_string()
        };
        let (as_given, taken): (Vec<_>, Vec<_>) = peers.into_iter().unzip();
        Ok(Written { direction, rule: rule(as_given), taken_as: rule(taken) })
    }

    fn packets(&self) -> anyhow::Result<Fragment> {
        let mut rule = match (&self.shorthand, &self.protocol) {
            (Some(shorthand), _) => Fragment::new().text("type", shorthand),
            (None, Some(protocol)) => Fragment::new().with("protocol", number(protocol)),
            (None, None) if self.port.is_empty() => bail!("say what: --type or --protocol"),
            (None, None) => bail!("ports of what? add --protocol tcp, udp or sctp"),
        };
        let ports: Vec<String> = self.port.iter().map(|port| number(port)).collect();
        rule = match &ports[..] {
            [] => rule,
            [only] => rule.with("ports", only),
            _ => rule.with("ports", list(ports)),
        };
        for (key, value) in [("icmp_type", &self.icmp_type), ("icmp_code", &self.icmp_code)] {
            if let Some(value) = value {
                rule = rule.with(key, number(value));
            }
        }
        Ok(rule)
    }
}

/// A number or a range of ports as it stands; anything else as text, for the reader to refuse.
fn number(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '-');
    if plain { text.to_owned() } else { scalar(text) }
}

/// A peer as a file has it: as it was given, and as it is taken.
fn peer(text: &str, vpc: &Vpc) -> anyhow::Result<(String, String)> {
    let name = |key, name: &str| {
        let peer = Fragment::new().text(key, name).to_string();
        Ok((peer.clone(), peer))
    };
    if let Some(group) = text.strip_prefix("group:") {
        return name("group", group);
    }
    if let Some(list) = text.strip_prefix("prefix-list:") {
        return name("prefix_list", list);
    }
    if text == edit::MY_IP {
        let block = scalar(&edit::my_ip()?.to_string());
        return Ok((block.clone(), block));
    }
    let is_group = vpc.groups.iter().any(|group| group.name.eq_ignore_ascii_case(text));
    let is_list = vpc.prefix_lists.iter().any(|list| list.name == text);
    let is_block = super::traffic::range(text).is_ok();
    match (is_group, is_list, is_block) {
        (true, false, false) => name("group", text),
        (false, true, false) => name("prefix_list", text),
        (false, false, true) => Ok((scalar(text), scalar(&edit::taken_as(text)))),
        (false, false, false) if text.contains(['.', ':', '/']) => Ok((scalar(text), scalar(text))),
        (false, false, false) => {
            let groups = vpc.groups.iter().map(|group| group.name.as_str());
            let lists = vpc.prefix_lists.iter().map(|list| list.name.as_str());
            let near = policy::did_you_mean(text, groups.chain(lists));
            let near = near.map_or(String::new(), |near| format!(" ({near})"));
            bail!(
                "{text:?} is neither an address nor a CIDR block, and VPC {:?} has no group and no prefix list of \
                 that name{near}",
                vpc.name
            )
        }
        (true, true, _) => bail!(
            "{text:?} is a group and a prefix list; write 'group:{text}' or 'prefix-list:{text}'"
        ),
        (true, false, true) => bail!(
            "{text:?} is an address and a group; write 'group:{text}', or the address with its prefix length"
        ),
        (false, true, true) => bail!(
            "{text:?} is an address and a prefix list; write 'prefix-list:{text}', or the address with its prefix length"
        ),
    }
}

/// The moment when a time that begins now is over, as a file has it.
fn moment(from_now: Duration) -> anyhow::Result<String> {
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    let seconds = i64::try_from((now + from_now).as_secs()).context("a time that far")?;
    Ok(Timestamp::from_second(seconds).context("a time that far")?.to_string())
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn vpc() -> Vpc {
        let text = "vpcs: [{name: v, cidrs: 10.0.0.0/8, \
            prefix_lists: [{name: office, cidrs: []}, {name: both, cidrs: []}, {name: 'a, b', cidrs: []}], \
            security_groups: [{name: web tier}, {name: Both}, {name: 10.0.0.9}]}]";
        let mut policy = policy::load("test.yaml", text).expect("a policy").policy;
        policy.vpcs.remove(0)
    }

    fn fragment(arguments: &[&str]) -> Result<(Direction, String), String> {
        let command = RuleOptions::augment_args(Command::new("rule").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).map_err(|e| e.to_string())?;
        let options = RuleOptions::from_arg_matches(&matches).map_err(|e| e.to_string())?;
        let written = options.written(&vpc(), &Extras::default()).map_err(|e| e.to_string())?;
        assert_eq!(written.rule, written.taken_as, "no host bits");
        Ok((written.direction, written.rule))
    }

    #[test]
    fn options_are_the_rule_of_a_file() {
        use Direction::{Egress, Ingress};
        for (arguments, direction, rule) in [
            (
                &["--type", "ssh", "--from", "office"][..],
                Ingress,
                "{type: ssh, from: {prefix_list: office}}",
            ),
            (
                &["--protocol", "tcp", "--port", "8000-8080,443", "--to", "WEB tier", "--egress"],
                Egress,
                "{protocol: tcp, ports: [8000-8080, 443], to: {group: WEB tier}}",
            ),
            (
                &["--protocol", "47", "--from", "10.0.0.1", "--from", "fd00::/8"],
                Ingress,
                "{protocol: 47, from: [\"10.0.0.1\", \"fd00::/8\"]}",
            ),
            (
                &["--protocol", "icmp", "--icmp-type", "8", "--from", "group:both"],
                Ingress,
                "{protocol: icmp, icmp_type: 8, from: {group: both}}",
            ),
            (
                &["--type", "http", "--from", "prefix-list:a, b"],
                Ingress,
                "{type: http, from: {prefix_list: \"a, b\"}}",
            ),
            // The reader of files refuses these, with a hint.
            (&["--type", "http", "--from", "10.0.0"], Ingress, "{type: http, from: \"10.0.0\"}"),
            (
                &["--protocol", "tcp, ports: 1", "--from", "10.0.0.1/32"],
                Ingress,
                "{protocol: \"tcp, ports: 1\", from: \"10.0.0.1/32\"}",
            ),
        ] {
            assert_eq!(fragment(arguments), Ok((direction, rule.to_owned())), "{arguments:?}");
        }
    }

    #[test]
    fn host_bits_are_given_to_the_reader_and_not_taken() {
        let command = RuleOptions::augment_args(Command::new("rule").no_binary_name(true));
        let arguments = ["--type", "ssh", "--from", "10.77.0.9/24", "--from", "10.1.2.3"];
        let matches = command.try_get_matches_from(arguments).expect("options");
        let options = RuleOptions::from_arg_matches(&matches).expect("options");
        let written = options.written(&vpc(), &Extras::default()).expect("a rule");
        assert_eq!(written.rule, "{type: ssh, from: [\"10.77.0.9/24\", \"10.1.2.3\"]}");
        assert_eq!(written.taken_as, "{type: ssh, from: [\"10.77.0.0/24\", \"10.1.2.3\"]}");
    }

    #[test]
    fn what_is_unclear_is_asked() {
        for (arguments, message) in [
            (&["--type", "ssh"][..], "say who"),
            (&["--from", "10.0.0.1"], "say what"),
            (&["--port", "1", "--from", "10.0.0.1"], "ports of what?"),
            (&["--type", "ssh", "--from", "both"], "'group:both' or 'prefix-list:both'"),
            (&["--type", "ssh", "--from", "10.0.0.9"], "'group:10.0.0.9'"),
            (&["--type", "ssh", "--from", "nobody"], "no group and no prefix list of that name"),
            (&["--type", "ssh", "--from", "ofice"], "of that name (did you mean `office`?)"),
            (&["--type", "ssh", "--from", "a", "--to", "b"], "cannot be used with"),
            (&["--type", "ssh", "--ingress", "--to", "b"], "cannot be used with"),
        ] {
            let error = fragment(arguments).expect_err("unclear");
            assert!(error.contains(message), "{arguments:?}: {error}");
        }
    }
}
