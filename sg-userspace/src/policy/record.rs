//! Mappings with fixed keys: one table per kind of mapping is its reader, its list of known keys
//! and its JSON Schema, so the three cannot drift apart.

use super::diagnostic::{Code, Report};
use super::names::did_you_mean;
use super::source::Span;
use super::tree::{Node, Value};

/// One key that a mapping takes.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
}

/// Declares a kind of mapping: `"key" (required|optional) field: schema type`, documented.
///
/// Every field is an `Option`: what a required key lacks is reported by `read`, and the rest of the
/// mapping is still checked.
macro_rules! record {
    (
        $(#[doc = $doc:literal])*
        $name:ident($what:literal) {
            $( $(#[doc = $field_doc:literal])* $key:literal $need:ident $field:ident: $schema:ty, )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug)]
        pub(crate) struct $name<'n> {
            $( $(#[doc = $field_doc])* pub(crate) $field: Option<&'n $crate::policy::tree::Node<'n>>, )*
        }

        impl<'n> $name<'n> {
            const KEYS: &'static [$crate::policy::record::Key] = &[$(
                $crate::policy::record::Key { name: $key, required: record!(@$need) },
            )*];

            /// Reports what is not a mapping, and keys that are unknown, missing or given twice.
            pub(crate) fn read(
                node: &'n $crate::policy::tree::Node<'n>,
                report: &mut $crate::policy::diagnostic::Report,
            ) -> Option<Self> {
                let mut slots =
                    $crate::policy::record::slots(node, $what, Self::KEYS, report)?.into_iter();
                $( let $field = slots.next().flatten(); )*
                Some(Self { $($field),* })
            }
        }

        impl schemars::JsonSchema for $name<'_> {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let properties = [$((
                    $key,
                    concat!($($field_doc),*),
                    generator.subschema_for::<$schema>(),
                )),*];
                let description = concat!($($doc),*);
                $crate::policy::schema::mapping(description, Self::KEYS, properties)
            }
        }
    };
    (@required) => { true };
    (@optional) => { false };
}
pub(crate) use record;

/// The values of a mapping in the order of `keys`.
pub(crate) fn slots<'n>(
    node: &'n Node<'n>,
    what: &str,
    keys: &[Key],
    report: &mut Report,
) -> Option<Vec<Option<&'n Node<'n>>>> {
    let Value::Map(entries) = &node.value else {
        let message = format!("{what} is a mapping, not {}", node.value.kind());
        report.error(Code::ParameterValue, node.span, message).hint(known(keys));
        return None;
    };
    let mut slots: Vec<Option<(Span, &Node<'_>)>> = keys.iter().map(|_| None).collect();
    for (key, value) in entries {
        let name = match &key.value {
            Value::Text(name) => name.as_ref(),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float
            | Value::List(_)
            | Value::Map(_) => "",
        };
        let Some(at) = keys.iter().position(|key| key.name == name) else {
            unknown(key.span, what, name, keys, report);
            continue;
        };
        if let Some((first, _)) = slots[at] {
            report
                .error(Code::ParameterCombination, key.span, format!("`{name}` is given twice"))
                .related(first, "first");
        } else {
            slots[at] = Some((key.span, value));
        }
    }
    for (key, slot) in keys.iter().zip(&slots) {
        if key.required && slot.is_none() {
            let message = format!("{what} needs `{}`", key.name);
            report.error(Code::ParameterMissing, node.span, message);
        }
    }
    Some(slots.into_iter().map(|slot| slot.map(|(_, value)| value)).collect())
}

fn unknown(span: Span, what: &str, name: &str, keys: &[Key], report: &mut Report) {
    let message = if name.is_empty() {
        format!("the keys of {what} are words")
    } else {
        format!("{what} has no key `{name}`")
    };
    if report.is_full() {
        // Counted; the hint that nobody will read is what costs.
        report.error(Code::ParameterUnknown, span, message);
        return;
    }
    let hint = did_you_mean(name, keys.iter().map(|key| key.name));
    report.error(Code::ParameterUnknown, span, message).hint(hint.unwrap_or_else(|| known(keys)));
}

fn known(keys: &[Key]) -> String {
    let names: Vec<_> = keys.iter().map(|key| format!("`{}`", key.name)).collect();
    format!("its keys are {}", names.join(", "))
}
