//! Loading addresses into the kernel's maps by the batch against one by one.

use std::path::Path;

use anyhow::{Result, ensure};
use sg_userspace::kernel::measure::{self, Load, Way};

use super::{Measured, Options, figures};
use crate::stale::{BPFFS, unique_name};

const ROUNDS: usize = 5;

pub(super) fn run(options: Options) -> Result<Measured> {
    let addresses = options.scaled(1_000_000);
    let count = u32::try_from(addresses)?;
    let load = |way| -> Result<Load> {
        let load = measure::load(&Path::new(BPFFS).join(unique_name("load")), count, way)?;
        ensure!(load.found == addresses, "{} of {addresses} were loaded", load.found);
        Ok(load)
    };
    // The first of either makes the machine find memory for it.
    load(Way::Batch)?;
    let mut pairs = Vec::new();
    for _ in 0..ROUNDS {
        let (one_by_one, batch) = (load(Way::OneByOne)?, load(Way::Batch)?);
        let net = |load: Load| load.whole.saturating_sub(load.waiting).as_secs_f64();
        pairs.push((net(one_by_one), net(batch)));
    }
    let ratio = figures::median_ratio(&pairs);
    let mut measured = Measured::begin();
    measured.add(ratio >= 5.0, format!("{ratio:.2}x faster"));
    let (one_by_one, batch) = figures::medians(&pairs);
    let each = |seconds: f64| seconds * 1e9 / figures::number(addresses);
    measured.context(format!(
        "{:.0} ns an address against {:.0} ns, grace periods apart",
        each(batch),
        each(one_by_one)
    ));
    Ok(measured)
}
