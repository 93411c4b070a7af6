//! The JSON Schema of the file format, for editors and for other programs that write policy files.
//!
//! [`super::text`] holds the keys; here are the shapes of their values. The schema describes what
//! people write (one value or a list of them, numbers or words), so it is looser than the checks:
//! what a schema cannot say, such as names that must exist, is left to `sgctl validate`.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use super::record::Key;
use super::text::{EgressRule, File, IngressRule, PeerMap, Rule};
use super::{check, traffic};

/// The JSON Schema (draft 2020-12) of a policy file.
pub fn schema() -> Value {
    let mut schema =
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<File<'_>>();
    schema.insert("title".to_owned(), "Security group policy".into());
    schema.to_value()
}

/// A mapping with fixed keys.
pub(crate) fn mapping<const N: usize>(
    description: &str,
    keys: &[Key],
    properties: [(&str, &str, Schema); N],
) -> Schema {
    let properties: Map<String, Value> = properties
        .into_iter()
        .map(|(name, documentation, mut schema)| {
            schema.insert("description".to_owned(), documentation.trim().into());
            (name.to_owned(), schema.to_value())
        })
        .collect();
    let required: Vec<_> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    json_schema!({
        "type": "object",
        "description": description.trim(),
        "additionalProperties": false,
        "properties": properties,
        "required": required,
    })
}

