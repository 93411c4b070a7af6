//! `seeds OUT [CAPTURES]`: the inputs that fuzzing begins with, from the packets of the cases and of captures.
//!
//! `OUT/parser` gets a file a frame; `OUT/decide` a file a case or capture, in the format that
//! `fuzz/fuzz_targets/decide.rs` reads.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use sg_common::{Direction, LinkLayer};
use sg_userspace::replay::Capture;

/// No history is longer: libFuzzer learns more from many short inputs.
const PACKETS: usize = 24;
/// Policies of the target, times the sides.
const POLICIES: u8 = 8;
const SECOND: u64 = 1_000_000_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(out) = arguments.next() else { bail!("usage: seeds OUT [CAPTURES]") };
    let mut seeds = Seeds::new(&out)?;
    for case in tests::case::files()?.iter().flat_map(|file| &file.cases) {
        let records: Vec<_> =
            case.packets().map(|packet| record(packet, LinkLayer::Ethernet)).collect();
        let frames: Vec<_> = case.packets().map(|(_, _, frame)| frame.to_vec()).collect();
        seeds.add(&frames, &records)?;
    }
    if let Some(folder) = arguments.next() {
        captures(&folder, &mut seeds)?;
    }
    println!("{} frames, {} histories in {}", seeds.frames, seeds.histories, out.display());
    Ok(())
}

/// The two folders, and how many files they hold.
struct Seeds {
    parser: PathBuf,
    decide: PathBuf,
    frames: usize,
    histories: usize,
}

impl Seeds {
    fn new(out: &Path) -> Result<Self> {
        let [parser, decide] = ["parser", "decide"].map(|target| out.join(target));
        for folder in [&parser, &decide] {
            fs::create_dir_all(folder)?;
        }
        Ok(Self { parser, decide, frames: 0, histories: 0 })
    }

    fn add(&mut self, frames: &[Vec<u8>], records: &[Vec<u8>]) -> Result<()> {
        for frame in frames {
            self.frames += 1;
            fs::write(self.parser.join(format!("{:05}", self.frames)), frame)?;
        }
        for part in records.chunks(PACKETS) {
            self.histories += 1;
            // Each at another policy: which one a case was written for does not matter here.
            let policy = u8::try_from(self.histories % usize::from(POLICIES))?;
            let input = [&[policy][..], &part.concat()].concat();
            fs::write(self.decide.join(format!("{:05}", self.histories)), input)?;
        }
        Ok(())
    }
}

/// One packet of a history.
fn record((pause, direction, frame): (u64, Direction, &[u8]), link: LinkLayer) -> Vec<u8> {
    let pause = match pause / SECOND {
        0 => 0,
        1..20 => 1,
        20..60 => 2,
        _ => 3,
    };
    let without_link = u8::from(link == LinkLayer::Ip) << 3;
    let frame = &frame[..frame.len().min(usize::from(u16::MAX))];
    let length = u16::try_from(frame.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[direction as u8 | pause << 1 | without_link][..], &length, frame].concat()
}

/// The first packets of every capture below a folder, ingress and egress in turn: their addresses are not the
/// policies', and the fuzzer will change them.
fn captures(folder: &Path, seeds: &mut Seeds) -> Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for path in entries.iter().map(fs::DirEntry::path) {
        if path.is_dir() {
            captures(&path, seeds)?;
            continue;
        }
        // Whatever else lies there is no seed.
        let Ok(capture) = Capture::read(&path) else { continue };
        let packets: Vec<&[u8]> =
            capture.packets.iter().take(PACKETS).map(|packet| packet.bytes.as_slice()).collect();
        let frames: Vec<_> = match capture.link {
            LinkLayer::Ethernet => packets.iter().map(|bytes| bytes.to_vec()).collect(),
            LinkLayer::Ip => Vec::new(),
        };
        let ways = Direction::ALL.into_iter().cycle();
        let records =
            packets.iter().zip(ways).map(|(bytes, way)| record((0, way, bytes), capture.link));
        seeds.add(&frames, &records.collect::<Vec<_>>())?;
    }
    Ok(())
}
