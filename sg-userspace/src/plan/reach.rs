//! What a change opens and closes at each local interface, exactly: of every rule that is new, or whose
//! peer is, what the other policy's rules did not allow already.
//!
//! Work starts at what differs: interfaces whose rules are the same before and the same after are compared
//! once, and a rule that both policies have is never taken apart.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use sg_common::Direction;

use super::addresses::Addresses;
use super::span::{Span, append};
use super::view::{Held, PeerKey, Role, RuleKey, SetId, Sets, View};

/// Whether packets that were dropped pass, or the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Effect {
    Opens,
    Closes,
}

/// Packets that some interfaces judge differently from now on.
pub(super) struct Difference<'p> {
    pub(super) effect: Effect,
    pub(super) direction: Direction,
    /// The packets of the rule that it is about.
    pub(super) whole: Span,
    pub(super) spans: Vec<Span>,
    pub(super) vpc: &'p str,
    /// The rule's peer, where it is that as a whole.
    pub(super) peer: Option<PeerKey<'p>>,
    pub(super) addresses: Rc<Addresses>,
    /// In file order.
    pub(super) interfaces: Vec<&'p str>,
}

/// Why a rule that comes or goes changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idle<'p> {
    /// Another rule allows all of it.
    Covered(RuleKey<'p>),
    /// Other rules do together.
    CoveredTogether,
    /// Its peer is nobody, or nobody but the interface itself.
    Nobody,
}

/// A rule, and whether it comes or goes.
pub(super) type Moving<'p> = (Effect, RuleKey<'p>);

/// What [`compare`] finds.
#[derive(Default)]
pub(super) struct Found<'p> {
    pub(super) differences: Vec<Difference<'p>>,
    /// Rules that change something where they come or go.
    pub(super) effective: HashSet<Moving<'p>>,
    /// Rules that change nothing at some interface.
    pub(super) idle: HashMap<Moving<'p>, Idle<'p>>,
}

/// What interfaces that are compared as one have in common.
#[derive(PartialEq, Eq, Hash)]
struct Pair {
    old: Option<Role>,
    new: Role,
    /// Own addresses before and after, where they change: nobody else has those.
    own: Option<(SetId, SetId)>,
}

/// Compares the local interfaces of two policies; one that the old policy does not judge was closed.
pub(super) fn compare<'p>(old: &mut View<'p>, new: &mut View<'p>) -> Found<'p> {
    let mut comparison = Comparison::default();
    let sets = &mut comparison.sets;
    let mut pairs: Vec<(Rc<Pair>, Vec<Named<'p>>)> = Vec::new();
    let mut known: HashMap<Rc<Pair>, usize> = HashMap::new();
    for interface in new.local() {
        let name = interface.name.as_str();
        let Some((role, after)) = new.role(name, sets) else { continue };
        let before = old.role(name, sets);
        let own = before.as_ref().map(|(_, before)| (*before, after));
        let own = own.filter(|(before, after)| before != after);
        let named = Named { name, own: after };
        let pair = Rc::new(Pair { old: before.map(|(role, _)| role), new: role, own });
        let index = *known.entry(Rc::clone(&pair)).or_insert(pairs.len());
        if index == pairs.len() {
            pairs.push((pair, Vec::new()));
        }
        pairs[index].1.push(named);
    }
    for (number, (pair, interfaces)) in pairs.into_iter().enumerate() {
        let sets = &mut comparison.sets;
        let before = pair.old.as_ref().map(|role| old.rules(role, sets)).unwrap_or_default();
        let after = new.rules(&pair.new, sets);
        let alike = Alike { number, own: pair.own, interfaces };
        comparison.pair(&before, &after, &alike);
    }
    comparison.found
}

/// An interface and its addresses after the change.
struct Named<'p> {
    name: &'p str,
    own: SetId,
}

/// The interfaces of a pair.
struct Alike<'p> {
    number: usize,
    own: Option<(SetId, SetId)>,
    interfaces: Vec<Named<'p>>,
}

/// What makes two differences one line.
type LineKey<'p> = (Effect, Direction, Vec<Span>, Option<PeerKey<'p>>, SetId);

#[derive(Default)]
struct Comparison<'p> {
    sets: Sets,
    /// Where a line stands, and the number of the pair that has spoken of it last.
    lines: HashMap<LineKey<'p>, (usize, usize)>,
    found: Found<'p>,
}

impl<'p> Comparison<'p> {
    fn pair(&mut self, before: &Rc<Vec<Held<'p>>>, after: &Rc<Vec<Held<'p>>>, alike: &Alike<'p>) {
        let (before, after) = match alike.own {
            // Nothing comes from an interface's own address, and nothing goes there.
            Some((old, new)) => (&self.without(before, old), &self.without(after, new)),
            None => (&**before, &**after),
        };
        self.side(Effect::Opens, after, before, alike);
        self.side(Effect::Closes, before, after, alike);
    }

