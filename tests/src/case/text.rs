//! Case files as they are written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_saphyr::Spanned;

/// A case file that was read.
#[derive(Debug)]
pub struct File {
    /// Its name, without the folder.
    pub name: String,
    /// Its cases, in order.
    pub cases: Vec<super::Case>,
}

/// Every case file, in the order of their names.
///
/// # Errors
/// Names file, case and line of what cannot be read.
pub fn files() -> Result<Vec<File>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    ensure!(!paths.is_empty(), "no case in {}", folder.display());
    paths.iter().map(|path| file(path).with_context(|| path.display().to_string())).collect()
}

fn file(path: &Path) -> Result<File> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.context("a file name")?;
    let cases: Vec<Spanned<Case>> = serde_saphyr::from_str(&fs::read_to_string(path)?)?;
    let case = |case: Spanned<Case>| {
        let (line, title) = (case.referenced.line(), case.value.name.clone());
        super::Case::from_text(&name, line, case.value)
            .with_context(|| format!("line {line}: {title}"))
    };
    let cases = cases.into_iter().map(case).collect::<Result<Vec<_>>>()?;
    Ok(File { name, cases })
}

/// A case as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    /// For whoever reads the file.
    #[serde(rename = "why")]
    pub(super) _why: String,
    pub(super) policy: String,
    pub(super) interface: OneOrMany,
    #[serde(default)]
    pub(super) without_policy: bool,
    #[serde(default)]
    pub(super) grace: Option<String>,
    pub(super) steps: Vec<Spanned<Step>>,
    #[serde(default)]
    pub(super) counters: Counters,
    #[serde(default)]
    pub(super) hits: Option<BTreeMap<String, u64>>,
    #[serde(default)]
    pub(super) events: Option<Vec<String>>,
}

/// Packets by direction and reason.
pub(super) type Counters = BTreeMap<String, BTreeMap<String, u64>>;

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    pub(super) fn names(self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name],
            Self::Many(names) => names,
        }
    }
}

/// A step: exactly one of `in`, `out`, `wait` and `policy`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    #[serde(rename = "in")]
    pub(super) ingress: Option<String>,
    #[serde(rename = "out")]
    pub(super) egress: Option<String>,
    pub(super) wait: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) at: Option<String>,
    pub(super) is: Option<String>,
}
