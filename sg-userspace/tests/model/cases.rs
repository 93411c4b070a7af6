//! Histories that once showed a difference, or that random ones reach too seldom: one a fact.

use Direction::{Egress, Ingress};
use sg_common::Direction;

use crate::fragments::PENDING;
use crate::lockstep::run;
use crate::steps::{Ends, Quoting, Send, Step, What};
use crate::tcp::{ACK, FIN, RST, SYN};

/// Worlds by what their groups are.
const NARROW: usize = 0;
const CLIENT: usize = 2;
const OPEN: usize = 6;

/// A peer's ephemeral port and the interface's port 80; the other way round.
const TO_SERVICE: Ends =
    Ends { at: 0, v6: false, local: 0, remote: 0, local_port: 0, remote_port: 3 };
const FROM_CLIENT: Ends = Ends { local_port: 3, remote_port: 0, ..TO_SERVICE };

fn send(ends: Ends, direction: Direction, what: What) -> Step {
    Step::Packet(Send { ends, direction, what })
}

/// A segment as its sender would send it.
fn tcp(ends: Ends, direction: Direction, flags: u8) -> Step {
    send(ends, direction, What::Tcp(flags, 0, 0, 0))
}

#[track_caller]
fn holds(world: usize, steps: &[Step]) {
    run(world, steps).unwrap_or_else(|why| panic!("{why}"));
}

/// An error in answer to what the other side is said to have sent.
fn error(ends: Ends, direction: Direction, quoted: What, length: usize) -> Quoting {
    let router = if direction == Ingress { 2 } else { ends.local };
    let quoted = Box::new(quoted);
    Quoting { kind: 0, quoted, router, wrong_receiver: None, length, fragment: None }
}

#[test]
fn a_dropped_syn_leaves_a_closed_flow_alone() {
    let ends = TO_SERVICE;
    let reset = tcp(ends, Ingress, RST);
    holds(NARROW, &[Step::Handshake(ends, Ingress), reset.clone(), tcp(ends, Egress, SYN)]);
    let ends = FROM_CLIENT;
    let reset = tcp(ends, Ingress, RST);
    holds(CLIENT, &[Step::Handshake(ends, Egress), reset, tcp(ends, Ingress, SYN)]);
}

#[test]
fn a_reset_without_acknowledgement_answers_no_syn() {
    holds(CLIENT, &[tcp(FROM_CLIENT, Egress, SYN), tcp(FROM_CLIENT, Ingress, RST)]);
}

#[test]
fn nothing_comes_from_loopback_or_multicast_even_if_something_went_there() {
    for remote in [4, 5] {
        for v6 in [false, true] {
            let ends = Ends { remote, v6, local_port: 3, remote_port: 2, ..TO_SERVICE };
            let [out, back] =
                [Egress, Ingress].map(|direction| send(ends, direction, What::Udp(10)));
            holds(OPEN, &[out, back]);
        }
    }
}

#[test]
fn a_fin_counts_in_the_segment_that_completes_the_handshake() {
    let ends = TO_SERVICE;
    let opening = [tcp(ends, Ingress, SYN), tcp(ends, Egress, SYN | ACK)];
    let closing = [tcp(ends, Ingress, FIN | ACK), tcp(ends, Egress, FIN | ACK)];
    holds(OPEN, &[opening, closing].concat());
}

#[test]
fn a_syn_sent_again_takes_no_answer_back() {
    let ends = TO_SERVICE;
    let again = send(ends, Ingress, What::Tcp(SYN, -1, 0, 0));
    let [syn, answer, last] =
        [(Ingress, SYN), (Egress, SYN | ACK), (Ingress, ACK)].map(|it| tcp(ends, it.0, it.1));
    holds(OPEN, &[syn, answer, again, last]);
}

#[test]
fn a_syn_between_the_ports_of_a_live_flow_is_judged_as_new() {
    let ends = TO_SERVICE;
    let data = send(ends, Egress, What::Tcp(ACK, 0, 0, 10));
    for direction in [Ingress, Egress] {
        // Another number, the same again, an answer to it, and the live flow still ends by its own numbers.
        let syn = send(ends, direction, What::Tcp(SYN, 1000, 0, 0));
        let answer = send(ends, direction.reverse(), What::Tcp(SYN | ACK, 0, 1001, 0));
        let steps = [syn.clone(), syn, answer, data.clone(), tcp(ends, Ingress, RST)];
        holds(OPEN, &[&[Step::Handshake(ends, Ingress)], &steps[..]].concat());
        holds(NARROW, &[&[Step::Handshake(ends, Ingress)], &steps[..]].concat());
    }
}

#[test]
fn a_syn_of_another_attempt_takes_its_place() {
    let ends = TO_SERVICE;
    let other = send(ends, Ingress, What::Tcp(SYN, 1000, 0, 0));
    let answer = send(ends, Egress, What::Tcp(SYN | ACK, 0, 1001, 0));
    let last = send(ends, Ingress, What::Tcp(ACK, 1001, 0, 0));
    let opening = [tcp(ends, Ingress, SYN), tcp(ends, Egress, SYN | ACK)];
    holds(NARROW, &[&opening[..], &[other, Step::Wait(19), answer, last]].concat());
}