    fn without(&mut self, rules: &[Held<'p>], own: SetId) -> Vec<Held<'p>> {
        let narrowed = |held: &Held<'p>| Held { peers: self.sets.minus(held.peers, own), ..*held };
        rules.iter().map(narrowed).collect()
    }

    /// What `rules` allow and `others` do not.
    fn side(&mut self, effect: Effect, rules: &[Held<'p>], others: &[Held<'p>], alike: &Alike<'p>) {
        let known: HashMap<RuleKey<'p>, SetId> =
            others.iter().map(|held| (held.key, held.peers)).collect();
        let mut index = None;
        for rule in rules {
            let counterpart = known.get(&rule.key);
            if counterpart == Some(&rule.peers) {
                continue;
            }
            let index = index.get_or_insert_with(|| Index::new(others, &mut self.sets));
            let rests = index.rests(rule, &mut self.sets);
            if counterpart.is_none() && rests.is_empty() {
                let why = self.why_idle(rule, others);
                self.found.idle.entry((effect, rule.key)).or_insert(why);
            }
            for (addresses, spans) in rests {
                let peer =
                    (counterpart.is_none() && addresses == rule.peers).then_some(rule.key.peer);
                let key = (effect, rule.key.direction, spans, peer, addresses);
                let is_told = self.line(key, rule, alike);
                let moving = (effect, rule.key);
                if is_told {
                    self.found.effective.insert(moving);
                } else {
                    self.found.idle.entry(moving).or_insert(Idle::Nobody);
                }
            }
        }
    }

    /// Enters a line for the interfaces that have the addresses as somebody else's; whether there is one.
    fn line(&mut self, key: LineKey<'p>, rule: &Held<'p>, alike: &Alike<'p>) -> bool {
        let addresses = key.4;
        if let Some((_, number)) = self.lines.get(&key)
            && *number == alike.number
        {
            return true;
        }
        // Where they change, own addresses have been taken out already.
        let is_remote =
            |it: &&Named<'p>| alike.own.is_some() || !self.sets.is_within(addresses, it.own);
        let names: Vec<_> = alike.interfaces.iter().filter(is_remote).map(|it| it.name).collect();
        if names.is_empty() {
            return false;
        }
        if let Some((line, number)) = self.lines.get_mut(&key) {
            *number = alike.number;
            self.found.differences[*line].interfaces.extend(names);
            return true;
        }
        self.lines.insert(key.clone(), (self.found.differences.len(), alike.number));
        let (effect, direction, spans, peer, _) = key;
        self.found.differences.push(Difference {
            effect,
            direction,
            whole: rule.span,
            spans,
            vpc: rule.key.vpc,
            peer,
            addresses: Rc::clone(self.sets.get(addresses)),
            interfaces: names,
        });
        true
    }

    fn why_idle(&mut self, rule: &Held<'p>, others: &[Held<'p>]) -> Idle<'p> {
        if self.sets.get(rule.peers).is_empty() {
            return Idle::Nobody;
        }
        let covers = |other: &&Held<'p>| {
            other.key.direction == rule.key.direction
                && other.span.covers(rule.span)
                && self.sets.holds(other.peers, rule.peers)
        };
        let covering = others.iter().find(covers);
        covering.map_or(Idle::CoveredTogether, |other| Idle::Covered(other.key))
    }
}

/// Peers that are taken away one by one; more are joined first.
const FEW: usize = 16;

/// Rules by direction and packets, with the peers of each.
struct Index([BTreeMap<Span, Vec<SetId>>; 2]);

impl Index {
    fn new(rules: &[Held<'_>], sets: &mut Sets) -> Self {
        let mut directions: [BTreeMap<Span, Vec<SetId>>; 2] = Default::default();
        for rule in rules {
            directions[rule.key.direction.index()].entry(rule.span).or_default().push(rule.peers);
        }
        for peers in directions.iter_mut().flat_map(BTreeMap::values_mut) {
            peers.sort_unstable();
            peers.dedup();
            if peers.len() > FEW {
                *peers = vec![sets.union(peers)];
            }
        }
        Self(directions)
    }

    /// What the rules leave of another one: addresses, and the packets that are left of each.
    fn rests(&self, rule: &Held<'_>, sets: &mut Sets) -> Vec<(SetId, Vec<Span>)> {
        let near = self.0[rule.key.direction.index()].range(..=rule.span.end());
        let near: Vec<_> = near.filter(|(span, _)| span.meets(rule.span)).collect();
        let mut rests: Vec<(SetId, Vec<Span>)> = Vec::new();
        for piece in rule.span.pieces(near.iter().map(|(span, _)| **span)) {
            let mut rest = rule.peers;
            for taken in near.iter().filter(|(span, _)| span.covers(piece)).flat_map(|it| it.1) {
                rest = sets.minus(rest, *taken);
            }
            if sets.get(rest).is_empty() {
                continue;
            }
            match rests.iter_mut().find(|(addresses, _)| *addresses == rest) {
                Some((_, spans)) => append(spans, piece),
                None => rests.push((rest, vec![piece])),
            }
        }
        rests
    }
}
