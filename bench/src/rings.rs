//! Rings of packets in random order, the same in every run.

use std::net::IpAddr;

use fastrand::Rng;
use ipnet::IpNet;

use crate::driver::Step;
use crate::frames::Family;

/// The port that most policies open.
pub(crate) const PORT: u16 = 443;
/// The seed of everything that is drawn.
const SEED: u64 = 0x5eed;

/// What is drawn from here is the same in every run.
pub(crate) fn rng() -> Rng {
    Rng::with_seed(SEED)
}

/// One packet from an address.
pub(crate) fn step(address: IpAddr, remote_port: u16, local_port: u16, fresh: bool) -> Step {
    let mut bytes = [0; 16];
    match address {
        IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes = address.octets(),
    }
    let mut halves = [0; 2];
    for (half, bytes) in halves.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut word = [0; 8];
        word.copy_from_slice(bytes);
        *half = u64::from_ne_bytes(word);
    }
    Step { address: halves, remote_port, local_port, fresh: fresh.into(), flags: 0 }
}

/// An address on the Internet that is nobody's in particular.
pub(crate) fn anybody(rng: &mut Rng, family: Family) -> IpAddr {
    match family {
        Family::V4 => {
            let [_, b, c, d] = rng.u32(..).to_be_bytes();
            IpAddr::from([rng.u8(11..127), b, c, d])
        }
        Family::V6 => {
            let mut bytes = rng.u128(..).to_be_bytes();
            bytes[0] = 0x24;
            IpAddr::from(bytes)
        }
    }
}

/// An address inside a block.
pub(crate) fn inside(rng: &mut Rng, block: IpNet) -> IpAddr {
    match block {
        IpNet::V4(block) => {
            let host = rng.u32(..) & block.hostmask().to_bits();
            IpAddr::V4((block.network().to_bits() | host).into())
        }
        IpNet::V6(block) => {
            let host = rng.u128(..) & block.hostmask().to_bits();
            IpAddr::V6((block.network().to_bits() | host).into())
        }
    }
}

/// A number for each packet of a ring, no two alike within 65 536: packets of one address are of different flows.
#[expect(clippy::cast_possible_truncation, reason = "ports go round")]
pub(crate) fn remote_port(index: usize) -> u16 {
    (index as u16).wrapping_mul(40_503)
}

/// Packets from anybody to the open port.
pub(crate) fn from_anybody(length: usize, family: Family, fresh: bool) -> Vec<Step> {
    let mut rng = rng();
    let one = |index| step(anybody(&mut rng, family), remote_port(index), PORT, fresh);
    (0..length).map(one).collect()
}

/// Packets from somewhere in these blocks, drawn anew for each, to the open port.
pub(crate) fn from_blocks(length: usize, blocks: &[IpNet], fresh: bool) -> Vec<Step> {
    let mut rng = rng();
    let one = |index| {
        let block = blocks[rng.usize(..blocks.len())];
        step(inside(&mut rng, block), remote_port(index), PORT, fresh)
    };
    (0..length).map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn neighbours_in_a_ring_are_different_flows() {
        let ports: BTreeSet<u16> = (1000..1000 + (1 << 16)).map(remote_port).collect();
        assert_eq!(ports.len(), 1 << 16);
    }

    #[test]
    fn an_address_inside_a_block_is_inside() {
        let mut rng = rng();
        for block in ["198.51.100.0/24", "2400::/12", "192.0.2.1/32", "0.0.0.0/0"] {
            let block: IpNet = block.parse().unwrap();
            for _ in 0..100 {
                assert!(block.contains(&inside(&mut rng, block)), "{block}");
            }
        }
    }

    #[test]
    fn a_step_holds_the_address_as_it_stands_in_a_packet() {
        let step = step("192.0.2.1".parse().unwrap(), 1, 2, false);
        assert_eq!(step.address[0].to_ne_bytes(), [192, 0, 2, 1, 0, 0, 0, 0]);
    }
}
