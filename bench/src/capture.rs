//! `--pcap FILE`: any capture, frame-fed, over and over, against whatever the rows of floods are held against.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use ::tests::net::DEVICE;
use ::tests::nft;
use anyhow::{Result, anyhow, ensure};
use sg_common::LinkLayer;
use sg_userspace::policy;
use sg_userspace::replay::Capture;

use crate::floor::{Floor, PARSE};
use crate::paired::{self, Contender, Paired};
use crate::report::{Bound, Measured, Point};
use crate::rows::{Lab, Row};
use crate::subject::{OURS, Subject, compiled, sizes};
use crate::wire::{Attached, Frame, Generator, LONGEST, Receive, Window, Wire};

/// A capture as a row of the report.
pub(crate) struct Replayed {
    frames: Vec<Frame>,
    /// What was left out.
    skipped: usize,
}

/// What becomes of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Allowed {
    Nothing,
    Everything,
}

/// Frames that are kept in the kernel.
const MOST: usize = 1 << 15;
const ETHERNET: usize = 14;
const STATEFUL: &str = "nftables";
const INGRESS: &str = "nftables netdev ingress";

impl Replayed {
    /// Reads it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let capture = Capture::read(path)?;
        let whole = capture.packets.len();
        let of = |bytes: &[u8]| match capture.link {
            LinkLayer::Ethernet => framed(bytes.get(ETHERNET - 2..)?),
            LinkLayer::Ip => framed(&[ethertype(bytes)?, bytes].concat()),
        };
        let frames: Vec<_> =
            capture.packets.iter().filter_map(|packet| of(&packet.bytes)).take(MOST).collect();
        ensure!(!frames.is_empty(), "no frame of {} fits into a device", path.display());
        Ok(Self { skipped: whole - frames.len(), frames })
    }
}

/// The ethertype of a packet that begins with its IP header.
fn ethertype(packet: &[u8]) -> Option<&'static [u8]> {
    match packet.first()? >> 4 {
        4 => Some(&[0x08, 0x00]),
        6 => Some(&[0x86, 0xdd]),
        _ => None,
    }
}

/// A frame from an ethertype on; its addresses are those of the wire, which are written when it is known. None where
/// it is longer than a device takes.
fn framed(from_ethertype: &[u8]) -> Option<Frame> {
    let length = ETHERNET - 2 + from_ethertype.len();
    let mut bytes = [0; LONGEST];
    bytes.get_mut(ETHERNET - 2..length)?.copy_from_slice(from_ethertype);
    // A device takes its MTU, a header and a tag.
    (length <= 1518).then_some(Frame { length: u32::try_from(length).ok()?, bytes })
}

impl Row for Replayed {
    fn number(&self) -> u8 {
        0
    }

    fn title(&self) -> &'static str {
        "capture"
    }

    fn method(&self) -> &'static str {
        "The capture's frames, over and over, as live frames through a veth to the server's MAC address; generator and \
         receiver on different processors. What is allowed goes on into the stack in all cases, which has no use for \
         it and drops it. nftables judges before routing, as the server need not have the capture's addresses."
    }

    fn measure(&self, lab: Lab) -> Result<Measured> {
        let mut measured = Measured::default();
        let frames = self.frames.len();
        measured.note(format!("{frames} frames, {} left out (too long or beyond)", self.skipped));
        for allowed in [Allowed::Nothing, Allowed::Everything] {
            let windows = self.windows(lab, allowed)?;
            let name = match allowed {
                Allowed::Nothing => "nothing allowed",
                Allowed::Everything => "everything allowed",
            };
            for (other, label) in [(PARSE, "X"), (STATEFUL, STATEFUL), (INGRESS, INGRESS)] {
                measured.point(point(&windows, &format!("{name}, ours / {label}"), other)?);
            }
        }
        Ok(measured)
    }
}

