//! Two processors at one entry: what one writes, the other must not take back.

use std::vec::Vec;

use Direction::{Egress, Ingress};

use super::Step;
use super::tcp::{advance, quotes_sent};
use crate::abi::{Datagram, DatagramCell, Flow, FlowCell, FlowFlags, FlowState};
use crate::wire::tcp::{ACK, FIN, RST, Segment};
use crate::{Be16, Direction};

fn segment(flags: u8, sequence: u32, acknowledgement: u32, data: u32) -> Segment {
    let (source, destination) = (Be16::new(1), Be16::new(2));
    Segment { source, destination, sequence, acknowledgement, flags, data }
}

fn cell() -> FlowCell {
    let state = FlowState::Established as u8;
    FlowCell::new(&Flow { state, tag: 1, end: [101, 501], ack: [501, 101], ..Flow::default() })
}

/// Both read before either writes, as on the processors that send and receive.
fn at_once(cell: &FlowCell, segments: [(Direction, Segment); 2]) -> Vec<Step> {
    let before = cell.snapshot();
    let mut flows = [before, before];
    let steps = flows.iter_mut().zip(&segments).map(|(flow, (way, it))| advance(flow, *way, it));
    let steps = steps.collect();
    flows.iter().for_each(|flow| cell.commit(&before, flow));
    steps
}

#[test]
fn an_answer_does_not_take_back_what_was_sent() {
    let cell = cell();
    at_once(&cell, [(Egress, segment(ACK, 501, 101, 1000)), (Ingress, segment(ACK, 101, 501, 10))]);
    let mut flow = cell.snapshot();
    assert_eq!(flow.end, [111, 1501]);
    assert!(quotes_sent(&flow, FlowState::Established, Egress, 501));
    assert_eq!(advance(&mut flow, Egress, &segment(RST | ACK, 1501, 111, 0)), Step::Close);
}

#[test]
fn two_halves_that_close_at_once_close_the_flow() {
    const BOTH: u8 = FlowFlags::FIN_FROM_LOCAL | FlowFlags::FIN_FROM_REMOTE;
    let cell = cell();
    at_once(
        &cell,
        [(Egress, segment(FIN | ACK, 501, 101, 0)), (Ingress, segment(FIN | ACK, 101, 501, 0))],
    );
    assert_eq!(cell.snapshot().flags & BOTH, BOTH);
}

#[test]
fn a_packet_does_not_open_again_what_another_closed() {
    let cell = cell();
    at_once(
        &cell,
        [(Egress, segment(RST | ACK, 501, 101, 0)), (Ingress, segment(FIN | ACK, 101, 501, 0))],
    );
    assert_eq!(cell.snapshot().state, FlowState::Closed as u8);
}

#[test]
fn a_recycled_datagram_is_left_alone() {
    let denied = Datagram { tag: 2, verdict: 3, first: 4, deadline: 5, ..Datagram::default() };
    let cell = DatagramCell::new(&denied);
    cell.commit(&Datagram { tag: 1, verdict: 2, first: 9, deadline: 9, ..Datagram::default() });
    assert_eq!(cell.snapshot(), denied);
}

#[test]
fn a_packet_does_not_lengthen_what_another_closed() {
    let cell = cell();
    let open = cell.snapshot();
    cell.commit(&open, &Flow { state: FlowState::Closed as u8, deadline: 30 << 30, ..open });
    cell.commit(&open, &Flow { deadline: 432_000 << 30, ..open });
    let now = cell.snapshot();
    assert_eq!((now.state, now.deadline), (FlowState::Closed as u8, 30 << 30));
}