/// Declares value shapes that have no Rust value, only a schema.
macro_rules! shapes {
    ($($(#[doc = $doc:literal])* $name:ident => $schema:expr;)*) => {$(
        $(#[doc = $doc])*
        pub(crate) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

shapes! {
    /// Names by AWS's rules.
    Name => json_schema!({
        "type": "string", "minLength": 1, "maxLength": 255,
        "pattern": "^(?!sg-)[a-zA-Z0-9 ._\\-:/()#,@\\[\\]+=&;{}!$*]+$",
    });
    /// Free text by AWS's rules.
    Description => json_schema!({
        "type": "string", "maxLength": 255,
        "pattern": "^[a-zA-Z0-9 ._\\-:/()#,@\\[\\]+=&;{}!$*]*$",
    });
    /// A CIDR block, or an address as the block of itself.
    Cidr => json_schema!({
        "type": "string", "pattern": "^[0-9a-fA-F.:]+(/[0-9]{1,3})?$",
        "examples": ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"],
    });
    /// An interface's address or prefix.
    Address => json_schema!({
        "type": "string", "pattern": "^[0-9a-fA-F.:]+(/[0-9]{1,3})?$",
        "examples": ["172.16.32.10", "fd00:16::/64"],
    });
    /// A device name as Linux takes it.
    DeviceName => json_schema!({
        "type": "string", "minLength": 1, "maxLength": 15, "pattern": "^[^/:\\s]+$",
    });
    /// A unicast MAC address.
    Mac => json_schema!({ "type": "string", "pattern": "^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$" });
    /// A port or a range of them.
    PortRange => json_schema!({ "anyOf": [
        { "type": "integer", "minimum": 0, "maximum": 65535 },
        { "type": "string", "pattern": "^[0-9]{1,5}( *- *[0-9]{1,5})?$" },
    ]});
    /// One port.
    Port => json_schema!({ "type": "integer", "minimum": 0, "maximum": 65535 });
    /// ICMP type or code.
    IcmpNumber => json_schema!({ "anyOf": [
        { "type": "integer", "minimum": -1, "maximum": 255 },
        { "type": "string", "enum": ["any"] },
    ]});
    /// A protocol's name or number.
    ProtocolWord => json_schema!({ "anyOf": [
        { "enum": words(traffic::PROTOCOLS) },
        { "type": "integer", "minimum": -1, "maximum": 255 },
        // In any case, or a number in quotes: for that JSON Schema has no words.
        { "type": "string", "pattern": "^([A-Za-z]+[46]?|[0-9]{1,3})$" },
    ]});
    /// AWS's names of rule types.
    TypeWord => json_schema!({ "anyOf": [
        { "enum": words(traffic::SHORTHANDS) },
        // As the console spells them: "DNS (UDP)".
        { "type": "string", "pattern": "[A-Z ]" },
    ]});
    /// Dialects.
    DialectWord => json_schema!({ "type": "string", "enum": words(check::DIALECTS) });
    /// What becomes of live flows.
    LiveFlowsWord => json_schema!({ "type": "string", "enum": words(check::LIVE_FLOWS) });
    /// Sides.
    SideWord => json_schema!({ "type": "string", "enum": words(check::SIDES) });
    /// Outcomes.
    ExpectWord => json_schema!({ "type": "string", "enum": words(check::OUTCOMES) });
    /// A moment as RFC 3339 writes it.
    Instant => json_schema!({
        "type": "string", "format": "date-time", "examples": ["2030-01-31T18:00:00Z"],
    });
    /// True or false.
    Boolean => json_schema!({ "type": "boolean" });
    /// A whole number that counts something.
    Whole => json_schema!({ "type": "integer", "minimum": 1 });
}

fn words<T>(table: &[(&'static str, T)]) -> Vec<&'static str> {
    table.iter().map(|&(word, _)| word).collect()
}

/// A whole number within a range.
pub(crate) struct Within<const FIRST: u32, const LAST: u32>;

impl<const FIRST: u32, const LAST: u32> JsonSchema for Within<FIRST, LAST> {
    fn schema_name() -> Cow<'static, str> {
        format!("Within{FIRST}To{LAST}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": FIRST, "maximum": LAST })
    }
}

/// Declares shapes made of another shape.
macro_rules! wrappers {
    ($($(#[doc = $doc:literal])* $name:ident => |$inner:ident| $schema:expr;)*) => {$(
        $(#[doc = $doc])*
        pub(crate) struct $name<T>(std::marker::PhantomData<T>);

        impl<T: JsonSchema> JsonSchema for $name<T> {
            fn schema_name() -> Cow<'static, str> {
                format!("{}Of{}", stringify!($name), T::schema_name()).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let $inner = generator.subschema_for::<T>();
                $schema
            }
        }
    )*};
}

wrappers! {
    /// A value, or a list of at least one.
    OneOrMany => |inner| json_schema!({
        "anyOf": [inner, { "type": "array", "items": inner, "minItems": 1 }],
    });
    /// The word `auto`, or something else.
    AutoOr => |inner| json_schema!({ "anyOf": [{ "type": "string", "enum": ["auto"] }, inner] });
}

/// A peer of a rule: a CIDR block, or a mapping that says what it is.
pub(crate) struct PeerOf;

impl JsonSchema for PeerOf {
    fn schema_name() -> Cow<'static, str> {
        "Peer".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let block = generator.subschema_for::<Cidr>();
        let mut map = PeerMap::json_schema(generator);
        map.insert("minProperties".to_owned(), 1.into());
        map.insert("maxProperties".to_owned(), 1.into());
        json_schema!({
            "description": "A CIDR block or address, a group or a prefix list.",
            "anyOf": [block, map],
        })
    }
}

/// The schema of a rule for one direction: its peer's key is needed, the other direction's is not
/// known, and either `type` or `protocol` says which packets.
fn rule(generator: &mut SchemaGenerator, peer: &str, foreign: &str) -> Schema {
    let mut schema = Rule::json_schema(generator);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove(foreign);
    }
    schema.insert("required".to_owned(), serde_json::json!([peer]));
    let either = serde_json::json!([{ "required": ["type"] }, { "required": ["protocol"] }]);
    schema.insert("oneOf".to_owned(), either);
    schema
}

impl JsonSchema for IngressRule {
    fn schema_name() -> Cow<'static, str> {
        "IngressRule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        rule(generator, "from", "to")
    }
}

impl JsonSchema for EgressRule {
    fn schema_name() -> Cow<'static, str> {
        "EgressRule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        rule(generator, "to", "from")
    }
}
