//! One policy on one side, and the conversations that both engines judge.

use std::collections::{BTreeSet, HashMap};
use std::thread;

use anyhow::{Context as _, Result};
use sg_common::{Direction, Reason, Verdict};
use sg_userspace::compile::Surroundings;
use sg_userspace::export::{Target, nft_ruleset};
use sg_userspace::kernel::run::RunHook;
use sg_userspace::kernel::{TcMode, Wanted, XdpMode};
use sg_userspace::policy::model::Side;

use super::bench::{Filter, Sent};
use super::packet::{self, Fragment};
use super::random;
use super::witness::Fate;
use crate::case::check::Judge;
use crate::case::devices::Attachment;
use crate::case::judges::{Programs, programs};
use crate::case::{Action, Bench, Case, packet as language};

/// Frames that belong together, and to nothing else.
#[derive(Debug)]
struct Conversation {
    /// Where it stands, or which random one it is.
    pub name: String,
    /// In their order.
    pub frames: Vec<Frame>,
}

/// A frame on its way.
#[derive(Debug)]
pub struct Frame {
    /// In the packet language.
    pub text: String,
    /// Which way it travels.
    pub direction: Direction,
    at: usize,
    bytes: Vec<u8>,
}

/// What both engines said of a frame.
#[derive(Debug)]
pub struct Opinion<'t> {
    /// The frame.
    pub frame: &'t Frame,
    /// The programs.
    pub ours: Reason,
    /// nf_conntrack and the ruleset.
    pub theirs: Fate,
}

impl Opinion<'_> {
    /// Whether both let it pass or both did not.
    #[must_use]
    pub fn agrees(&self) -> bool {
        (self.ours.verdict() == Verdict::Allow) == matches!(self.theirs, Fate::Passed(_))
    }

    /// The words for the frame.
    #[must_use]
    pub fn words(&self) -> BTreeSet<&'static str> {
        packet::words(&self.frame.bytes)
    }
}

/// Our side: what cases are judged by, and where devices are.
pub struct OurPrograms<'c> {
    bench: Bench,
    /// Loaded for a case, and for all whose interfaces are alike: loading takes most of the time.
    loaded: Vec<(&'c Case, Programs)>,
}

impl<'c> OurPrograms<'c> {
    /// Makes the devices.
    ///
    /// # Errors
    /// When we are not root, or the kernel refuses.
    pub fn new() -> Result<Self> {
        let hooks = Wanted { xdp: XdpMode::Off, tc: TcMode::Auto };
        Ok(Self { bench: Bench::new(hooks)?, loaded: Vec::new() })
    }

    fn of(&mut self, case: &'c Case) -> Result<&mut Programs> {
        let found = self.loaded.iter().position(|(first, _)| first.has_programs_of(case));
        let index = match found {
            Some(index) => index,
            None => {
                self.loaded.push((case, programs(case, RunHook::Tc)?));
                self.loaded.len() - 1
            }
        };
        Ok(&mut self.loaded[index].1)
    }
}

/// A policy, the interfaces that judge by it, and what they judge.
#[derive(Debug)]
pub struct Trial<'c> {
    setting: Setting<'c>,
    /// Which end of the devices is protected; `None`: what the policy says.
    side: Option<Side>,
    conversations: Vec<Conversation>,
}

#[derive(Debug)]
enum Setting<'c> {
    OfCase(&'c Case),
    Own(Box<Case>),
}

impl Setting<'_> {
    const fn case(&self) -> &Case {
        match self {
            Self::OfCase(case) => case,
            Self::Own(case) => case,
        }
    }
}

/// The cases, those of one policy together. Behind its first wait or change of policy a case is left out: nft has
/// the machine's clock and rules of its own. Nor does nft learn flows in a grace time, or wait for a policy.
#[must_use]
pub fn of_cases<'c>(cases: &[&'c Case]) -> Vec<Trial<'c>> {
    let mut trials: Vec<Trial<'c>> = Vec::new();
    let is_possible = |case: &&&Case| !case.without_policy && case.grace_until == 0;
    for &case in cases.iter().filter(is_possible) {
        let conversation = Conversation { name: case.place(case.line), frames: frames(case) };
        match trials.iter_mut().find(|trial| trial.setting.case().has_setting_of(case)) {
            Some(trial) => trial.conversations.push(conversation),
            None => trials.push(Trial {
                setting: Setting::OfCase(case),
                side: None,
                conversations: vec![conversation],
            }),
        }
    }
    trials
}

