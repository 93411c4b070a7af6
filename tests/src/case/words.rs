//! A line of the packet language as words, each taken once: what is left over at the end is an error.

use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};

/// The words of one line that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Words<'t> {
    words: Vec<&'t str>,
    /// What stands between braces.
    quote: Option<&'t str>,
}

impl<'t> Words<'t> {
    /// Splits a line at its blanks.
    pub(super) fn split(text: &'t str) -> Result<Self> {
        let (outside, quote) = match text.split_once('{') {
            None => (text, None),
            Some((before, rest)) => {
                let (quote, after) = rest.split_once('}').context("no } behind {")?;
                ensure!(after.trim().is_empty(), "{after:?} behind }}");
                (before, Some(quote.trim()))
            }
        };
        Ok(Self { words: outside.split_whitespace().collect(), quote })
    }

    /// The first word.
    pub(super) fn next(&mut self) -> Result<&'t str> {
        ensure!(!self.words.is_empty(), "the line is too short");
        Ok(self.words.remove(0))
    }

    /// Takes a word as it stands; whether it was there.
    pub(super) fn flag(&mut self, word: &str) -> bool {
        self.take(|it| it == word).is_some()
    }

    /// Takes the first word that is `wanted`.
    pub(super) fn take(&mut self, wanted: impl Fn(&str) -> bool) -> Option<&'t str> {
        let index = self.words.iter().position(|word| wanted(word))?;
        Some(self.words.remove(index))
    }

    /// What stands behind `key=`, which stays.
    pub(super) fn peek(&self, key: &str) -> Option<&'t str> {
        self.words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// Takes `key=value`.
    pub(super) fn text(&mut self, key: &str) -> Option<&'t str> {
        let value = |word: &'t str| word.strip_prefix(key)?.strip_prefix('=');
        let index = self.words.iter().position(|word| value(word).is_some())?;
        value(self.words.remove(index))
    }

    /// Takes `key=value` as a number, an address or whatever else is parsed from text.
    pub(super) fn value<T: FromStr>(&mut self, key: &str) -> Result<Option<T>> {
        let parse = |text: &str| match text.parse() {
            Ok(value) => Ok(value),
            Err(_why) => bail!("{key}={text} cannot be"),
        };
        self.text(key).map(parse).transpose()
    }

    /// Takes the quoted packet.
    pub(super) fn quote(&mut self) -> Option<&'t str> {
        self.quote.take()
    }

    /// Refuses what nobody took.
    pub(super) fn finish(self) -> Result<()> {
        ensure!(self.words.is_empty(), "unknown: {}", self.words.join(" "));
        ensure!(self.quote.is_none(), "nothing quotes a packet here");
        Ok(())
    }
}

/// Bytes from hexadecimal digits.
pub(super) fn hex(text: &str) -> Result<Vec<u8>> {
    ensure!(text.is_ascii() && text.len().is_multiple_of(2), "{text} is no whole bytes");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).with_context(|| text.to_owned()))
        .collect()
}

/// A MAC address.
pub(super) fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes = hex(&text.replace(':', ""))?;
    bytes.try_into().map_err(|_length| anyhow::anyhow!("{text} is no MAC address"))
}
