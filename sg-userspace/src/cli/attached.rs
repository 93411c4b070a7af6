//! The attached interface that a command names.

use anyhow::bail;

use crate::compile::TableSpec;
use crate::policy;

/// Its slot.
pub(super) fn slot(tables: &TableSpec, name: &str) -> anyhow::Result<u16> {
    let Some(slot) = tables.slot(name) else {
        let names = || tables.interfaces.values().map(|one| one.name.as_str());
        let near = policy::did_you_mean(name, names());
        bail!("no interface {name:?} is attached ({})", near.unwrap_or_else(|| there_are(names())));
    };
    Ok(slot)
}

/// What there is instead, as far as anybody reads.
pub(super) fn there_are<'n>(names: impl Iterator<Item = &'n str>) -> String {
    const TOLD: usize = 10;
    let all: Vec<_> = names.collect();
    let told = all.iter().take(TOLD).copied().collect::<Vec<_>>().join(", ");
    match all.len() {
        0 => "there are: none".to_owned(),
        count if count > TOLD => format!("there are: {told} and {} more", count - TOLD),
        _ => format!("there are: {told}"),
    }
}