fn frames(case: &Case) -> Vec<Frame> {
    let steps = case.steps.iter().map_while(|step| match &step.action {
        Action::Wait(_) | Action::Change(_) => None,
        Action::Packet { at, direction, frame, .. } => Some(Frame {
            text: step.text.clone(),
            direction: *direction,
            at: *at,
            bytes: frame.clone(),
        }),
    });
    steps.collect()
}

/// Random conversations on one side.
///
/// # Errors
/// When a line is not understood.
pub fn of_random(side: Side, seed: u64, number: usize) -> Result<Trial<'static>> {
    let case = Case::without_steps("random", random::POLICY, random::INTERFACE)?;
    let frame = |(direction, text): super::Line| -> Result<Frame> {
        let bytes = language::frame(&text, direction, None).with_context(|| text.clone())?;
        let way = if direction == Direction::Ingress { "in" } else { "out" };
        Ok(Frame { text: format!("{way}: {text}"), direction, at: 0, bytes })
    };
    let conversations = random::conversations(seed, number).into_iter().map(|one| {
        let frames = one.lines.into_iter().map(frame).collect::<Result<_>>()?;
        Ok(Conversation { name: one.name, frames })
    });
    let conversations = conversations.collect::<Result<_>>()?;
    Ok(Trial { setting: Setting::Own(Box::new(case)), side: Some(side), conversations })
}

impl<'c> Trial<'c> {
    /// What both engines say, conversation by conversation.
    ///
    /// # Errors
    /// When one of the engines cannot be asked.
    pub fn run(
        &self,
        programs: &mut OurPrograms<'c>,
        filter: &mut Filter,
    ) -> Result<Vec<(&str, Vec<Opinion<'_>>)>> {
        let case = self.setting.case();
        // Loading programs keeps one processor busy, nft another.
        let (ours, theirs) = thread::scope(|scope| {
            let theirs = scope.spawn(|| self.theirs(case, filter));
            (self.ours(programs), theirs.join())
        });
        let ours = ours.with_context(|| format!("programs, {}", case.name))?;
        let theirs = theirs.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let theirs = theirs.with_context(|| format!("nft, {}", case.name))?;
        let both = self.conversations.iter().zip(ours).zip(theirs);
        let opinions = both.map(|((conversation, ours), theirs)| {
            let all = conversation.frames.iter().zip(ours).zip(theirs);
            let opinions = all.filter_map(|((frame, ours), theirs)| {
                ours.map(|ours| Opinion { frame, ours, theirs })
            });
            (conversation.name.as_str(), opinions.collect())
        });
        Ok(opinions.collect())
    }

    fn ours(&self, programs: &mut OurPrograms<'c>) -> Result<Vec<Vec<Option<Reason>>>> {
        match &self.setting {
            Setting::OfCase(case) => self.judged(case, programs.of(case)?),
            Setting::Own(case) => {
                let mut attached = Attachment::new(&programs.bench, case, self.side)?;
                let reasons = self.judged(case, &mut attached)?;
                attached.finish()?;
                Ok(reasons)
            }
        }
    }

