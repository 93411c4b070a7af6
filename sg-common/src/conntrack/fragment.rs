//! Fragments: the first is judged like a whole packet, later ones follow it.
//!
//! A table remembers datagrams by identification. Ports are never read from a later fragment. One that
//! comes before its first passes where some rule might allow the first: no socket gets a byte without it.
//! What would let a datagram be put together differently from how its first was judged poisons it
//! (RFC 1858, RFC 3128, RFC 5722).

use crate::abi::{DatagramVerdict, FlowKind};
use crate::conntrack::SECOND;
use crate::conntrack::key::{self, ends};
use crate::judging::Judging;
use crate::permit::Question;
use crate::verdict::Outcome;
use crate::wire::ip::IpHeader;
use crate::wire::transport::{Transport, header_length, shortest_header};
use crate::work::Work;
use crate::{Address, AddressTables, Be16, Family, Packet, Reason, Tables, Verdict};

/// How many datagrams of one remote end may wait for their first fragment (as many as Linux lets pass
/// one another, `ipfrag_max_dist`).
const PENDING_PER_PEER: u32 = 64;
/// How long two ends count as exchanging fragments: as long as a UDP stream lives at most.
const PAIR: u64 = 180 * SECOND;

/// As long as a receiver waits for the rest: Linux's `ipfrag_time`; RFC 8200, section 4.5.
const fn reassembly(family: Family) -> u64 {
    match family {
        Family::V4 => 30 * SECOND,
        Family::V6 => 60 * SECOND,
    }
}