#[test]
fn an_attempt_sent_again_takes_the_place_of_what_has_closed() {
    let ends = TO_SERVICE;
    let again = send(ends, Ingress, What::Tcp(SYN, 1000, 0, 0));
    let close = tcp(ends, Ingress, RST);
    holds(OPEN, &[Step::Handshake(ends, Ingress), again.clone(), close, again]);
}

#[test]
fn a_fin_out_of_order_counts_once_it_is_acknowledged() {
    let ends = TO_SERVICE;
    let ahead = send(ends, Ingress, What::Tcp(FIN | ACK, 10, 0, 0));
    let missing = send(ends, Ingress, What::Tcp(ACK, 0, 0, 10));
    for off in [0, 1, 2] {
        let closing = send(ends, Egress, What::Tcp(FIN | ACK, 0, off, 0));
        let steps = [Step::Handshake(ends, Ingress), ahead.clone(), missing.clone(), closing];
        holds(OPEN, &steps);
    }
}

#[test]
fn the_local_end_says_where_a_live_flow_stands() {
    let ends = TO_SERVICE;
    for far in [send(ends, Egress, What::Tcp(ACK, 1 << 25, 70, 10)), tcp(ends, Egress, SYN | ACK)] {
        for off in [0, 70] {
            let reset = send(ends, Ingress, What::Tcp(RST, off, 0, 0));
            holds(OPEN, &[Step::Handshake(ends, Ingress), far.clone(), reset]);
        }
    }
}

#[test]
fn an_end_that_has_not_spoken_is_not_quoted() {
    // The acknowledgement is the remote's own word: it must not be what makes its errors pass.
    let middle = send(TO_SERVICE, Ingress, What::Tcp(ACK, 0, 0, 0));
    let syn = tcp(TO_SERVICE, Ingress, SYN);
    let error = error(TO_SERVICE, Ingress, What::Tcp(ACK, 1000, 0, 0), 8);
    holds(NARROW, &[middle, syn, send(TO_SERVICE, Ingress, What::Error(error))]);
}

#[test]
fn a_denied_first_fragment_completes_nothing() {
    let to = |local_port, flags| {
        let ends = Ends { local_port, ..TO_SERVICE };
        Send { ends, direction: Ingress, what: What::Tcp(flags, 0, 0, 4) }
    };
    // Byte 24 to the end, then a first to no service, then another to one.
    let denied = Step::Fragments(to(0, FIN), 1, vec![3, 2]);
    holds(NARROW, &[denied, Step::Fragments(to(0, SYN), 1, vec![2])]);
}

#[test]
fn a_second_first_of_another_protocol_poisons() {
    // IPv6 identifies a datagram without its protocol (RFC 8200, section 4.5).
    let ends = Ends { v6: true, ..TO_SERVICE };
    let first = |protocol| {
        let what = What::Other(protocol);
        Step::Fragments(Send { ends, direction: Egress, what }, 0, vec![2])
    };
    holds(CLIENT, &[first(47), first(4)]);
}

#[test]
fn a_quoted_fragment_may_be_cut_anywhere() {
    for v6 in [false, true] {
        for length in [8, 12] {
            let ends = Ends { v6, ..FROM_CLIENT };
            let error = error(ends, Ingress, What::Udp(40), length);
            let error = Quoting { fragment: Some(0), ..error };
            let asked = send(ends, Egress, What::Udp(40));
            holds(CLIENT, &[asked, send(ends, Ingress, What::Error(error))]);
        }
    }
}

#[test]
fn errors_pass_by_their_quotes_alone() {
    for (v6, offset) in [(false, 0), (false, 1), (true, -1), (true, 1000), (true, 1 << 31)] {
        let ends = Ends { v6, ..FROM_CLIENT };
        let handshake = Step::Handshake(ends, Egress);
        let data = send(ends, Egress, What::Tcp(ACK, 0, 0, 1000));
        let error = error(ends, Ingress, What::Tcp(ACK, offset, 0, 0), 8);
        holds(CLIENT, &[handshake, data, send(ends, Ingress, What::Error(error))]);
    }
}

#[test]
fn datagrams_that_wait_for_their_first_are_counted() {
    let spray = Send { ends: TO_SERVICE, direction: Ingress, what: What::Udp(100) };
    let many = u16::try_from(PENDING).expect("few") + 10;
    holds(OPEN, &[Step::Spray(spray, many)]);
}

#[test]
fn fragments_of_an_answer_come_in_any_order() {
    let udp = |direction| Send { ends: FROM_CLIENT, direction, what: What::Udp(30) };
    let asked = Step::Fragments(udp(Egress), 1, vec![2, 3]);
    holds(CLIENT, &[asked, Step::Fragments(udp(Ingress), 2, vec![3, 2])]);
}
