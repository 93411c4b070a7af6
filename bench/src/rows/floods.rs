//! Rows 5 and 6: how many packets of a flood from random sources are dropped in a second.

use std::cell::RefCell;

use anyhow::Result;

use super::{Lab, Row};
use crate::floor::PARSE;
use crate::paired::{self, Contender, Paired};
use crate::report::{Bound, Measured, Point, Table};
use crate::rivals::Rival;
use crate::scenes::{Port, Scene};
use crate::wire::{KEPT_UP, Window};

/// Row 5.
pub(super) struct AgainstFloor;
/// Row 6.
pub(super) struct AgainstRivals;

/// Flows that are established meanwhile, as powers of two.
const FEW: u32 = 10;
const MANY: u32 = 20;
const CLOSED: Bound = Bound::at_least(0.75).aiming(0.9);
const OPEN: Bound = Bound::at_least(0.5).aiming(0.65);

impl Row for AgainstFloor {
    fn number(&self) -> u8 {
        5
    }

    fn title(&self) -> &'static str {
        "drops of a flood from random sources / X"
    }

    fn method(&self) -> &'static str {
        "SYNs of live frames (BPF_PROG_TEST_RUN) through a veth, native XDP, source address and port drawn for each. \
         The generator runs on the last processor, a tenth faster than the receiver (a kernel thread, threaded \
         NAPI), which runs on the first. Packets that the receiver takes in a second of its processor, in windows of \
         interleaved rounds, against X, which drops what it has read. Every packet that arrived must be counted as \
         dropped for want of a rule, and no table may grow."
    }

    fn measure(&self, lab: Lab) -> Result<Measured> {
        let x = RefCell::new(Scene::parsing()?);
        let (few, many) = (RefCell::new(Scene::ours(FEW)?), RefCell::new(Scene::ours(MANY)?));
        let cases = [
            ("closed to everybody, 1k flows", &few, Port::Closed, CLOSED),
            ("closed to everybody, 1M flows", &many, Port::Closed, CLOSED),
            ("open to others, 1k flows", &few, Port::OpenToOthers, OPEN),
            ("open to others, 1M flows", &many, Port::OpenToOthers, OPEN),
        ];
        let mut floods = vec![Flood { name: PARSE, scene: &x, port: Port::Closed }];
        floods.extend(cases.map(|(name, scene, port, _)| Flood { name, scene, port }));
        let mut measured = Measured::default();
        let windows = flooded(lab, &floods, &mut measured)?;
        for (name, _, _, bound) in cases {
            measured.point(point(&windows, name, name, PARSE, bound)?);
        }
        let excess = windows.spread(PARSE, Window::excess)?.median;
        if excess < KEPT_UP {
            measured.note(format!(
                "only {excess:.2} frames were sent for each that X took: it had time to sleep, and its waking up is in \
                 its cost, which flatters the ratio"
            ));
        }
        Ok(measured)
    }
}

/// Each rival: its names by port, and what ours must be against it.
const RIVALS: [(Rival, [&str; 2], Bound); 3] = [
    (Rival::NftInput, ["closed: nftables input", "others: nftables input"], Bound::at_least(5.0)),
    (
        Rival::NftIngress,
        ["closed: nftables netdev ingress", "others: nftables netdev ingress"],
        Bound::at_least(3.0),
    ),
    (
        Rival::Iptables,
        ["closed: iptables with ipset", "others: iptables with ipset"],
        Bound::none(),
    ),
];
const OURS: [&str; 2] = ["closed: ours", "others: ours"];
const PORTS: [Port; 2] = [Port::Closed, Port::OpenToOthers];

impl Row for AgainstRivals {
    fn number(&self) -> u8 {
        6
    }

    fn title(&self) -> &'static str {
        "drops of the same flood, ours / others"
    }

    fn method(&self) -> &'static str {
        "As row 5, with 1k established flows. Others see packets where they would: nftables with connection tracking \
         at input, nftables at the device's ingress hook (drops SYNs that no rule allows, lets pass what is none), \
         iptables with connection tracking at INPUT; the veth gives them its frames by the same kernel thread (GRO). \
         Same policy, sets and verdict maps, established first; every packet that arrived must be in their counter of \
         drops."
    }

    fn measure(&self, lab: Lab) -> Result<Measured> {
        let ours = RefCell::new(Scene::ours(FEW)?);
        let mut rivals = Vec::new();
        for (rival, _, _) in RIVALS {
            rivals.push(RefCell::new(Scene::rival(rival)?));
        }
        let mut floods = Vec::new();
        for (index, port) in PORTS.into_iter().enumerate() {
            floods.push(Flood { name: OURS[index], scene: &ours, port });
            for ((_, names, _), scene) in RIVALS.iter().zip(&rivals) {
                floods.push(Flood { name: names[index], scene, port });
            }
        }
        let mut measured = Measured::default();
        let windows = flooded(lab, &floods, &mut measured)?;
        for index in 0..PORTS.len() {
            for (_, names, bound) in RIVALS {
                let (name, ours) = (names[index], OURS[index]);
                measured.point(point(&windows, name, ours, name, bound)?);
            }
        }
        Ok(measured)
    }
}

/// A port of a scene.
struct Flood<'a> {
    name: &'static str,
    scene: &'a RefCell<Scene>,
    port: Port,
}

/// Floods all of them in turn; tells what became of their tables and of the processors.
fn flooded(lab: Lab, floods: &[Flood<'_>], measured: &mut Measured) -> Result<Paired<Window>> {
    // Each scene once, by the name of its first flood.
    let mut scenes: Vec<&Flood<'_>> = Vec::new();
    for flood in floods {
        if !scenes.iter().any(|known| std::ptr::eq(known.scene, flood.scene)) {
            scenes.push(flood);
        }
    }
    let flows = || -> Result<Vec<u64>> {
        scenes.iter().map(|flood| flood.scene.borrow().flows()).collect()
    };
    let before = flows()?;
    let mut contenders = Vec::new();
    for Flood { name, scene, port } in floods {
        let turn = || scene.borrow_mut().flood(*port, lab.window());
        contenders.push(Contender::new(name, turn));
    }
    let windows = paired::run(lab.rounds(), contenders)?;
    for ((flood, before), after) in scenes.iter().zip(&before).zip(flows()?) {
        measured.exact(&format!("flows known behind the floods, {}", flood.name), after, *before);
    }
    measured.table(table(floods, &windows)?);
    Ok(windows)
}

fn table(floods: &[Flood<'_>], windows: &Paired<Window>) -> Result<Table> {
    let header = &["who", "Mpps by the clock", "receiver ns", "receiver busy", "sent / arrived"];
    let mut table = Table::new("what the rates are made of (medians)", header);
    for &Flood { name, .. } in floods {
        let median =
            |of: fn(&Window) -> f64| Ok::<_, anyhow::Error>(windows.spread(name, of)?.median);
        table.row([
            name.to_owned(),
            format!("{:.2}", median(|window| window.rate)? / 1e6),
            format!("{:.0}", median(|window| window.each)?),
            format!("{:.0} %", median(|window| window.busy)? * 100.0),
            format!("{:.2}", median(Window::excess)?),
        ]);
    }
    Ok(table)
}

fn point(
    windows: &Paired<Window>,
    label: &str,
    one: &str,
    other: &str,
    bound: Bound,
) -> Result<Point> {
    let mut point = Point::new(label, windows.ratio(one, other, Window::capacity)?, bound);
    for name in [one, other] {
        point =
            point.with_unit(name, "Mpps", windows.spread(name, |window| window.capacity() / 1e6)?);
    }
    Ok(point)
}