impl<P: Packet + ?Sized, T: Tables, const EGRESS: bool> Judging<'_, P, T, EGRESS> {
    /// Whether a first fragment may be judged; what is known of its datagram is in `work` then.
    ///
    /// # Errors
    /// [`Reason::FragmentPoisoned`] where it differs from another first that passed, or where a later fragment has
    /// come that lies in its headers.
    #[inline(never)]
    pub(crate) fn admit_first<A: Address>(&self, work: &mut Work<A>) -> Result<(), Reason>
    where
        T: AddressTables<A>,
    {
        let first = self.signature(work);
        let extensions = work.header.payload - work.header.fragment_start;
        let headers = extensions + header_length(&work.header, &work.transport);
        let headers = u32::try_from(headers).unwrap_or(u32::MAX);
        self.datagram_key(work);
        let known = self.known(work).is_some();
        if !known {
            self.forget_datagram(work);
        }
        let old = &work.datagram;
        // A first that was dropped has reached nobody, and what is complete is put together: neither stands
        // in another's way. What has passed behind it is remembered all the same.
        let denied = old.verdict == DatagramVerdict::Denied as u32;
        let complete = old.is_complete();
        let other = old.first != 0 && old.first != first && !denied && !complete;
        let touched = old.lowest != 0 && old.lowest < headers;
        if other || touched || old.verdict == DatagramVerdict::Poisoned as u32 {
            return Err(self.poison(work));
        }
        if complete {
            work.datagram.seen = 0;
            work.datagram.total = 0;
            work.datagram.deadline = self.now + reassembly(A::FAMILY);
        }
        work.datagram.first = first;
        work.datagram.headers = headers;
        Ok(())
    }

    /// Remembers a first fragment whose transport header cannot be read: what follows it is dropped too. Without
    /// room, or where nothing of it can pass anyway, what follows is judged as if it came first: `false`.
    #[inline(never)]
    pub(crate) fn refuse_first<A: Address>(&self, work: &mut Work<A>) -> bool
    where
        T: AddressTables<A>,
    {
        self.datagram_key(work);
        if self.known(work).is_none() {
            self.forget_datagram(work);
            if !self.is_hopeful(work) {
                return false;
            }
            self.datagram_key(work);
        }
        // It has reached nobody: what has passed stays as it was.
        let verdict = work.datagram.verdict;
        if verdict == 0 || verdict == DatagramVerdict::Pending as u32 {
            work.datagram.verdict = DatagramVerdict::Denied as u32;
            work.datagram.tag = work.datagram_key.tag();
            return self.tables.insert_datagram(&work.datagram_key, &work.datagram).is_ok();
        }
        true
    }

    /// Remembers what became of a first fragment; `false`: the later ones are judged as if they came first.
    #[inline(never)]
    pub(crate) fn record_first<A: Address>(&self, work: &mut Work<A>, outcome: Outcome) -> bool
    where
        T: AddressTables<A>,
    {
        let decision = outcome.decision();
        let allowed = matches!(decision.verdict(), Verdict::Allow);
        let verdict = if allowed { DatagramVerdict::Allowed } else { DatagramVerdict::Denied };
        let was_pending = work.datagram.verdict == DatagramVerdict::Pending as u32;
        if allowed {
            Self::see(work);
        } else if work.datagram.verdict == 0 && !self.is_hopeful(work) {
            // Nothing of it can pass anyway; an entry would only push another out.
            return false;
        }
        work.datagram.verdict = verdict as u32;
        work.datagram.rule = decision.rule;
        self.datagram_key(work);
        work.datagram.tag = work.datagram_key.tag();
        let noted = self.tables.insert_datagram(&work.datagram_key, &work.datagram).is_ok();
        if was_pending {
            self.release_pending(work);
        }
        if allowed {
            self.remember_pair(work);
        }
        noted
    }

    /// Judges a later fragment; `None`: nothing is known of its datagram.
    #[inline(never)]
    pub(crate) fn later_fragment<A: Address>(&self, work: &mut Work<A>) -> Option<Outcome>
    where
        T: AddressTables<A>,
    {
        self.datagram_key(work);
        let offset = u32::from(work.header.fragment_offset);
        let cell = self.known(work)?;
        if is_in_header(&work.header) || work.datagram.first != 0 && offset < work.datagram.headers
        {
            return Some(Outcome::without_rule(self.poison(work)));
        }
        Some(match DatagramVerdict::from_number(work.datagram.verdict) {
            Some(DatagramVerdict::Allowed | DatagramVerdict::Pending) => {
                Self::see(work);
                cell.commit(&work.datagram);
                Outcome::new(Reason::Fragment, work.datagram.rule)
            }
            Some(DatagramVerdict::Poisoned) => Outcome::without_rule(Reason::FragmentPoisoned),
            Some(DatagramVerdict::Denied) | None => Outcome::without_rule(Reason::FragmentDenied),
        })
    }

    /// Judges a later fragment that comes before the first.
    #[inline(never)]
    pub(crate) fn early_fragment<A: Address>(&self, work: &mut Work<A>) -> Reason
    where
        T: AddressTables<A>,
    {
        let (local, remote) = ends(Self::DIRECTION, &work.header);
        if !self.source_is_legal(local, remote) {
            return Reason::SourceCheck;
        }
        if !self.some_rule_might_allow(work, remote) {
            return Reason::FragmentDenied;
        }
        if is_in_header(&work.header) {
            self.forget_datagram(work);
            self.datagram_key(work);
            return self.poison(work);
        }
        if !self.claim_pending(work) {
            return Reason::FragmentLimit;
        }
        self.forget_datagram(work);
        work.datagram.verdict = DatagramVerdict::Pending as u32;
        Self::see(work);
        self.datagram_key(work);
        work.datagram.tag = work.datagram_key.tag();
        match self.tables.insert_datagram(&work.datagram_key, &work.datagram) {
            Ok(()) => Reason::Fragment,
            Err(_full) => Reason::FragmentLimit,
        }
    }

    /// Whether anything of the datagram at hand could pass: [`Self::some_rule_might_allow`], from a source that may
    /// send.
    #[inline(always)]
    fn is_hopeful<A: Address>(&self, work: &mut Work<A>) -> bool
    where
        T: AddressTables<A>,
    {
        let (local, remote) = ends(Self::DIRECTION, &work.header);
        let datagram = work.datagram;
        let hopeful =
            self.source_is_legal(local, remote) && self.some_rule_might_allow(work, remote);
        work.datagram = datagram;
        hopeful
    }

    /// Whether some port would do, or fragments have passed between these ends before: those of an answer
    /// need no rule, and may come out of order too.
    #[inline(always)]
    fn some_rule_might_allow<A: Address>(&self, work: &mut Work<A>, remote: A) -> bool
    where
        T: AddressTables<A>,
    {
        let (direction, protocol) = (Self::DIRECTION, work.header.protocol);
        if self.permit(Question { remote, direction, protocol, port: None }).is_some() {
            return true;
        }
        self.other_key(work, FlowKind::DatagramPair);
        self.known(work).is_some()
    }

    /// Notes that fragments pass between these ends.
    #[inline(always)]
    fn remember_pair<A: Address>(&self, work: &mut Work<A>)
    where
        T: AddressTables<A>,
    {
        self.other_key(work, FlowKind::DatagramPair);
        if let Some(cell) = self.known(work) {
            work.datagram.deadline = self.now + PAIR;
            cell.commit(&work.datagram);
            return;
        }
        self.forget_datagram(work);
        work.datagram.deadline = self.now + PAIR;
        work.datagram.tag = work.datagram_key.tag();
        // Without room the next answer out of order is lost.
        let _no_room = self.tables.insert_datagram(&work.datagram_key, &work.datagram);
    }

    /// Counts one more datagram of the remote end that waits for its first; `false`: too many do.
    #[inline(always)]
    fn claim_pending<A: Address>(&self, work: &mut Work<A>) -> bool
    where
        T: AddressTables<A>,
    {
        self.other_key(work, FlowKind::DatagramPeer);
        if let Some(cell) = self.known(work) {
            if work.datagram.seen >= PENDING_PER_PEER {
                return false;
            }
            work.datagram.seen += 1;
            cell.commit(&work.datagram);
            return true;
        }
        self.forget_datagram(work);
        work.datagram.seen = 1;
        work.datagram.tag = work.datagram_key.tag();
        self.tables.insert_datagram(&work.datagram_key, &work.datagram).is_ok()
    }

    /// Counts one datagram less.
    #[inline(always)]
    fn release_pending<A: Address>(&self, work: &mut Work<A>)
    where
        T: AddressTables<A>,
    {
        self.other_key(work, FlowKind::DatagramPeer);
        if let Some(cell) = self.known(work) {
            work.datagram.seen = work.datagram.seen.saturating_sub(1);
            cell.commit(&work.datagram);
        }
    }

    /// Lets nothing more of the datagram pass.
    #[inline(always)]
    fn poison<A: Address>(&self, work: &mut Work<A>) -> Reason
    where
        T: AddressTables<A>,
    {
        let was_pending = work.datagram.verdict == DatagramVerdict::Pending as u32;
        work.datagram.verdict = DatagramVerdict::Poisoned as u32;
        work.datagram.tag = work.datagram_key.tag();
        // Without room this fragment is dropped all the same.
        let _no_room = self.tables.insert_datagram(&work.datagram_key, &work.datagram);
        if was_pending {
            self.release_pending(work);
        }
        Reason::FragmentPoisoned
    }

    /// What the table knows under the key in hand, copied into `work`.
    #[inline(always)]
    fn known<A: Address>(&self, work: &mut Work<A>) -> Option<<T as AddressTables<A>>::DatagramRef>
    where
        T: AddressTables<A>,
    {
        let cell = self.tables.datagram(&work.datagram_key)?;
        work.datagram = cell.snapshot();
        // Another tag: the element was recycled for another datagram while it was read.
        let alive =
            work.datagram.tag == work.datagram_key.tag() && work.datagram.deadline > self.now;
        alive.then_some(cell)
    }

    #[inline(always)]
    fn forget_datagram<A: Address>(&self, work: &mut Work<A>) {
        work.datagram = work.no_datagram;
        work.datagram.deadline = self.now + reassembly(A::FAMILY);
    }

    /// Adds the fragment at hand to what has been seen.
    #[inline(always)]
    fn see<A: Address>(work: &mut Work<A>) {
        let header = &work.header;
        let length = header.payload - header.fragment_start + header.payload_length;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let offset = u32::from(header.fragment_offset);
        work.datagram.seen = work.datagram.seen.saturating_add(length);
        if !header.more_fragments {
            work.datagram.total = offset + length;
        }
        if offset != 0 && (work.datagram.lowest == 0 || offset < work.datagram.lowest) {
            work.datagram.lowest = offset;
        }
    }

    /// A number that tells two firsts apart: of the beginning of the transport header and the length.
    /// Never 0.
    #[inline(always)]
    fn signature<A: Address>(&self, work: &Work<A>) -> u32 {
        let header = &work.header;
        let begin = self.packet.load::<8>(header.payload).map_or([0; 8], |bytes| bytes.0);
        let [a, b, c, d, e, f, g, h] = begin;
        let length = u32::try_from(header.payload_length).unwrap_or(u32::MAX);
        let mut hash = u32::from(header.protocol);
        let (acknowledgement, flags) = match &work.transport {
            Transport::Tcp(segment) => (segment.acknowledgement, segment.flags),
            Transport::Udp(..) | Transport::Icmp(_) | Transport::Sctp(_) | Transport::Other => {
                (0, 0)
            }
        };
        let begin = [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])];
        for word in [begin[0], begin[1], length, acknowledgement, flags.into()] {
            hash = (hash ^ word).wrapping_mul(0x9e37_79b1).rotate_left(13);
        }
        hash | 1
    }

    /// The key of the fragment's datagram.
    #[inline(always)]
    fn datagram_key<A: Address>(&self, work: &mut Work<A>)
    where
        T: AddressTables<A>,
    {
        let slot = self.tables.attachment().slot;
        key::datagram(slot, Self::DIRECTION, &work.header, &mut work.datagram_key);
    }

    /// The key of what is kept beside the datagrams themselves.
    #[inline(always)]
    fn other_key<A: Address>(&self, work: &mut Work<A>, kind: FlowKind)
    where
        T: AddressTables<A>,
    {
        self.datagram_key(work);
        let key = &mut work.datagram_key;
        key.local_port = Be16::default();
        key.remote_port = Be16::default();
        key.kind = kind as u8;
        key.protocol = work.header.protocol;
        if matches!(kind, FlowKind::DatagramPeer) {
            key.local = key.remote;
            key.protocol = 0;
        }
    }
}

/// Whether a later fragment lies where the shortest header of its protocol is.
#[inline(always)]
fn is_in_header<A>(header: &IpHeader<A>) -> bool {
    usize::from(header.fragment_offset) < shortest_header(header.protocol)
}
