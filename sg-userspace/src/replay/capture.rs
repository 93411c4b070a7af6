//! Captures: pcap and pcapng files as packets with a time.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcap::{PcapReader, RawPcapPacket};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgReader};
use sg_common::LinkLayer;

/// A capture, as far as it could be read.
#[derive(Debug)]
pub struct Capture {
    /// What its packets begin with.
    pub link: LinkLayer,
    /// Its packets, in the order of the file.
    pub packets: Vec<CapturedPacket>,
    /// Why reading ended before the end of the file: the packet at fault, from 1, and the reason.
    pub broken: Option<(usize, String)>,
}

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedPacket {
    /// Since the first packet of the capture; never before the packet in front of it.
    pub time: Duration,
    /// The bytes that were kept.
    pub bytes: Vec<u8>,
    /// Length on the wire.
    pub length: u32,
}

/// Why a file is no capture that can be replayed.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened.
    #[error("cannot open {path}")]
    Open {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not even a header.
    #[error("{path} is no pcap or pcapng file: {why}")]
    NoCapture {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// Packets that begin with something else than Ethernet or IP.
    #[error(
        "{path} holds packets of link type {link}, which is neither Ethernet nor raw IP; only those can be replayed"
    )]
    LinkType {
        /// Which.
        path: String,
        /// The link type's name or number.
        link: String,
    },
}

impl Capture {
    /// Reads a file.
    ///
    /// # Errors
    /// [`CaptureError`] when nothing of it can be replayed. A file that breaks off is no error: see
    /// [`Self::broken`].
    pub fn read(path: &Path) -> Result<Self, CaptureError> {
        let name = || path.display().to_string();
        let open = |source| CaptureError::Open { path: name(), source };
        let mut file = File::open(path).map_err(open)?;
        let mut magic = [0; 4];
        let is_ng = file.read_exact(&mut magic).is_ok() && magic == PCAPNG_MAGIC;
        file.seek(SeekFrom::Start(0)).map_err(open)?;
        let raw = if is_ng { read_pcapng(file) } else { read_pcap(file) };
        let raw = raw.map_err(|why| CaptureError::NoCapture { path: name(), why })?;
        let link = link_layer(raw.link).ok_or_else(|| CaptureError::LinkType {
            path: name(),
            link: format!("{:?}", raw.link),
        })?;
        Ok(Self { link, packets: from_first(raw.packets), broken: raw.broken })
    }

    /// How many packets are shorter than they were on the wire.
    #[must_use]
    pub fn cut_short(&self) -> usize {
        let is_cut = |packet: &&CapturedPacket| packet.bytes.len() < packet.length as usize;
        self.packets.iter().filter(is_cut).count()
    }
}

/// Type of a pcapng section header block, the same in both byte orders.
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// A capture before its link type is judged.
struct Raw {
    link: DataLink,
    packets: Vec<CapturedPacket>,
    broken: Option<(usize, String)>,
}

fn link_layer(link: DataLink) -> Option<LinkLayer> {
    // The high half of a pcap file's field says how long a frame check sequence the frames carry.
    let link = DataLink::from(u32::from(link) & 0xffff);
    if link == DataLink::ETHERNET {
        Some(LinkLayer::Ethernet)
    } else if [DataLink::RAW, DataLink::IPV4, DataLink::IPV6].contains(&link)
        // What systems wrote before raw IP had a number of its own.
        || [DataLink::from(12), DataLink::from(14)].contains(&link)
    {
        Some(LinkLayer::Ip)
    } else {
        None
    }
}

