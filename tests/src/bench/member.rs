//! One member added to a large group, and to a small one, both named by many policies.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sg_userspace::{
    kernel::{
        serve::Client,
        transaction::{Author, EditRequest},
    },
    policy::edit::Edit,
};

use super::{Measured, Options, figures, generate};
use crate::{
    netns::Namespace,
    process::{Output, Running},
    sgctl::Sgctl,
};

/// Members of the group that the large one is compared with.
const SMALL: usize = 1000;
/// Edits whose times count, of each kind and size.
const EDITS: usize = 60;
/// Attaching a hundred devices, or reading a million members, on a slow machine.
const LIMIT: Duration = Duration::from_secs(900);
/// What is still a handful of elements.
const HANDFUL: usize = 10;

pub(super) fn run(options: Options) -> Result<Measured> {
    let policies = if options.quick { 10 } else { 100 };
    let namespace = Namespace::new("bench")?;
    let mut batch = String::new();
    for index in 0..policies {
        writeln!(batch, "link add d{index} type veth peer name e{index}\nlink set d{index} up")?;
    }
    namespace.ip(&batch)?;
    let sgctl = Sgctl::new(&namespace)?;
    let bench = Bench { sgctl: &sgctl, policies };
    let large = options.scaled(1_000_000);
    bench.sgctl(&["attach", "--policy", &bench.policy(SMALL)?])?;
    let serving = start_serving(&sgctl)?;
    // The small one before and after the large one: a machine that has become slower shows.
    let before = bench.edits(&serving, SMALL)?;
    bench.sgctl(&["apply", &bench.policy(large)?])?;
    let of_large = bench.edits(&serving, large)?;
    bench.sgctl(&["apply", &bench.policy(SMALL)?])?;
    let after = bench.edits(&serving, SMALL)?;
    let of_small = Edits::joined(before, after);

    let mut measured = Measured::begin();
    let (add, remove) =
        (of_large.added.against(&of_small.added), of_large.removed.against(&of_small.removed));
    measured.at_most(3.0, add.latency, "add: latency");
    measured.at_most(3.0, add.processor, "processor");
    measured.at_most(3.0, remove.latency, "remove: latency");
    measured.at_most(3.0, remove.processor, "processor");
    let (writes, few) = (of_large.added.writes(), of_small.added.writes());
    measured.add(writes <= HANDFUL && writes == few, format!("{writes} writes an added member"));
    // For each policy that names it: the permit, one that tells early fragments of it, and an epoch.
    let one_each = of_large.fresh_class <= 3 * policies + HANDFUL;
    measured.add(
        one_each && of_large.fresh_class == of_small.fresh_class,
        format!("{} of a class that nobody had", of_large.fresh_class),
    );
    measured.context(format!("add in a group of {large}: {}", of_large.added));
    measured.context(format!("of {SMALL}: {}", of_small.added));
    measured.context(format!("remove: {}; of {SMALL}: {}", of_large.removed, of_small.removed));
    Ok(measured)
}

/// Starts `sgctl serve` and waits until it answers.
pub(super) fn start_serving(sgctl: &Sgctl<'_>) -> Result<Running> {
    let serving = sgctl.start(["serve"])?;
    let started = std::time::Instant::now();
    while Client::connect(&sgctl.paths()).is_err() {
        ensure!(started.elapsed() < LIMIT, "sgctl serve does not answer");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(serving)
}

/// A request of one edit.
pub(super) fn request(edit: Edit) -> EditRequest {
    let author = Author { user: "bench".into(), command: "bench".into(), message: None };
    EditRequest { edits: vec![edit], author }
}

struct Bench<'a> {
    sgctl: &'a Sgctl<'a>,
    policies: usize,
}

