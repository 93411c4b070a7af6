//! The policies under `examples/`, put on the devices of a test network.
//!
//! A file is used as it stands but for two words of each interface: on which device it is, and which
//! side that makes it. So what the tests prove holds for the files that operators copy.

use std::{env, fmt, fs, net::IpAddr, path::PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use sg_userspace::policy::{self, Policy, model::Vpc};

use crate::net::{Builder, DEVICE, Net};

/// Which end of a device is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `eth0` inside the host's own namespace.
    Host,
    /// The wire's end of the host's veth.
    Workload,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Workload => "workload",
        })
    }
}

/// A policy file whose interfaces carry the names of hosts.
#[derive(Debug, Clone)]
pub struct Example {
    name: String,
    text: String,
    policy: Policy,
}

impl Example {
    /// Reads `examples/NAME.yaml`.
    ///
    /// # Errors
    /// When it is not there or `sgctl validate` would refuse it.
    pub fn read(name: &str) -> Result<Self> {
        let path = directory().join(name).with_extension("yaml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::new(name, text)
    }

    /// A policy of the test's own.
    ///
    /// # Errors
    /// When `sgctl validate` would refuse it.
    pub fn new(name: &str, text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let loaded = policy::load(name, &text).map_err(|rejected| {
            let errors = rejected.diagnostics.render(policy::Style::OneLine);
            anyhow::anyhow!("{rejected}\n{errors}")
        })?;
        Ok(Self { name: name.to_owned(), text, policy: loaded.policy })
    }

    /// The same after an edit, as an operator would make it.
    ///
    /// # Errors
    /// When `before` does not occur exactly once, or the result is refused.
    pub fn edited(&self, before: &str, after: &str) -> Result<Self> {
        let found = self.text.matches(before).count();
        ensure!(found == 1, "{}: {before:?} occurs {found} times", self.name);
        Self::new(&self.name, self.text.replace(before, after))
    }

    /// The same without `tests:`, for edits that make it do what its tests forbid.
    ///
    /// # Errors
    /// When it has none.
    pub fn without_tests(&self) -> Result<Self> {
        let (before, _) = self.text.split_once("\ntests:").context("no `tests:` to leave out")?;
        Self::new(&self.name, format!("{before}\n"))
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Interfaces that name a device, in the order of the file.
    pub fn protected(&self) -> impl Iterator<Item = &str> {
        let interfaces = self.policy.vpcs.iter().flat_map(|vpc| &vpc.interfaces);
        interfaces.filter(|one| !one.devices.is_empty()).map(|one| one.name.as_str())
    }

    /// The text for a machine that has `device` of `side` for `interface`, for each that it is asked
    /// about; the others live elsewhere.
    ///
    /// # Errors
    /// When an interface with a device does not stand on one line, `- {name: N, ..., device: D, ...}`.
    pub fn placed(&self, device: impl Fn(&str) -> Option<(String, Side)>) -> Result<String> {
        let mut text = String::new();
        let mut left: Vec<_> = self.protected().collect();
        for line in self.text.lines() {
            let name = interface_name(line).filter(|_| line.contains(", device: "));
            if let Some(name) = name {
                left.retain(|one| *one != name);
                text += &rewritten(line, device(name))?;
            } else {
                text += line;
            }
            text.push('\n');
        }
        ensure!(left.is_empty(), "{}: not on one line: {}", self.name, left.join(", "));
        Ok(text)
    }

    /// The text for the machine that is host `interface`: it has one device, its own.
    ///
    /// # Errors
    /// As [`Self::placed`].
    pub fn on_host(&self, interface: &str) -> Result<String> {
        self.placed(|name| (name == interface).then(|| (DEVICE.to_owned(), Side::Host)))
    }

    /// The text for the machine that carries every host, as virtual machines or containers.
    ///
    /// # Errors
    /// As [`Self::placed`].
    pub fn on_carrier(&self, net: &Net) -> Result<String> {
        self.placed(|name| Some((net.host(name).port().to_owned(), Side::Workload)))
    }

    /// A network with a host for every interface, a bridge for every subnet, and hosts `outside`.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn net(&self, outside: &[(&str, &[&str])]) -> Result<Net> {
        let mut places: Vec<Place> = Vec::new();
        for vpc in &self.policy.vpcs {
            for interface in &vpc.interfaces {
                let addresses: Vec<_> = interface.addresses.iter().map(IpNet::addr).collect();
                places.push(Place::new(&interface.name, &addresses, &vpc.subnets));
            }
        }
        for (name, addresses) in outside {
            let addresses = addresses
                .iter()
                .map(|address| address.parse().with_context(|| format!("address {address}")))
                .collect::<Result<Vec<IpAddr>>>()?;
            places.push(Place::new(name, &addresses, &[]));
        }
        build(&places).build()
    }

    /// The VPCs, for what a test wants to know of them.
    #[must_use]
    pub fn vpcs(&self) -> &[Vpc] {
        &self.policy.vpcs
    }
}

/// Beside the package: at run time first, because with a shared target directory the compiled-in
/// path may be that of another clone.
fn directory() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| PathBuf::from("."), PathBuf::from).join("examples")
}

