//! Why an edit was refused.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use crate::policy::diagnostic::{Code, Diagnostic, Diagnostics, Severity};

/// An edit that was refused: at least one finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditError {
    /// The first is what it is about.
    pub findings: Vec<Finding>,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// AWS's code, where AWS has one.
    pub code: Option<Code>,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl EditError {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { findings: vec![Finding { code: Some(code), message: message.into(), hint: None }] }
    }

    pub(super) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        if let Some(first) = self.findings.first_mut() {
            first.hint = hint.into();
        }
        self
    }

    /// The errors of what was read, without their places: they are places in a text of ours.
    pub(super) fn read(diagnostics: &Diagnostics) -> Self {
        let errors = diagnostics.iter().filter(|item| item.severity == Severity::Error);
        let finding = |item: &Diagnostic| Finding {
            code: item.code,
            message: item.message.clone(),
            hint: item.hint.clone(),
        };
        Self { findings: errors.map(finding).collect() }
    }

    /// AWS's code, where AWS has one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.findings.first().and_then(|finding| finding.code)
    }
}

impl Display for EditError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            if let Some(code) = finding.code {
                write!(formatter, "{code}: ")?;
            }
            formatter.write_str(&finding.message)?;
            if let Some(hint) = &finding.hint {
                write!(formatter, " ({hint})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for EditError {}
