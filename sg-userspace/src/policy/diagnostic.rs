//! What is wrong with a policy file, as data: rendering is [`super::render`]'s.
//!
//! A check never stops at its first finding. It writes a [`Draft`] into the [`Report`] and goes on;
//! at the end the drafts get their lines and columns and become [`Diagnostics`].

use std::collections::HashSet;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::source::{Source, Span};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken, perhaps not as it was meant.
    Warning,
}

macro_rules! codes {
    ($($variant:ident = $text:literal: $doc:literal,)*) => {
        /// An AWS error code, spelled as the EC2 API spells it.
        ///
        /// Held against AWS's list of client errors,
        /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>, and
        /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSecurityGroup.html> (that a group in use
        /// is a `DependencyViolation` in a VPC; `InvalidGroup.InUse` was EC2-Classic's, as was
        /// `InvalidGroup.Reserved` for deleting `default`). A variant says where the service answers what the list
        /// has not, or spells it otherwise.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $doc] $variant,)* }

        impl Code {
            const ALL: &[Self] = &[$(Self::$variant),*];

            /// AWS's spelling.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

codes! {
    GroupDuplicate = "InvalidGroup.Duplicate": "Two groups of a VPC with one name.",
    GroupNotFound = "InvalidGroup.NotFound": "A group that the VPC does not have.",
    GroupReserved = "InvalidGroup.Reserved": "A new group with the name of one that always exists: `default`.",
    GroupUndeletable = "CannotDelete": "The group `default` is to go.",
    DependencyViolation = "DependencyViolation": "Something is to go that something else refers to.",
    PermissionDuplicate = "InvalidPermission.Duplicate": "The same rule twice.",
    PermissionNotFound = "InvalidPermission.NotFound": "A rule that the group does not have.",
    RuleIdNotFound = "InvalidSecurityGroupRuleId.NotFound":
        "An identifier of a rule that the group does not have.",
    RuleIdMalformed = "InvalidSecurityGroupRuleId.Malformed": "No identifier of a rule.",
    PermissionMalformed = "InvalidPermission.Malformed": "A rule that is not one.",
    PrefixListNotFound = "InvalidPrefixListID.NotFound": "A prefix list that the VPC does not have.",
    PrefixListModification = "InvalidPrefixListModification":
        "An entry is to come that is there, or to go that is not. Not in the list; what the service answers.",
    PrefixListMaxEntries = "PrefixListMaxEntriesExceeded":
        "More entries than a list declares. Not in the list; clients of the service wait for it.",
    RulesLimit = "RulesPerSecurityGroupLimitExceeded": "Too many rules in a group.",
    GroupsPerInterfaceLimit = "SecurityGroupsPerInterfaceLimitExceeded":
        "Too many groups on an interface.",
    GroupsLimit = "SecurityGroupLimitExceeded": "Too many groups in a VPC.",
    AddressInUse = "InvalidIPAddress.InUse": "An address that another interface has.",
    SubnetRange = "InvalidSubnet.Range": "A subnet outside its VPC.",
    SubnetConflict = "InvalidSubnet.Conflict": "Two subnets that overlap.",
    InterfaceNotFound = "InvalidNetworkInterfaceID.NotFound": "An interface that the file does not have.",
    VpcNotFound = "InvalidVpcID.NotFound": "A VPC that the file does not have.",
    VpcRange = "InvalidVpc.Range":
        "Address ranges that a VPC cannot have. `InvalidVpcRange` in the list; so spelled by the service.",
    ParameterValue = "InvalidParameterValue": "A value that its key does not take.",
    ParameterCombination = "InvalidParameterCombination": "Keys that exclude one another.",
    ParameterMissing = "MissingParameter": "A key that must be there.",
    ParameterUnknown = "UnknownParameter": "A key that does not exist.",
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let found = Self::ALL.iter().find(|code| code.as_str() == text);
        found.copied().ok_or_else(|| D::Error::custom(format!("there is no code {text:?}")))
    }
}

/// Where something is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// In bytes.
    pub offset: usize,
    /// In bytes.
    pub length: usize,
}

impl Place {
    fn new(source: &Source<'_>, span: Span) -> Self {
        let (line, column) = source.line_column(span.start());
        Self { line, column, offset: span.start(), length: span.length() }
    }
}

/// Another place that a finding speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Related {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What is there.
    pub label: String,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// AWS's code, where AWS has one.
    pub code: Option<Code>,
    /// What is wrong, in one line.
    pub message: String,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What to write under the place.
    pub label: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Other places that belong to it.
    pub related: Vec<Related>,
}

/// Everything found in one file, in the order of the file.
///
/// Serializes as a JSON array of [`Diagnostic`]s.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    pub(super) source: Source<'static>,
    pub(super) items: Vec<Diagnostic>,
    suppressed: usize,
}

