//! Takes plain values out of the tree: text, numbers, keywords, lists. What is of another kind is
//! reported, and then there is no value.

use std::ops::RangeInclusive;

use jiff::Timestamp;

use super::diagnostic::{Code, Report};
use super::names::did_you_mean;
use super::tree::{Node, Value};

/// Text, empty or not.
pub(crate) fn text<'n>(node: &'n Node<'n>, what: &str, report: &mut Report) -> Option<&'n str> {
    match &node.value {
        Value::Text(text) => Some(text),
        Value::Bool(_) | Value::Integer(_) | Value::Float => {
            let message = format!("{what} is text, not {}", node.value.kind());
            report.error(Code::ParameterValue, node.span, message).hint("put it in quotes");
            None
        }
        Value::Null | Value::List(_) | Value::Map(_) => {
            mismatch(node, what, "text", report);
            None
        }
    }
}

/// `true` or `false`, in YAML 1.2's spellings alone.
pub(crate) fn boolean(node: &Node<'_>, what: &str, report: &mut Report) -> Option<bool> {
    if let Value::Bool(value) = node.value {
        return Some(value);
    }
    mismatch(node, what, "true or false", report);
    None
}

/// A moment by RFC 3339, in seconds since 1970.
pub(crate) fn instant(node: &Node<'_>, what: &str, report: &mut Report) -> Option<u64> {
    let given = text(node, what, report)?;
    // Also takes what RFC 3339 does not have, such as an hour alone; a time zone it always wants.
    let instant =
        given.parse::<Timestamp>().ok().filter(|_| given.len() >= "2030-01-31T18:00:00Z".len());
    let seconds = instant.and_then(|instant| u64::try_from(instant.as_second()).ok());
    if seconds.is_none() {
        report
            .error(Code::ParameterValue, node.span, format!("{what} cannot be {given:?}"))
            .hint("a time as in 2030-01-31T18:00:00Z");
    }
    seconds
}

/// A whole number in a range.
pub(crate) fn integer<T>(
    node: &Node<'_>,
    what: &str,
    range: RangeInclusive<T>,
    report: &mut Report,
) -> Option<T>
where
    T: TryFrom<i128> + PartialOrd + std::fmt::Display,
{
    let Value::Integer(number) = node.value else {
        mismatch(node, what, "a whole number", report);
        return None;
    };
    let value = T::try_from(number).ok().filter(|value| range.contains(value));
    if value.is_none() {
        let message = format!("{what} is {} to {}, not {number}", range.start(), range.end());
        report.error(Code::ParameterValue, node.span, message);
    }
    value
}

/// One of a few words, exactly as spelled.
pub(crate) fn keyword<T: Copy>(
    node: &Node<'_>,
    what: &str,
    words: &[(&str, T)],
    report: &mut Report,
) -> Option<T> {
    let given = text(node, what, report)?;
    let found = words.iter().find(|(word, _)| *word == given).map(|&(_, value)| value);
    if found.is_none() {
        let known: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        report
            .error(Code::ParameterValue, node.span, format!("{what} cannot be {given:?}"))
            .label(format!("one of {}", known.join(", ")))
            .maybe_hint(did_you_mean(given, words.iter().map(|(word, _)| *word)));
    }
    found
}

/// A list, which may be empty.
pub(crate) fn list<'n>(
    node: &'n Node<'n>,
    what: &str,
    report: &mut Report,
) -> Option<&'n [Node<'n>]> {
    match &node.value {
        Value::List(items) => Some(items),
        Value::Null => {
            report
                .error(Code::ParameterValue, node.span, format!("{what} has no value"))
                .hint("write `[]` for none, or leave the key out for its default");
            None
        }
        Value::Bool(_) | Value::Integer(_) | Value::Float | Value::Text(_) | Value::Map(_) => {
            mismatch(node, what, "a list", report);
            None
        }
    }
}

/// One value or a list of at least one: empty never becomes everybody.
pub(crate) fn one_or_many<'n>(
    node: &'n Node<'n>,
    what: &str,
    report: &mut Report,
) -> Option<&'n [Node<'n>]> {
    match &node.value {
        Value::List(items) if items.is_empty() => {
            report
                .error(Code::ParameterValue, node.span, format!("{what} is empty"))
                .hint("an empty list never means everything; name at least one");
            None
        }
        Value::List(items) => Some(items),
        Value::Null => {
            report
                .error(Code::ParameterValue, node.span, format!("{what} has no value"))
                .hint("nothing never means everything; name at least one");
            None
        }
        Value::Bool(_) | Value::Integer(_) | Value::Float | Value::Text(_) | Value::Map(_) => {
            Some(std::slice::from_ref(node))
        }
    }
}

/// Reports a value of the wrong kind.
pub(crate) fn mismatch(node: &Node<'_>, what: &str, expected: &str, report: &mut Report) {
    let message = format!("{what} is {expected}, not {}", node.value.kind());
    report.error(Code::ParameterValue, node.span, message);
}