impl Bench<'_> {
    fn sgctl(&self, words: &[&str]) -> Result<Output> {
        self.sgctl.run_within(LIMIT, words)?.ok().with_context(|| format!("sgctl {words:?}"))
    }

    /// A file in which each interface here has a group of its own that names `big`.
    fn policy(&self, members: usize) -> Result<String> {
        let mut text = String::from(
            "vpcs:\n  - name: bench\n    cidrs: [10.0.0.0/8, 172.16.0.0/16]\n    security_groups:\n      \
             - {name: big, egress: []}\n      - {name: other, egress: []}\n",
        );
        for index in 0..self.policies {
            let rules = "{protocol: tcp, ports: 80, from: {group: big}}, {protocol: tcp, ports: 443, from: {group: other}}";
            writeln!(text, "      - {{name: user-{index}, ingress: [{rules}]}}")?;
        }
        text += "    interfaces:\n";
        for index in 0..self.policies {
            let place =
                format!("addresses: [172.16.0.{}], device: d{index}, side: workload", index + 1);
            writeln!(text, "      - {{name: local-{index}, {place}, groups: [user-{index}]}}")?;
        }
        for index in 0..members {
            let address = generate::address(index + 1);
            writeln!(text, "      - {{name: m-{index}, addresses: [{address}], groups: [big]}}")?;
        }
        let path = self.sgctl.policy(&format!("{members}.yaml"), &text)?;
        Ok(path.to_str().context("a path in UTF-8")?.to_owned())
    }

    fn edits(&self, serving: &Running, members: usize) -> Result<Edits> {
        let mut client = Client::connect(&self.sgctl.paths())?;
        let mut edits = Edits::default();
        let mut made = |edit: Edit| -> Result<Cost> {
            let before = processor_time(serving.id())?;
            let (seconds, edited) = figures::timed(|| client.edit(&request(edit)));
            let writes = edited?.writes;
            let processor = processor_time(serving.id())? - before;
            Ok(Cost { seconds, processor, writes })
        };
        let add = |name: &str, groups: &str| {
            let address = generate::address(members + 1000);
            let interface = format!("{{name: {name}, addresses: [{address}], groups: [{groups}]}}");
            Edit::InterfaceAdd { vpc: None, interface }
        };
        let remove = |name: &str| Edit::InterfaceRemove { interface: name.to_owned() };
        // The first finds a policy that somebody else has put in force.
        for _ in 0..3 {
            made(add("warm", "big"))?;
            made(remove("warm"))?;
        }
        for _ in 0..EDITS {
            edits.added.0.push(made(add("one", "big"))?);
            edits.removed.0.push(made(remove("one"))?);
        }
        edits.fresh_class = made(add("both", "big, other"))?.writes;
        made(remove("both"))?;
        Ok(edits)
    }
}

/// What an edit took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    seconds: f64,
    /// Nanoseconds of the process that serves.
    processor: u64,
    writes: usize,
}

/// Edits of one kind.
#[derive(Debug, Default)]
struct Costs(Vec<Cost>);

/// How much more one kind takes than another.
struct Ratio {
    latency: f64,
    processor: f64,
}

impl Costs {
    fn median(&self, of: impl Fn(&Cost) -> f64) -> f64 {
        figures::median(self.0.iter().map(of).collect())
    }

    fn latency(&self) -> f64 {
        self.median(|cost| cost.seconds * 1e3)
    }

    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one edit")]
    fn processor(&self) -> f64 {
        self.median(|cost| cost.processor as f64 / 1e6)
    }

    /// Of all alike, so that one is enough to tell: the most.
    fn writes(&self) -> usize {
        self.0.iter().map(|cost| cost.writes).max().unwrap_or_default()
    }

    fn against(&self, other: &Self) -> Ratio {
        Ratio {
            latency: self.latency() / other.latency(),
            processor: self.processor() / other.processor(),
        }
    }
}

impl std::fmt::Display for Costs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (latency, processor) = (self.latency(), self.processor());
        write!(f, "{latency:.1} ms, {processor:.2} ms of processor, {} writes", self.writes())
    }
}

#[derive(Debug, Default)]
struct Edits {
    added: Costs,
    removed: Costs,
    /// Elements written for a member that brings a class.
    fresh_class: usize,
}

impl Edits {
    fn joined(mut one: Self, other: Self) -> Self {
        one.added.0.extend(other.added.0);
        one.removed.0.extend(other.removed.0);
        one
    }
}

/// Nanoseconds that the threads of a process have run.
fn processor_time(process: u32) -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{process}/task")).context("its threads")? {
        // A thread may have ended since.
        let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        sum += running_time(&text);
    }
    Ok(sum)
}

/// The first of the numbers in a `schedstat`.
fn running_time(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_compared_by_their_medians() {
        let costs = |all: &[(f64, u64, usize)]| {
            let cost = |&(seconds, processor, writes)| Cost { seconds, processor, writes };
            Costs(all.iter().map(cost).collect())
        };
        let large = costs(&[(0.02, 3_000_000, 2), (0.04, 9_000_000, 2), (9.0, 6_000_000, 3)]);
        let small = costs(&[(0.02, 2_000_000, 2)]);
        let ratio = large.against(&small);
        assert_eq!((ratio.latency, ratio.processor), (2.0, 3.0));
        assert_eq!((large.writes(), small.writes()), (3, 2));
    }

    #[test]
    fn running_time_is_the_first_number() {
        assert_eq!(running_time("12345 67 8\n"), 12345);
        assert_eq!(running_time(""), 0);
    }
}
