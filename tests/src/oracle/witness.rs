//! What passes a ruleset and what does not: a table around the exported one notes the mark of every packet
//! before and behind it, and what connection tracking calls it.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use sg_common::Direction;
use sg_userspace::policy::model::Side;

use crate::netns::Namespace;
use crate::nft;

/// Sets of marks around the ruleset (mangle is -150, srcnat + 100 is 200).
pub(super) const TABLES: &str = "
table netdev witness {
    chain outer {
        type filter hook ingress device outer priority 0
        meta pkttype set unicast
        meta mark set @ll,16,32
    }
    chain inner {
        type filter hook ingress device inner priority 0
        meta pkttype set unicast
        meta mark set @ll,16,32
    }
}
table inet witness {
    set arriving { type mark . ct_state; size 1000000; }
    set leaving { type mark . ct_state; size 1000000; }
    set arrived { type mark; size 1000000; }
    set left { type mark; size 1000000; }
    chain zone {
        type filter hook prerouting priority -500
        ct zone set @ll,32,16
    }
    chain arriving {
        type filter hook prerouting priority -151
        meta mark != 0 add @arriving { meta mark . ct state }
    }
    chain arrived {
        type filter hook prerouting priority -149
        meta mark != 0 add @arrived { meta mark }
    }
    chain leaving {
        type filter hook postrouting priority 199
        meta mark != 0 add @leaving { meta mark . ct state }
    }
    chain left {
        type filter hook postrouting priority 201
        meta mark != 0 add @left { meta mark }
    }
}
";

/// Before another ruleset.
pub(super) const FORGET: &str = "\
flush set inet witness arriving
flush set inet witness arrived
flush set inet witness leaving
flush set inet witness left
";

/// A number that a frame carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag {
    /// Frame of a conversation.
    pub(super) frame: u16,
    /// Conversation, not 0.
    pub(super) zone: u16,
}

impl Tag {
    fn bytes(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.frame.to_be_bytes(), self.zone.to_be_bytes());
        [a, b, c, d]
    }

    /// The mark that the witness makes of it.
    fn mark(self) -> u32 {
        u32::from_ne_bytes(self.bytes())
    }

    /// The frame with this number for its addressee.
    pub(super) fn put(self, frame: &[u8]) -> Vec<u8> {
        let mut tagged = frame.to_vec();
        for (place, byte) in tagged.iter_mut().zip([2, 0].into_iter().chain(self.bytes())) {
            *place = byte;
        }
        tagged
    }
}

/// What became of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The ruleset has not seen it.
    Unseen,
    /// It has, in this state of connection tracking, and did not let it pass.
    Dropped(String),
    /// It has, in this state of connection tracking, and let it pass.
    Passed(String),
}

/// What the witness has seen.
#[derive(Debug)]
pub(super) struct Seen {
    side: Side,
    /// Marks and states before the ruleset, in front of routing and behind it.
    arriving: HashMap<u32, String>,
    leaving: HashMap<u32, String>,
    /// Marks behind the ruleset.
    arrived: HashSet<u32>,
    pub(super) left: HashSet<u32>,
}

impl Seen {
    /// Up to now.
    pub(super) fn read(namespace: &Namespace, side: Side) -> Result<Self> {
        let set = |name| nft::elements(namespace, "witness", name);
        Ok(Self {
            side,
            arriving: states(set("arriving")?)?,
            leaving: states(set("leaving")?)?,
            arrived: marks(set("arrived")?)?,
            left: marks(set("left")?)?,
        })
    }

    /// What became of a frame that travelled in this direction.
    pub(super) fn fate(&self, tag: Tag, direction: Direction) -> Fate {
        let (before, behind) = match (self.side, direction) {
            (Side::Host, Direction::Ingress) | (Side::Workload, Direction::Egress) => {
                (&self.arriving, &self.arrived)
            }
            (Side::Host, Direction::Egress) | (Side::Workload, Direction::Ingress) => {
                (&self.leaving, &self.left)
            }
        };
        match before.get(&tag.mark()) {
            None => Fate::Unseen,
            Some(state) if behind.contains(&tag.mark()) => Fate::Passed(state.clone()),
            Some(state) => Fate::Dropped(state.clone()),
        }
    }

    pub(super) fn has_last(&self) -> bool {
        Direction::ALL.iter().all(|it| self.arriving.contains_key(&last_tag(*it).mark()))
    }
}

/// Of the frame that is sent last. No conversation has the zone 0.
pub(super) const fn last_tag(direction: Direction) -> Tag {
    Tag { frame: direction as u16 + 1, zone: 0 }
}

fn mark(value: &Value) -> Result<u32> {
    let number = value.as_u64().with_context(|| format!("mark {value}"))?;
    Ok(u32::try_from(number)?)
}

fn marks(elements: Vec<Value>) -> Result<HashSet<u32>> {
    elements.iter().map(mark).collect()
}

fn states(elements: Vec<Value>) -> Result<HashMap<u32, String>> {
    let state = |element: &Value| {
        let Some([number, state]) = element["concat"].as_array().map(Vec::as_slice) else {
            bail!("element {element}");
        };
        Ok((mark(number)?, state.as_str().context("a state")?.to_owned()))
    };
    elements.iter().map(state).collect()
}