impl Replayed {
    fn windows(&self, lab: Lab, allowed: Allowed) -> Result<Paired<Window>> {
        let floor = Floor::new(1)?;
        let subject = subject(allowed)?;
        let x = match allowed {
            Allowed::Nothing => floor.drop_program()?,
            Allowed::Everything => floor.pass_program()?,
        };
        let (mut of_x, mut of_ours) = (Wire::new()?, Wire::new()?);
        let attach = |wire: &Wire, program: std::os::fd::BorrowedFd<'_>| {
            Attached::native(wire.server().ns(), DEVICE, program)
        };
        let _x = of_x.receive(Receive::Xdp, |wire| attach(wire, x.as_fd()))?;
        let _ours = of_ours
            .receive(Receive::Xdp, |wire| attach(wire, subject.judge().borrow().xdp.as_fd()))?;
        let mut others = Vec::new();
        for ruleset in rulesets(allowed) {
            let mut wire = Wire::new()?;
            wire.receive(Receive::Stack, |wire| nft::load(wire.server().ns(), &ruleset))?;
            others.push(wire);
        }
        let names = [PARSE, OURS, STATEFUL, INGRESS];
        let wires = [of_x, of_ours].into_iter().chain(others);
        let mut contenders = Vec::new();
        for (name, wire) in names.into_iter().zip(wires) {
            let mut generator = Generator::replaying(&self.addressed(&wire))?;
            for _ in 0..3 {
                wire.flood(&mut generator, Duration::from_millis(20))?;
            }
            contenders.push(Contender::new(name, move || wire.flood(&mut generator, lab.window())));
        }
        let windows = paired::run(lab.rounds(), contenders)?;
        let judged = subject.totals()?;
        ensure!(
            judged.flow + judged.rule + judged.no_rule + judged.other > 0,
            "nothing was judged"
        );
        Ok(windows)
    }

    /// The frames, from one end of a wire to the other.
    fn addressed(&self, wire: &Wire) -> Vec<Frame> {
        let (to, from) = (wire.server().mac(), wire.server().gateway_mac());
        let addressed = |frame: &Frame| {
            let mut frame = *frame;
            frame.bytes[..6].copy_from_slice(&to);
            frame.bytes[6..12].copy_from_slice(&from);
            frame
        };
        self.frames.iter().map(addressed).collect()
    }
}

fn subject(allowed: Allowed) -> Result<Subject> {
    let loaded =
        policy::load("capture", &text(allowed)).map_err(|rejected| anyhow!("{rejected}"))?;
    let tables = compiled(&loaded.policy, &["server".to_owned()])?;
    let sizes = sizes(&tables, 0);
    Subject::new(&tables, "server", &sizes)
}

/// A policy for an address that no capture has.
fn text(allowed: Allowed) -> String {
    let ingress = match allowed {
        Allowed::Nothing => "[]",
        Allowed::Everything => r#"[{protocol: all, from: [0.0.0.0/0, "::/0"]}]"#,
    };
    format!(
        "vpcs:
  - name: capture
    cidrs: [192.0.2.0/24]
    security_groups:
      - {{name: all, ingress: {ingress}}}
    interfaces:
      - {{name: server, addresses: [192.0.2.1], groups: [all], device: eth0, source_dest_check: false}}
"
    )
}

/// Stateful before routing, and at the device.
fn rulesets(allowed: Allowed) -> [String; 2] {
    let verdict = match allowed {
        Allowed::Nothing => "drop",
        Allowed::Everything => "accept",
    };
    [
        format!(
            "table inet bench {{ chain prerouting {{ type filter hook prerouting priority mangle; policy accept; \
             ct state established accept; {verdict}; }}\n}}\n"
        ),
        format!(
            "table netdev bench {{ chain ingress {{ type filter hook ingress device {DEVICE} priority -500; \
             policy accept; {verdict}; }}\n}}\n"
        ),
    ]
}

fn point(windows: &Paired<Window>, label: &str, other: &str) -> Result<Point> {
    let ratio = windows.ratio(OURS, other, Window::capacity)?;
    let mut point = Point::new(label, ratio, Bound::none());
    for name in [OURS, other] {
        point =
            point.with_unit(name, "Mpps", windows.spread(name, |window| window.capacity() / 1e6)?);
    }
    Ok(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_valid() {
        for allowed in [Allowed::Nothing, Allowed::Everything] {
            assert!(policy::load("capture", &text(allowed)).is_ok());
        }
    }

    #[test]
    fn a_packet_without_ethernet_gets_a_header() {
        let packet = [0x60, 1, 2, 3];
        let frame = framed(&[ethertype(&packet).unwrap(), &packet].concat()).unwrap();
        assert_eq!(frame.length, 18);
        assert_eq!(frame.bytes[12..18], [0x86, 0xdd, 0x60, 1, 2, 3]);
        assert!(ethertype(&[0x10]).is_none());
    }

    #[test]
    fn what_is_too_long_for_a_device_is_left_out() {
        assert!(framed(&[0; 1507]).is_none());
        assert!(framed(&[0; 1506]).is_some());
        assert!(framed(&[0; 9000]).is_none());
    }
}