/// `web` of `      - {name: web, ...}`.
fn interface_name(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("- {name: ")?;
    rest.split([',', '}']).next()
}

fn rewritten(line: &str, device: Option<(String, Side)>) -> Result<String> {
    let mut line = without(&without(line, "device"), "side");
    let Some(end) = line.rfind('}') else { bail!("no `}}` in {line}") };
    if let Some((device, side)) = device {
        line.insert_str(end, &format!(", device: {device}, side: {side}"));
    }
    Ok(line)
}

/// A line without `, KEY: WORD`.
fn without(line: &str, key: &str) -> String {
    let key = format!(", {key}: ");
    let Some((before, value)) = line.split_once(&key) else { return line.to_owned() };
    let end = value.find([',', '}']).unwrap_or(value.len());
    format!("{before}{}", &value[end..])
}

/// A host and the gateways of its subnets.
struct Place {
    name: String,
    addresses: Vec<String>,
    gateways: Vec<String>,
}

impl Place {
    fn new(name: &str, addresses: &[IpAddr], subnets: &[IpNet]) -> Self {
        Self {
            name: name.to_owned(),
            addresses: addresses.iter().map(IpAddr::to_string).collect(),
            gateways: addresses.iter().map(|address| gateway(*address, subnets)).collect(),
        }
    }
}

/// The first address of the subnet; outside any, of the /24 or /64.
fn gateway(address: IpAddr, subnets: &[IpNet]) -> String {
    let length = if address.is_ipv4() { 24 } else { 64 };
    let usual = IpNet::new_assert(address, length);
    let subnet = subnets.iter().find(|subnet| subnet.contains(&address)).unwrap_or(&usual);
    match subnet.network() {
        IpAddr::V4(base) => {
            format!("{}/{}", std::net::Ipv4Addr::from_bits(base.to_bits() + 1), subnet.prefix_len())
        }
        IpAddr::V6(base) => {
            format!("{}/{}", std::net::Ipv6Addr::from_bits(base.to_bits() + 1), subnet.prefix_len())
        }
    }
}

fn build(places: &[Place]) -> Builder {
    let mut builder = Net::builder();
    let mut segments: Vec<&[String]> = Vec::new();
    for place in places {
        let words =
            |list: &'_ [String]| list.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let segment = words(&place.gateways);
        if !segments.contains(&place.gateways.as_slice()) {
            segments.push(&place.gateways);
            let gateways: Vec<_> = place.gateways.iter().map(String::as_str).collect();
            builder = builder.segment(&segment, &gateways);
        }
        let addresses: Vec<_> = place.addresses.iter().map(String::as_str).collect();
        builder = builder.host(&place.name, &segment, &addresses);
    }
    builder
}

#[cfg(test)]
mod tests {
    use super::{Side, rewritten};

    #[test]
    fn a_line_gets_another_device_or_none() {
        let line = "  - {name: a, addresses: [10.0.0.1], device: tap-a, side: workload, mac: x}";
        assert_eq!(
            rewritten(line, Some(("eth0".to_owned(), Side::Host))).expect("a line"),
            "  - {name: a, addresses: [10.0.0.1], mac: x, device: eth0, side: host}"
        );
        assert_eq!(
            rewritten(line, None).expect("a line"),
            "  - {name: a, addresses: [10.0.0.1], mac: x}"
        );
    }
}
