//! Which differences are meant: the list, and what a run makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use sg_common::{Reason, Verdict};

use super::trial::Opinion;
use super::witness::Fate;

/// Conversations that a failure shows.
const SHOWN: usize = 20;

/// A class of differences as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    class: String,
    /// Our reasons, one of them.
    ours: Vec<String>,
    /// What nft did.
    theirs: Theirs,
    /// State of connection tracking, one of them; empty: any.
    #[serde(default)]
    state: Vec<String>,
    /// Words that the packet has, all of them.
    #[serde(default)]
    packet: Vec<String>,
    /// Words that it has not, none of them.
    #[serde(default)]
    without: Vec<String>,
    /// The class of an earlier difference in the same conversation: since then one of the two knows a flow
    /// that the other does not.
    #[serde(default)]
    after: Vec<String>,
    /// For whoever reads the file.
    #[serde(rename = "why")]
    _why: String,
    #[serde(rename = "source")]
    _source: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Theirs {
    /// The ruleset let it pass.
    Pass,
    /// The ruleset dropped it.
    Drop,
    /// It did not come to the ruleset.
    Unseen,
}

/// Every class.
#[derive(Debug)]
pub struct Classes(Vec<Class>);

impl Classes {
    /// Those of `tests/oracle/differences.yaml`.
    ///
    /// # Errors
    /// When the file cannot be read, or names a reason or a class that is none.
    pub fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/differences.yaml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let classes: Vec<Class> = serde_saphyr::from_str(&text)?;
        let mut names = BTreeSet::new();
        for class in &classes {
            ensure!(names.insert(class.class.clone()), "the class {} is there twice", class.class);
            for reason in &class.ours {
                let known = Reason::ALL.iter().any(|it| it.name() == reason);
                ensure!(known, "{}: no reason is {reason}", class.class);
            }
        }
        for class in &classes {
            let unknown = class.after.iter().find(|it| !names.contains(*it));
            ensure!(unknown.is_none(), "{}: no class is {unknown:?}", class.class);
        }
        Ok(Self(classes))
    }

    /// The first class that a difference is of.
    fn of(&self, opinion: &Opinion<'_>, so_far: &SoFar<'_>) -> Option<&str> {
        let mut words = opinion.words();
        words.extend(so_far.half_open.then_some("half_open"));
        words.extend(so_far.was_reset.then_some("was_reset"));
        let has = |word: &String| words.contains(word.as_str());
        let (theirs, state) = match &opinion.theirs {
            Fate::Passed(state) => (Theirs::Pass, Some(state)),
            Fate::Dropped(state) => (Theirs::Drop, Some(state)),
            Fate::Unseen => (Theirs::Unseen, None),
        };
        let found = self.0.iter().find(|class| {
            class.ours.iter().any(|reason| reason == opinion.ours.name())
                && class.theirs == theirs
                && (class.state.is_empty() || state.is_some_and(|it| class.state.contains(it)))
                && class.packet.iter().all(has)
                && !class.without.iter().any(has)
                && (class.after.is_empty()
                    || class.after.iter().any(|it| so_far.classes.contains(&**it)))
        });
        found.map(|class| class.class.as_str())
    }
}

/// What has happened in a conversation.
#[derive(Default)]
struct SoFar<'c> {
    /// Classes of its differences.
    classes: BTreeSet<&'c str>,
    /// A SYN has passed on both sides, or on ours, and since then no answer to it on both.
    half_open: bool,
    /// A reset has passed on both, and since then no SYN on ours.
    was_reset: bool,
}

impl SoFar<'_> {
    fn note(&mut self, opinion: &Opinion<'_>) {
        let words = opinion.words();
        let ours = opinion.ours.verdict() == Verdict::Allow;
        if words.contains("syn") && ours {
            (self.half_open, self.was_reset) = (true, false);
        } else if ours && opinion.agrees() {
            self.half_open &= !words.contains("syn_ack");
            self.was_reset |= words.contains("reset");
        }
    }
}

/// `flow Dropped("invalid") ip reset tcp v4`
fn kind(opinion: &Opinion<'_>) -> String {
    let words: Vec<_> = opinion.words().into_iter().collect();
    format!("{} {:?} {}", opinion.ours.name(), opinion.theirs, words.join(" "))
}

/// What a run found.
#[derive(Debug, Default)]
pub struct Report {
    conversations: usize,
    compared: usize,
    agreed: usize,
    classes: BTreeMap<String, usize>,
    /// Conversations with a difference of no class, in full.
    unexplained: Vec<String>,
    /// Such differences by what a class would have to say.
    kinds: BTreeMap<String, usize>,
}

impl Report {
    /// Takes in a conversation.
    pub fn add(&mut self, classes: &Classes, name: &str, opinions: &[Opinion<'_>]) {
        self.conversations += 1;
        let mut so_far = SoFar::default();
        let mut story = String::new();
        let mut unexplained = false;
        for opinion in opinions {
            self.compared += 1;
            let class = if opinion.agrees() {
                self.agreed += 1;
                "agreed"
            } else if let Some(class) = classes.of(opinion, &so_far) {
                *self.classes.entry(class.to_owned()).or_default() += 1;
                so_far.classes.insert(class);
                class
            } else {
                unexplained = true;
                *self.kinds.entry(kind(opinion)).or_default() += 1;
                "UNEXPLAINED"
            };
            so_far.note(opinion);
            let Opinion { frame, ours, theirs } = opinion;
            let verdict = ours.verdict().name();
            story += &format!("    {}\n", frame.text);
            story += &format!("        {verdict} {}, nft {theirs:?}: {class}\n", ours.name());
        }
        if unexplained {
            self.unexplained.push(format!("{name}\n{story}"));
        }
    }

    /// Everything is explained, and every explanation is needed.
    ///
    /// # Errors
    /// With the conversations that hold a difference without a class, and the classes without a difference.
    pub fn verdict(&self, classes: &Classes) -> Result<()> {
        let unused = classes.0.iter().filter(|class| !self.classes.contains_key(&class.class));
        let unused: Vec<_> = unused.map(|class| class.class.as_str()).collect();
        let shown: String =
            self.unexplained.iter().take(SHOWN).map(|story| format!("\n{story}")).collect();
        let kinds: String =
            self.kinds.iter().map(|(kind, number)| format!("\n{number:6} {kind}")).collect();
        let number = self.unexplained.len();
        ensure!(
            number == 0,
            "{number} conversations with a difference of no class:{kinds}\n{shown}"
        );
        ensure!(unused.is_empty(), "classes without a difference: {}", unused.join(", "));
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { conversations, compared, agreed, .. } = self;
        write!(f, "{conversations} conversations, {compared} packets compared, {agreed} agreed")?;
        for (class, number) in &self.classes {
            write!(f, ", {class} {number}")?;
        }
        Ok(())
    }
}
