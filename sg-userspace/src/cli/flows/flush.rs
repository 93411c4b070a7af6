//! `sgctl flows flush`: tracked conversations that are to be judged anew.

use serde::Serialize;

use super::super::{Exit, Format, Global, output, traffic};
use super::Listed;
use super::selection::{PeerArgument, Selection};
use crate::kernel::live::Live;
use crate::kernel::{Paths, flush};

/// Forget tracked flows
///
/// Their next packet is judged as any other that belongs to no flow: what the rules allow may open it again, what
/// they no longer allow ends. Each option narrows; a flow must fit all that are given.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
#[command(after_help = "\
Examples:
  sgctl flows flush --group web --port 22
  sgctl flows flush --interface db-1 --peer 198.51.100.0/24 --protocol tcp
  sgctl flows flush --peer group:bastion
  sgctl flows flush --all")]
pub(super) struct Arguments {
    /// Of the members of this group; VPC/GROUP where several VPCs have one of the name
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// With this other end: an address, a range, a prefix list's or a group's (group:NAME)
    #[arg(long, value_name = "PEER", value_parser = PeerArgument::parse)]
    peer: Option<PeerArgument>,
    /// With this port at one end
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Of this interface
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Of this protocol: a name or number
    #[arg(long, value_name = "PROTOCOL", value_parser = traffic::protocol)]
    protocol: Option<u8>,
    /// Every flow
    #[arg(long, conflicts_with_all = ["group", "peer", "port", "interface", "protocol"])]
    all: bool,
}

/// What `flows flush -o json` prints.
#[derive(Debug, Serialize)]
struct Flushed {
    /// How many flows went.
    forgotten: usize,
    /// As they were.
    flows: Vec<Listed>,
}

pub(super) fn run(
    arguments: &Arguments,
    paths: &Paths,
    live: &Live,
    global: Global,
) -> anyhow::Result<Exit> {
    let policy = crate::policy::load(&live.source.path, &live.source.text)?.policy;
    let mut selection = Selection::of_traffic(arguments.protocol, arguments.port);
    if let Some(name) = &arguments.interface {
        selection.interface(&live.tables, name)?;
    }
    if let Some(name) = &arguments.group {
        selection.group(&live.tables, &policy, name)?;
    }
    if let Some(peer) = &arguments.peer {
        selection.peer(&live.tables, &policy, peer)?;
    }
    let gone = flush::flows(paths, |flow| selection.fits(&live.tables, flow))?;
    let names = live.names();
    let flows: Vec<_> = gone.iter().map(|flow| Listed::new(flow, &names)).collect();
    match global.output {
        Format::Json => output::print_json(&Flushed { forgotten: flows.len(), flows })?,
        Format::Text => output::print(&match flows.len() {
            1 => "1 flow forgotten\n".to_owned(),
            many => format!("{many} flows forgotten\n"),
        })?,
    }
    Ok(Exit::Yes)
}