    /// `None`: the kernel's test run can make no such packet.
    fn judged<'j>(
        &self,
        case: &'j Case,
        judge: &mut impl Judge<'j>,
    ) -> Result<Vec<Vec<Option<Reason>>>> {
        // Any time but zero, which means "free" to the clock of flows.
        const NOW: u64 = 1_000_000_000_000;
        let mut all = Vec::new();
        for conversation in &self.conversations {
            judge.begin(&case.spec)?;
            let mut reasons = Vec::new();
            for frame in &conversation.frames {
                let decision = judge
                    .judge(frame.at, frame.direction, &frame.bytes, NOW)
                    .with_context(|| frame.text.clone())?;
                reasons.push(decision.map(|it| it.reason));
            }
            all.push(reasons);
        }
        Ok(all)
    }

    /// Each interface is a host of its own.
    fn theirs(&self, case: &Case, filter: &mut Filter) -> Result<Vec<Vec<Fate>>> {
        let mut fates: Vec<Vec<Fate>> =
            self.conversations.iter().map(|it| vec![Fate::Unseen; it.frames.len()]).collect();
        for (at, interface) in case.interfaces.iter().enumerate() {
            let own = case.spec.interfaces.get(&interface.slot).context("an interface")?;
            let side = self.side.unwrap_or(own.side);
            let target = Target {
                interface: interface.name.clone(),
                devices: vec![Filter::device(side).to_owned()],
                side: Some(side),
            };
            let surroundings = Surroundings::default();
            let ruleset = nft_ruleset(&case.policy, &case.name, &surroundings, &[target])?;
            let seen = filter.judge(side, &ruleset, &self.frames_at(at))?;
            for (conversation, seen) in fates.iter_mut().zip(seen) {
                for (fate, seen) in conversation.iter_mut().zip(seen) {
                    *fate = seen.unwrap_or_else(|| fate.clone());
                }
            }
        }
        for (conversation, fates) in self.conversations.iter().zip(&mut fates) {
            reassembled(&conversation.frames, fates);
        }
        Ok(fates)
    }

    /// Every frame, of which those of other interfaces are none.
    fn frames_at(&self, at: usize) -> Vec<Vec<Sent<'_>>> {
        let conversations = self.conversations.iter().map(|conversation| {
            let frames = conversation.frames.iter();
            let sent = |frame: &'_ Frame| frame.at == at;
            frames.map(|it| sent(it).then_some((it.direction, &it.bytes[..]))).collect()
        });
        conversations.collect()
    }
}

/// A datagram is judged whole, and seen as its first fragment: what becomes of that becomes of all.
fn reassembled(frames: &[Frame], fates: &mut [Fate]) {
    let mut queues: HashMap<Vec<u8>, Vec<(usize, Fragment)>> = HashMap::new();
    let mut datagrams: Vec<Vec<(usize, Fragment)>> = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let Some(fragment) = packet::fragment(&frame.bytes) else { continue };
        let queue = queues.entry(fragment.datagram.clone()).or_default();
        queue.push((index, fragment));
        if is_whole(queue) {
            datagrams.push(std::mem::take(queue));
        }
    }
    for datagram in datagrams.into_iter().chain(queues.into_values()) {
        let firsts = datagram.iter().filter(|(_, fragment)| fragment.offset == 0);
        let seen = firsts.map(|&(index, _)| &fates[index]).find(|fate| **fate != Fate::Unseen);
        let Some(fate) = seen.cloned() else { continue };
        for (index, _) in datagram {
            fates[index] = fate.clone();
        }
    }
}

/// Whether the fragments cover everything up to the end of a last one.
fn is_whole(queue: &[(usize, Fragment)]) -> bool {
    let mut pieces: Vec<_> = queue.iter().map(|(_, piece)| (piece.offset, piece.end)).collect();
    pieces.sort_unstable();
    let covered = pieces.iter().fold(
        0,
        |covered, &(offset, end)| {
            if offset <= covered { end.max(covered) } else { covered }
        },
    );
    queue.iter().any(|(_, piece)| !piece.more && piece.end <= covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(lines: &[(&str, Fate)]) -> Vec<Fate> {
        let frame = |text: &str| Frame {
            text: text.to_owned(),
            direction: Direction::Ingress,
            at: 0,
            bytes: language::frame(text, Direction::Ingress, None).expect(text),
        };
        let frames: Vec<_> = lines.iter().map(|(text, _)| frame(text)).collect();
        let mut fates: Vec<_> = lines.iter().map(|(_, fate)| fate.clone()).collect();
        reassembled(&frames, &mut fates);
        fates
    }

    #[test]
    fn a_datagram_fares_as_its_first_fragment() {
        let passed = Fate::Passed("new".to_owned());
        let dropped = Fate::Dropped("new".to_owned());
        let first = "udp 192.0.2.1:1 > 10.0.0.5:53 len=16 udplength=48 frag=0+@1";
        let last = "udp 192.0.2.1:1 > 10.0.0.5:53 len=24 frag=24@1";
        let other = "udp 192.0.2.1:1 > 10.0.0.5:53 len=24 frag=24@2";
        let lines = [
            (last, Fate::Unseen),
            (other, Fate::Unseen),
            (first, passed.clone()),
            // The same identification once more, and then without an end.
            (first, dropped.clone()),
            (last, Fate::Unseen),
            (first, Fate::Unseen),
        ];
        let expected =
            [passed.clone(), Fate::Unseen, passed, dropped.clone(), dropped, Fate::Unseen];
        assert_eq!(fates(&lines), expected);
    }
}
