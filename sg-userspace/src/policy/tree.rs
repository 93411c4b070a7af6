//! YAML text as a generic tree in which every value knows its place.
//!
//! Typed deserialization stops at the first surprise, and a policy file must have all its errors
//! told at once. So serde-saphyr fills this tree, which takes any YAML, and [`super::record`] and
//! [`super::value`] take from it what the format wants, reporting what they find instead.
//! Budgets keep aliases from growing a small file into a large tree.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DuplicateKeyPolicy, Error, Options, Spanned};

use super::diagnostic::Report;
use super::source::{Source, Span};

/// A YAML value and its place. Behind an alias: the place of the anchored text.
#[derive(Debug)]
pub(crate) struct Node<'t> {
    pub(crate) span: Span,
    pub(crate) value: Value<'t>,
}

/// Any YAML value; text borrows from the file where YAML's quoting lets it.
#[derive(Debug)]
pub(crate) enum Value<'t> {
    Null,
    Bool(bool),
    Integer(i128),
    Float,
    Text(Cow<'t, str>),
    List(Vec<Node<'t>>),
    Map(Vec<(Node<'t>, Node<'t>)>),
}

impl Value<'_> {
    /// For messages of the form "not a list".
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a number",
            Self::Float => "a fractional number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Parses one document. Syntax errors are reported, and then there is no tree.
pub(crate) fn parse<'t>(
    text: &'t str,
    source: &Source<'_>,
    report: &mut Report,
) -> Option<Node<'t>> {
    match serde_saphyr::from_str_with_options(text, options()) {
        Ok(node) => Some(node),
        Err(error) => {
            syntax(&error, source, report);
            None
        }
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        // Room for a million of anything; the defaults stop at 250,000 nodes.
        budget: serde_saphyr::budget! {
            max_nodes: 50_000_000,
            max_events: 100_000_000,
            max_total_scalar_bytes: super::MAX_BYTES,
            // One list of peers may well be used by a thousand rules.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 1_000_000 },
        // Told by `record`, with both places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        with_snippet: false,
        emit_comments: false,
    }
}

fn syntax(error: &Error, source: &Source<'_>, report: &mut Report) {
    let place = error.location().map(|at| {
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        (number(at.line()), number(at.column()))
    });
    let offset = place.map_or(0, |(line, column)| source.offset(line, column));
    let (message, hint) = explain(error, place);
    report.error(None, Span::new(offset, 1), message).maybe_hint(hint.map(str::to_owned));
}

/// The parser's words without their place, or better ones where it speaks of Rust or of itself.
#[expect(clippy::wildcard_enum_match_arm, reason = "other errors are told in the parser's words")]
fn explain(error: &Error, place: Option<(usize, usize)>) -> (String, Option<&'static str>) {
    match error {
        Error::AliasError { error, .. } => explain(error, place),
        Error::MultipleDocuments { .. } => {
            ("a policy file holds one YAML document, here begins a second".to_owned(), None)
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            ("an alias inside its own anchor has no end".to_owned(), None)
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            ("the values are nested too deep".to_owned(), Some("no policy needs 64 levels"))
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            let hint = "aliases may stand for a million values in all";
            ("the file is too large once its aliases are unfolded".to_owned(), Some(hint))
        }
        other => {
            let text = other.to_string();
            let place = place.map(|(line, column)| format!(" at line {line}, column {column}"));
            let message = place.and_then(|place| text.strip_suffix(&place)).unwrap_or(&text);
            let hint = message.contains("tabs").then_some("indent with spaces");
            (format!("YAML: {message}"), hint)
        }
    }
}

impl<'de> Deserialize<'de> for Node<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value<'de>>::deserialize(deserializer)?;
        let span = spanned.defined.span();
        let bytes = |value: Option<u64>| usize::try_from(value.unwrap_or(0)).unwrap_or(usize::MAX);
        Ok(Self {
            span: Span::new(bytes(span.byte_offset()), bytes(span.byte_len())),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value<'de>, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value<'de>, E> {
        // Larger than any number the format knows; it is told as no whole number.
        Ok(i128::try_from(value).map_or(Value::Float, Value::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value<'de>, E> {
        Ok(Value::Float)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(value)))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = access.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value<'de>, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = access.next_entry()? {
            map.push(entry);
        }
        Ok(Value::Map(map))
    }
}
