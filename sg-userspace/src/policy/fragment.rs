//! Parts of a file as text: what an edit carries, and the lines of a whole file.

use std::fmt::{self, Display, Formatter, Write as _};

/// A mapping in one line, such as `{type: ssh, from: 10.0.0.1}`.
#[derive(Debug, Clone, Default)]
pub struct Fragment(Vec<(&'static str, String)>);

impl Fragment {
    /// Without a key.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more key, whose value is YAML as it stands.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.0.push((key, value.to_string()));
        self
    }

    /// With one more key, whose value is text.
    #[must_use]
    pub fn text(self, key: &'static str, text: &str) -> Self {
        self.with(key, scalar(text))
    }

    /// With one more key, whose value is a list of texts.
    #[must_use]
    pub fn texts(self, key: &'static str, texts: &[String]) -> Self {
        self.with(key, list(texts.iter().map(|text| scalar(text))))
    }

    /// With one more key unless its value is the default.
    pub(super) fn unless<T: PartialEq + ToString>(
        self,
        default: T,
        key: &'static str,
        value: T,
    ) -> Self {
        if value == default { self } else { self.with(key, value) }
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Display for Fragment {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_char('{')?;
        for (index, (key, value)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(formatter, "{separator}{key}: {value}")?;
        }
        formatter.write_char('}')
    }
}

/// A list in one line, of YAML as it stands.
pub fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

/// A scalar that is read as text, whatever it looks like.
#[must_use]
pub fn scalar(text: &str) -> String {
    /// What YAML, or an older reader of it, takes for something else.
    const WORDS: &[&str] = &["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with(' ')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " ._-/".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { quoted(text) }
}

pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}
