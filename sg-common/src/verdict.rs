//! What the engine says of a packet: verdict, reason, rule.

/// Which way a packet travels, seen from the protected end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Direction {
    /// Towards the protected end.
    Ingress = 0,
    /// Away from the protected end.
    Egress = 1,
}

impl Direction {
    /// Both, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The number as an index into a pair.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The other one.
    #[inline(always)]
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }

    /// The word for it in text and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Whether the packet goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// It goes on.
    Allow = 1,
    /// It ends here, silently.
    Drop = 2,
}

impl Verdict {
    /// The word for it in text and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Drop => "drop",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $verdict:ident, $name:literal;)+) => {
        /// Why a packet got its verdict. The number is part of the ABI; a reason implies its verdict.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant = $number,)+
        }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The verdict that goes with it.
            #[inline(always)]
            #[must_use]
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$variant => Verdict::$verdict,)+ }
            }

            /// The word for it in text and JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for an operator.
            #[must_use]
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// The reason with this number.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// Belongs to a live flow.
    Flow = 1, Allow, "flow";
    /// Opens a flow that a rule allows.
    Rule = 2, Allow, "rule";
    /// ARP, an infrastructure entry.
    InfrastructureArp = 3, Allow, "infrastructure:arp";
    /// DHCP or DHCPv6, an infrastructure entry.
    InfrastructureDhcp = 4, Allow, "infrastructure:dhcp";
    /// IPv6 neighbour discovery, an infrastructure entry.
    InfrastructureNeighbourDiscovery = 5, Allow, "infrastructure:neighbour_discovery";
    /// IPv6 router discovery, an infrastructure entry.
    InfrastructureRouterDiscovery = 6, Allow, "infrastructure:router_discovery";
    /// IGMP or MLD, an infrastructure entry.
    InfrastructureMulticastListener = 7, Allow, "infrastructure:multicast_listener";
    /// Neither IP nor ARP on a host's own device.
    OtherEthertype = 8, Allow, "other_ethertype";
    /// An ICMP error that quotes a packet of a live flow.
    Related = 9, Allow, "related";
    /// A later fragment of a datagram that may pass.
    Fragment = 10, Allow, "fragment";
    /// The middle of a conversation that was there before, learnt in the grace time after attaching.
    Adopted = 15, Allow, "adopted";
    /// No rule allows it.
    NoRule = 16, Drop, "no_rule";
    /// Truncated, or a version, length or header field that cannot be.
    Malformed = 17, Drop, "malformed";
    /// A TCP segment that neither opens a flow nor belongs to one.
    NoFlow = 18, Drop, "no_flow";
    /// A combination of TCP flags that no segment has.
    TcpFlags = 19, Drop, "tcp_flags";
    /// The source address is not one that may come from there.
    SourceCheck = 20, Drop, "source_check";
    /// Infrastructure traffic that only a router or a server may send, or with a forged field.
    ForgedInfrastructure = 21, Drop, "forged_infrastructure";
    /// Neither IP nor ARP from or to a workload, or ARP where that entry is switched off.
    Ethertype = 22, Drop, "ethertype";
    /// More than two VLAN tags.
    VlanDepth = 23, Drop, "vlan_depth";
    /// IPv4 source routing or IPv6 routing header type 0.
    SourceRoute = 24, Drop, "source_route";
    /// An IPv6 extension header chain that is too long, out of order or broken.
    ExtensionHeaders = 25, Drop, "extension_headers";
    /// A later fragment whose first was dropped, or that came before its first where no rule could allow it.
    FragmentDenied = 26, Drop, "fragment_denied";
    /// An ICMP error that no rule allows and that quotes no packet of a live flow.
    IcmpError = 27, Drop, "icmp_error";
    /// The flow table is full and every flow in it is alive.
    TableFull = 28, Drop, "table_full";
    /// The interface has no policy: nothing passes until one is attached.
    NoPolicy = 29, Drop, "no_policy";
    /// A fragment of a datagram with two different firsts, or one that would overwrite the transport header.
    FragmentPoisoned = 30, Drop, "fragment_poisoned";
    /// A later fragment of a peer that has too many datagrams whose first is missing.
    FragmentLimit = 31, Drop, "fragment_limit";
    /// The interface has as many established flows as it may have.
    FlowLimit = 32, Drop, "flow_limit";
    /// Belongs to a flow that a change of rules has cut.
    FlowCut = 33, Drop, "flow_cut";
}

impl From<crate::TableError> for Reason {
    #[inline(always)]
    fn from(error: crate::TableError) -> Self {
        match error {
            crate::TableError::Full | crate::TableError::Exists => Self::TableFull,
            crate::TableError::Limit => Self::FlowLimit,
        }
    }
}

/// The engine's answer for one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Why; the verdict follows from it.
    pub reason: Reason,
    /// The rule that allowed the packet or opened its flow; 0 where no rule decided.
    pub rule: u32,
}

impl Decision {
    /// A decision that no rule took.
    #[inline(always)]
    #[must_use]
    pub const fn without_rule(reason: Reason) -> Self {
        Self { reason, rule: 0 }
    }

    /// Whether the packet goes on.
    #[inline(always)]
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        self.reason.verdict()
    }
}

/// A [`Decision`] in one register: a BPF function returns one word, and a pair would come back through a
/// pointer to the caller's stack, which the verifier refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome(core::num::NonZeroU64);

impl Outcome {
    #[inline(always)]
    pub(crate) const fn new(reason: Reason, rule: u32) -> Self {
        match core::num::NonZeroU64::new((rule as u64) << 8 | reason as u64) {
            Some(word) => Self(word),
            // No reason has the number 0.
            None => Self(core::num::NonZeroU64::MAX),
        }
    }

    /// An outcome that no rule brought.
    #[inline(always)]
    pub(crate) const fn without_rule(reason: Reason) -> Self {
        Self::new(reason, 0)
    }

    /// The same, its word passed through `forget`: behind it, the verifier follows one path instead of one
    /// for each reason.
    #[inline(always)]
    pub(crate) fn through(self, forget: impl FnOnce(u64) -> u64) -> Self {
        core::num::NonZeroU64::new(forget(self.0.get()))
            .map_or(Self::without_rule(Reason::NoPolicy), Self)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "each part takes its own bits back")]
    pub(crate) const fn decision(self) -> Decision {
        let word = self.0.get();
        match Reason::from_number(word as u8) {
            Some(reason) => Decision { reason, rule: (word >> 8) as u32 },
            // Unreachable, and it fails closed.
            None => Decision::without_rule(Reason::NoPolicy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_keeps_reason_and_rule() {
        for &reason in Reason::ALL {
            for rule in [0, 1, u32::MAX] {
                assert_eq!(Outcome::new(reason, rule).decision(), Decision { reason, rule });
            }
        }
    }

    #[test]
    fn numbers_and_reasons_go_together() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_number(reason as u8), Some(reason));
            assert!((reason as u32) < crate::abi::REASON_SLOTS && reason as u8 != 0);
        }
    }
}
