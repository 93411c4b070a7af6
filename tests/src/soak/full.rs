//! Changes that do not fit: into the tables as they were made, and into what is left of them.

use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key};

use super::{
    Measured, Options,
    policies::{self, Extras, Probe},
};
use crate::{process::Output, sgctl::Sgctl};

/// More than fits, by the option that sizes the table, and the map that somebody else has filled.
struct Growth {
    option: &'static str,
    map: &'static str,
    extras: fn(count: u16) -> Extras,
}

const GROWTHS: &[Growth] = &[
    Growth {
        option: "--max-members",
        map: "HOSTS_V4",
        extras: |count| members("10.77.200.", count),
    },
    Growth {
        option: "--max-members",
        map: "HOSTS_V6",
        extras: |count| members("fd77:200::", count),
    },
    Growth {
        option: "--max-cidrs",
        map: "CIDRS_V4",
        extras: |count| cidrs(count, "192.0.", ".0/24"),
    },
    Growth {
        option: "--max-cidrs",
        map: "CIDRS_V6",
        extras: |count| cidrs(count, "2001:db8:", "::/48"),
    },
    Growth { option: "--max-permits", map: "PERMITS", extras: ports },
    Growth { option: "--max-own-addresses", map: "OWN_V4", extras: |count| own("10.77.2.", count) },
    Growth { option: "--max-own-addresses", map: "OWN_V6", extras: |count| own("fd77:2::", count) },
    // One table for the addresses of all others, and one by number: neither is filled by somebody else.
    Growth { option: "--max-addresses", map: "", extras: |count| members("10.77.200.", count) },
    Growth { option: "--max-rules", map: "", extras: ports },
];

/// A group that is named, and its members.
fn members(network: &str, count: u16) -> Extras {
    let line = |index| {
        format!(
            "      - {{name: more-{index}, addresses: [\"{network}{index}\"], groups: [more]}}\n"
        )
    };
    Extras {
        groups: "      - name: more\n".to_owned(),
        rules: "          - {protocol: udp, ports: 7, from: {group: more}}\n".to_owned(),
        interfaces: (1..=count).map(line).collect(),
        ..Extras::default()
    }
}

fn cidrs(count: u16, before: &str, behind: &str) -> Extras {
    let all: Vec<_> = (1..=count).map(|index| format!("\"{before}{index}{behind}\"")).collect();
    let rules = format!("          - {{protocol: udp, ports: 7, from: [{}]}}\n", all.join(", "));
    Extras { rules, ..Extras::default() }
}

/// Not next to one another: neighbours share a permit.
fn ports(count: u16) -> Extras {
    let all: Vec<_> = (1..=count).map(|index| (20_000 + 2 * index).to_string()).collect();
    let rules =
        format!("          - {{protocol: udp, ports: [{}], from: 10.77.1.0/24}}\n", all.join(", "));
    Extras { rules, ..Extras::default() }
}

fn own(network: &str, count: u16) -> Extras {
    let address = |index| format!(", \"{network}{}\"", 100 + index);
    Extras { own: (1..=count).map(address).collect(), ..Extras::default() }
}

/// How much more is asked for where it does not fit, and where it would.
const TOO_MUCH: u16 = 40;
const SOME: u16 = 4;