fn read_pcap(file: File) -> Result<Raw, String> {
    let mut reader = PcapReader::new(BufReader::new(file)).map_err(|error| error.to_string())?;
    let header = reader.header();
    let nanoseconds = match header.ts_resolution {
        pcap_file::TsResolution::MicroSecond => 1000,
        pcap_file::TsResolution::NanoSecond => 1,
    };
    let mut raw = Raw { link: header.datalink, packets: Vec::new(), broken: None };
    while let Some(packet) = reader.next_raw_packet() {
        match packet {
            Ok(packet) => raw.packets.push(pcap_packet(packet, nanoseconds)),
            Err(error) => {
                raw.broken = Some((raw.packets.len() + 1, error.to_string()));
                break;
            }
        }
    }
    Ok(raw)
}

fn pcap_packet(packet: RawPcapPacket<'_>, nanoseconds: u32) -> CapturedPacket {
    CapturedPacket {
        time: Duration::from_secs(packet.ts_sec.into())
            + Duration::from_nanos(u64::from(packet.ts_frac) * u64::from(nanoseconds)),
        length: packet.orig_len,
        bytes: packet.data.into_owned(),
    }
}

fn read_pcapng(file: File) -> Result<Raw, String> {
    let mut reader = PcapNgReader::new(BufReader::new(file)).map_err(|error| error.to_string())?;
    let mut raw = Raw { link: DataLink::ETHERNET, packets: Vec::new(), broken: None };
    let mut first_link = None;
    let mut units = Vec::new();
    while let Some(block) = reader.next_block() {
        let block = match block {
            Ok(block) => block.into_owned(),
            Err(error) => {
                raw.broken = Some((raw.packets.len() + 1, error.to_string()));
                break;
            }
        };
        match block {
            Block::InterfaceDescription(interface) => {
                units.push(unit(&interface));
                let link = *first_link.get_or_insert(interface.linktype);
                if link != interface.linktype {
                    raw.broken = Some((
                        raw.packets.len() + 1,
                        format!("a second link type, {:?}", interface.linktype),
                    ));
                    break;
                }
            }
            Block::EnhancedPacket(packet) => raw.packets.push(CapturedPacket {
                time: scaled(packet.timestamp, &units, packet.interface_id),
                length: packet.original_len,
                bytes: packet.data.into_owned(),
            }),
            Block::SimplePacket(packet) => raw.packets.push(CapturedPacket {
                time: raw.packets.last().map_or(Duration::ZERO, |last| last.time),
                length: packet.original_len,
                bytes: packet.data.into_owned(),
            }),
            // Names, statistics, comments.
            Block::SectionHeader(_)
            | Block::Packet(_)
            | Block::NameResolution(_)
            | Block::InterfaceStatistics(_)
            | Block::SystemdJournalExport(_)
            | Block::Unknown(_) => {}
        }
    }
    raw.link = first_link.unwrap_or(raw.link);
    Ok(raw)
}

/// Nanoseconds in the unit of an interface's times; microseconds unless it says otherwise (pcapng,
/// option if_tsresol).
fn unit(interface: &InterfaceDescriptionBlock<'_>) -> f64 {
    let resolution = interface.options.iter().find_map(|option| {
        let InterfaceDescriptionOption::IfTsResol(resolution) = option else { return None };
        Some(*resolution)
    });
    let resolution = resolution.unwrap_or(6);
    let exponent = i32::from(resolution & 0x7f);
    let base = if resolution & 0x80 == 0 { 10_f64 } else { 2_f64 };
    1e9 / base.powi(exponent)
}

/// A time in its interface's unit: the library takes every number for nanoseconds.
fn scaled(time: Duration, units: &[f64], interface: u32) -> Duration {
    let unit = usize::try_from(interface).ok().and_then(|index| units.get(index)).copied();
    time.mul_f64(unit.unwrap_or(1000.0))
}

/// Times from the first packet on, never backwards: the engine's clock is monotonic.
fn from_first(mut packets: Vec<CapturedPacket>) -> Vec<CapturedPacket> {
    let Some(first) = packets.first().map(|packet| packet.time) else { return packets };
    let mut latest = Duration::ZERO;
    for packet in &mut packets {
        latest = packet.time.saturating_sub(first).max(latest);
        packet.time = latest;
    }
    packets
}