impl Diagnostics {
    /// The findings.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.items.iter()
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many are errors, those included that were [suppressed](Self::suppressed).
    pub fn errors(&self) -> usize {
        let kept = self.items.iter().filter(|item| item.severity == Severity::Error).count();
        kept + self.suppressed
    }

    /// Errors beyond the first thousand, which are counted and not kept.
    pub fn suppressed(&self) -> usize {
        self.suppressed
    }

    /// The name of the file, as given to [`super::load`].
    pub fn source_name(&self) -> &str {
        &self.source.name
    }
}

impl Serialize for Diagnostics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.items)
    }
}

/// A finding in the making: places are still byte ranges.
#[derive(Debug)]
pub(crate) struct Draft {
    severity: Severity,
    code: Option<Code>,
    span: Span,
    message: String,
    label: Option<String>,
    hint: Option<String>,
    related: Vec<(Span, String)>,
}

impl Draft {
    fn new(severity: Severity, code: Option<Code>, span: Span, message: String) -> Self {
        Self { severity, code, span, message, label: None, hint: None, related: Vec::new() }
    }

    pub(crate) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    pub(crate) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn maybe_hint(&mut self, hint: Option<String>) -> &mut Self {
        self.hint = hint.or(self.hint.take());
        self
    }

    pub(crate) fn related(&mut self, span: Span, label: impl Into<String>) -> &mut Self {
        self.related.push((span, label.into()));
        self
    }

    fn finish(self, source: &Source<'_>) -> Diagnostic {
        let related = self.related.into_iter();
        Diagnostic {
            severity: self.severity,
            code: self.code,
            message: self.message,
            place: Place::new(source, self.span),
            label: self.label,
            hint: self.hint,
            related: related
                .map(|(span, label)| Related { place: Place::new(source, span), label })
                .collect(),
        }
    }
}

/// Findings of each severity that are kept; nobody reads more, and a hint may be costly to find.
const KEPT: usize = 1000;

/// Collects findings.
#[derive(Debug)]
pub(crate) struct Report {
    drafts: Vec<Draft>,
    /// An alias makes one text be checked many times; its errors are told once.
    told: HashSet<(Span, String)>,
    /// Takes what is written about a finding that is not kept.
    discarded: Draft,
    errors: usize,
    warnings: usize,
    suppressed: usize,
}

impl Report {
    pub(crate) fn new() -> Self {
        let nowhere = Span::new(0, 0);
        Self {
            drafts: Vec::new(),
            told: HashSet::new(),
            discarded: Draft::new(Severity::Warning, None, nowhere, String::new()),
            errors: 0,
            warnings: 0,
            suppressed: 0,
        }
    }

    pub(crate) fn error(
        &mut self,
        code: impl Into<Option<Code>>,
        span: Span,
        message: impl Into<String>,
    ) -> &mut Draft {
        self.push(Severity::Error, code.into(), span, message.into())
    }

    pub(crate) fn warning(&mut self, span: Span, message: impl Into<String>) -> &mut Draft {
        self.push(Severity::Warning, None, span, message.into())
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether another error would not be kept: what explains it need not be worked out.
    pub(crate) fn is_full(&self) -> bool {
        self.errors >= KEPT
    }

    fn push(
        &mut self,
        severity: Severity,
        code: Option<Code>,
        span: Span,
        message: String,
    ) -> &mut Draft {
        let told = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        if *told >= KEPT {
            self.suppressed += usize::from(severity == Severity::Error);
            self.discarded.related.clear();
            return &mut self.discarded;
        }
        if !self.told.insert((span, message.clone())) {
            self.discarded.related.clear();
            return &mut self.discarded;
        }
        *told += 1;
        self.drafts.push(Draft::new(severity, code, span, message));
        let last = self.drafts.len() - 1;
        &mut self.drafts[last]
    }

    /// In the order of the file.
    pub(crate) fn finish(mut self, source: Source<'_>) -> Diagnostics {
        self.drafts.sort_by_key(|draft| draft.span);
        let items: Vec<_> = self.drafts.into_iter().map(|draft| draft.finish(&source)).collect();
        // Nothing is ever rendered without a finding: then the text need not be copied.
        let source = if items.is_empty() { Source::new(&source.name, "") } else { source };
        Diagnostics { source: source.into_owned(), items, suppressed: self.suppressed }
    }
}