pub(super) fn full(_options: Options) -> Result<Measured> {
    let (mut refused, mut met) = (0, 0);
    for growth in GROWTHS {
        let what = || format!("{} {}", growth.option, growth.map);
        let net = policies::net()?;
        // While it changes a table holds what goes and what comes.
        let size = 2 * needed(&net, growth.option).with_context(what)? + u64::from(SOME) * 3;
        let scenario = policies::attach(&net, &[growth.option, &size.to_string()])?;
        let sgctl = scenario.controller("one");
        let probe = Probe::open(&net)?;
        let apply = |count| -> Result<Output> {
            let text = policies::with(2, &(growth.extras)(count));
            let path = sgctl.policy("more.yaml", &text)?;
            sgctl.run(["apply", path.to_str().context("a path in UTF-8")?])
        };
        let before = state(sgctl)?;
        let output = apply(TOO_MUCH)?;
        ensure!(output.code == Some(1), "{}: {output:?}", what());
        ensure!(output.stderr.contains(growth.option), "{}: {output:?}", what());
        ensure!(probe.policy()? == 1 && state(sgctl)? == before, "{}", what());
        refused += 1;
        if !growth.map.is_empty() {
            fill(sgctl, growth.map).with_context(what)?;
            let output = apply(SOME)?;
            ensure!(output.code == Some(1), "{}: {output:?}", what());
            ensure!(probe.policy()? == 1 && state(sgctl)? == before, "{}", what());
            met += 1;
        }
        apply(SOME)?.ok().with_context(what)?;
        ensure!(probe.policy()? == 2, "{}", what());
    }
    Ok(Measured {
        numbers: format!(
            "{refused} changes that do not fit and {met} that meet a full map: exit 1, old policy whole, and the next that fits is made"
        ),
        passed: true,
    })
}

/// How large a table must be for the first policy, as the refusal of a smaller one says.
fn needed(net: &crate::net::Net, option: &str) -> Result<u64> {
    let Err(error) = policies::attach(net, &[option, "1"]) else { return Ok(1) };
    let text = format!("{error:#}");
    let number = text.split("would hold ").nth(1).and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).with_context(|| text.clone())
}

/// What must stay: number of the policy, entries of the tables, length of the history.
fn state(sgctl: &Sgctl<'_>) -> Result<(serde_json::Value, serde_json::Value, usize)> {
    let status = sgctl.json(&["status"])?;
    let history = sgctl.json(&["history"])?;
    let tables = status["tables"].as_array().context("tables")?;
    // Flows come and go with every probe.
    let is_policy = |table: &&serde_json::Value| {
        let name = table["table"].as_str().unwrap_or_default();
        !name.starts_with("flows") && !name.starts_with("opening")
    };
    let tables = tables.iter().filter(is_policy).cloned().collect();
    let entries = history.as_array().context("history")?.len();
    Ok((status["number"].clone(), serde_json::Value::Array(tables), entries))
}

/// Fills what is left of a map with entries of nobody's.
fn fill(sgctl: &Sgctl<'_>, name: &str) -> Result<()> {
    let map = || -> Result<Map> {
        let mut versions = std::fs::read_dir(sgctl.pins())?;
        let version = versions.next().context("pins")??.path();
        Ok(Map::from_map_data(MapData::from_pin(version.join("maps").join(name))?)?)
    };
    match name {
        "HOSTS_V4" => hash::<8>(map()?),
        "HOSTS_V6" => hash::<20>(map()?),
        "CIDRS_V4" | "OWN_V4" => trie::<8>(map()?),
        "CIDRS_V6" | "OWN_V6" => trie::<20>(map()?),
        _ => trie::<12>(map()?),
    }
}

/// Of a number space that no VPC, slot or policy is in.
fn key<const N: usize>(index: u32) -> [u8; N] {
    let mut key = [0; N];
    key[..4].fill(0xee);
    key[N - 4..].copy_from_slice(&index.to_be_bytes());
    key
}

const MOST: u32 = 1 << 16;

fn hash<const N: usize>(map: Map) -> Result<()>
where
    [u8; N]: aya::Pod,
{
    let mut map = HashMap::<_, [u8; N], u32>::try_from(map)?;
    until_full(|index| map.insert(key(index), 0, 0))
}

fn trie<const N: usize>(map: Map) -> Result<()>
where
    [u8; N]: aya::Pod,
{
    let mut map = LpmTrie::<_, [u8; N], u32>::try_from(map)?;
    let bits = u32::try_from(N * 8)?;
    until_full(|index| map.insert(&Key::new(bits, key(index)), 0, 0))
}

fn until_full(mut insert: impl FnMut(u32) -> Result<(), MapError>) -> Result<()> {
    let full = (0..MOST).any(|index| insert(index).is_err());
    ensure!(full, "the map has room for {MOST} more");
    Ok(())
}
