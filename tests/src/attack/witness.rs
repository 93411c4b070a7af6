//! nftables counters in the target's own namespace: what arrives behind our programs, told by somebody else.
//!
//! They count what a flood makes too many for a capture. The netdev hook lies behind XDP and TC.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{netns::Namespace, process};

const LIMIT: Duration = Duration::from_secs(20);

/// Where packets are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'d> {
    /// Everything that a device hands to its host.
    Arriving(&'d str),
    /// What the host itself sends.
    Leaving,
    /// What the host routes from one device to another.
    Forwarded,
}

/// Counters in force; they go with the namespace.
#[derive(Debug)]
pub(crate) struct Witness<'ns> {
    namespace: &'ns Namespace,
}

impl<'ns> Witness<'ns> {
    /// Counters by name, each for the packets that an nftables expression matches.
    pub(crate) fn place(
        namespace: &'ns Namespace,
        counters: &[(Place<'_>, &str, &str)],
    ) -> Result<Self> {
        let witness = Self { namespace };
        let mut text = String::new();
        for (place, name, expression) in counters {
            let (family, hook) = match place {
                Place::Arriving(device) => {
                    ("netdev", format!("ingress device \"{device}\" priority 0"))
                }
                Place::Leaving => ("inet", "output priority 0".to_owned()),
                Place::Forwarded => ("inet", "forward priority 0".to_owned()),
            };
            writeln!(text, "table {family} {name} {{\ncounter {name} {{\n}}\nchain c {{")?;
            writeln!(text, "type filter hook {hook};\n{expression} counter name {name}\n}}\n}}")?;
        }
        witness.nft(&["-f", "-"], &text)?;
        Ok(witness)
    }

    /// How many packets a counter has seen.
    pub(crate) fn count(&self, name: &str) -> Result<u64> {
        let text = self.nft(&["-j", "list", "counters"], "")?;
        let listed: Value = serde_json::from_str(&text).context("nft's JSON")?;
        let counters = listed["nftables"].as_array().into_iter().flatten();
        let mut found = counters.filter(|one| one["counter"]["name"] == name);
        let found = found.next().with_context(|| format!("no counter {name}"))?;
        found["counter"]["packets"].as_u64().context("a counter without packets")
    }

    fn nft(&self, args: &[&str], input: &str) -> Result<String> {
        let mut command = self.namespace.command("nft");
        let output = process::run_with(command.args(args), input, LIMIT)?;
        Ok(output.ok().with_context(|| format!("nft with {input}"))?.stdout)
    }
}

/// Runs nft commands in a namespace.
pub(crate) fn nft(namespace: &Namespace, commands: &str) -> Result<()> {
    Witness { namespace }.nft(&["-f", "-"], commands).map(drop)
}
