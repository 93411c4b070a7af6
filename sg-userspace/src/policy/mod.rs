//! Policy files: from YAML text to the validated [`model::Policy`].
//!
//! ```text
//! text --tree--> Node --record, value--> what is written --check--> Policy, or every error
//! ```
//!
//! A file is refused as a whole or taken as a whole; all its errors are told in one run.
//! [`model`] is what the rest of the program knows, the other modules are this one's alone.

mod check;
mod cidr;
mod diagnostic;
pub mod edit;
mod expiry;
mod file;
pub mod fragment;
pub mod model;
mod names;
mod record;
mod render;
mod rule_id;
mod schema;
mod source;
mod text;
mod traffic;
mod tree;
mod value;
mod write;

use diagnostic::Report;
use source::{Source, Span};

pub use diagnostic::{Code, Diagnostic, Diagnostics, Place, Related, Severity};
pub use expiry::Expired;
pub use file::{FileError, load_file, read_file};
pub use fragment::Fragment;
pub use model::Policy;
pub(crate) use names::did_you_mean;
pub use render::Style;
pub use rule_id::{PeerRef, RuleId, RuleIdError};
pub use schema::schema;
pub use write::write;

/// The largest policy file that is taken.
pub const MAX_BYTES: usize = 256 * 1024 * 1024;

/// A policy file that was taken.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub policy: Policy,
    /// What was found and does not stop it.
    pub warnings: Diagnostics,
}

/// A policy file that was refused.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {} in the policy", .diagnostics.source_name(), Count(.diagnostics.errors()))]
pub struct Rejected {
    /// Every error, and the warnings.
    pub diagnostics: Diagnostics,
}

/// "1 error", "2 errors".
struct Count(usize);

impl std::fmt::Display for Count {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} error{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

/// Reads a policy; `source_name` stands in diagnostics.
///
/// # Errors
///
/// [`Rejected`] holds every error that could be found: all of them, unless the text is not YAML.
pub fn load(source_name: &str, text: &str) -> Result<Loaded, Box<Rejected>> {
    let source = Source::new(source_name, text);
    let mut report = Report::new();
    let policy = if text.len() > MAX_BYTES {
        let message = format!("the text has {} bytes, at most {MAX_BYTES} are read", text.len());
        report.error(None, Span::new(0, 0), message);
        None
    } else {
        let root = tree::parse(text, &source, &mut report);
        root.and_then(|root| check::file(&root, &source, &mut report))
    };
    let has_errors = report.has_errors();
    let diagnostics = report.finish(source);
    match policy {
        Some(policy) if !has_errors => Ok(Loaded { policy, warnings: diagnostics }),
        Some(_) | None => Err(Box::new(Rejected { diagnostics })),
    }
}
