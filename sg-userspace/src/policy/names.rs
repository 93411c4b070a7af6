//! Names and descriptions: AWS's character sets, tables of what is named, and "did you mean".

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::source::Span;

/// AWS's limit for names and descriptions, in characters.
const MAX_LENGTH: usize = 255;

/// What may stand in a name or a group's description besides letters, digits and spaces.
const NAME_MARKS: &str = "._-:/()#,@[]+=&;{}!$*";

/// The same for a rule's description.
const RULE_MARKS: &str = "._-:/()#,@[]+=;{}!$*";

/// Why a text cannot be a name or a description.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("it is empty")]
    Empty,
    #[error("it has {0} characters, at most 255 are allowed")]
    TooLong(usize),
    #[error("{0:?} may not stand in it; AWS allows a-z, A-Z, 0-9, spaces and {1}")]
    Character(char, &'static str),
    #[error("names that start with `sg-` are reserved for identifiers")]
    Reserved,
    #[error("a device name has 1 to 15 bytes and neither blank, colon nor slash in it")]
    Device,
}

/// A name without the trailing spaces that AWS trims.
pub(crate) fn name(text: &str) -> Result<&str, NameError> {
    let text = text.trim_end_matches(' ');
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.starts_with("sg-") {
        return Err(NameError::Reserved);
    }
    characters(text, NAME_MARKS).map(|()| text)
}

/// A group's description.
pub(crate) fn description(text: &str) -> Result<(), NameError> {
    characters(text, NAME_MARKS)
}

/// A rule's description.
pub(crate) fn rule_description(text: &str) -> Result<(), NameError> {
    characters(text, RULE_MARKS)
}

fn characters(text: &str, marks: &'static str) -> Result<(), NameError> {
    let length = text.chars().count();
    if length > MAX_LENGTH {
        return Err(NameError::TooLong(length));
    }
    let foreign = |&c: &char| !(c.is_ascii_alphanumeric() || c == ' ' || marks.contains(c));
    text.chars().find(foreign).map_or(Ok(()), |c| Err(NameError::Character(c, marks)))
}

/// A network device's name, as the kernel's `dev_valid_name` has it.
pub(crate) fn device(text: &str) -> Result<(), NameError> {
    let bad = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace() || byte == 0x0b;
    let valid = (1..=15).contains(&text.len())
        && !matches!(text, "." | "..")
        && !text.bytes().any(|byte| bad(byte) || byte == 0);
    if valid { Ok(()) } else { Err(NameError::Device) }
}

/// Names and the places where they were given.
#[derive(Debug)]
pub(crate) struct Table {
    fold_case: bool,
    entries: HashMap<String, (usize, Span)>,
}

impl Table {
    /// Names that differ in case alone are different.
    pub(crate) fn exact() -> Self {
        Self { fold_case: false, entries: HashMap::new() }
    }

    /// Names that differ in case alone are the same, as AWS's group names are.
    pub(crate) fn folded() -> Self {
        Self { fold_case: true, entries: HashMap::new() }
    }

    fn key(&self, name: &str) -> String {
        let name = name.trim_end_matches(' ');
        if self.fold_case { name.to_ascii_lowercase() } else { name.to_owned() }
    }

    /// Names `index`; a name that is taken stays whose it was, and the place of that is the error.
    pub(crate) fn insert(&mut self, name: &str, index: usize, span: Span) -> Result<(), Span> {
        match self.entries.entry(self.key(name)) {
            Entry::Occupied(taken) => Err(taken.get().1),
            Entry::Vacant(free) => {
                free.insert((index, span));
                Ok(())
            }
        }
    }

    /// Takes a name away; what it names, if it was there.
    pub(crate) fn remove(&mut self, name: &str) -> Option<usize> {
        self.entries.remove(&self.key(name)).map(|(index, _)| index)
    }

    /// Numbers everything anew.
    pub(crate) fn renumber(&mut self, number: impl Fn(usize) -> usize) {
        for (index, _) in self.entries.values_mut() {
            *index = number(*index);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<usize> {
        self.entries.get(&self.key(name)).map(|&(index, _)| index)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A hint for a name that is not there.
    pub(crate) fn suggest(&self, name: &str) -> Option<String> {
        // Among hundreds of thousands a misspelling is not worth the search.
        const SEARCHED: usize = 5000;
        if self.len() > SEARCHED {
            return None;
        }
        did_you_mean(name, self.entries.keys().map(String::as_str))
    }
}

/// "did you mean `x`?", when a candidate is near enough.
pub(crate) fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<String> {
    let word = word.to_ascii_lowercase();
    let near = word.chars().count() / 3 + 1;
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|&(edits, candidate)| edits <= near && edits < candidate.chars().count())
        .min()
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

/// Edits from one word to another, where swapping neighbours is one edit.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut next = vec![i];
        for j in 1..=right.len() {
            let replaced = row[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut edits = replaced.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                edits = edits.min(before[j - 2] + 1);
            }
            next.push(edits);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_aws() {
        let long = "x".repeat(255);
        for good in ["a", "web tier", "A.b_c-d:e/f(g)#h,i@[j]+k=l&m;{n}!o$p*", &long, "SG-1"] {
            assert_eq!(name(good), Ok(good));
        }
        assert_eq!(name("trailing  "), Ok("trailing"));
        for (bad, error) in [
            ("", NameError::Empty),
            ("   ", NameError::Empty),
            ("sg-1", NameError::Reserved),
            ("a\"b", NameError::Character('"', NAME_MARKS)),
            ("tab\t", NameError::Character('\t', NAME_MARKS)),
            ("é", NameError::Character('é', NAME_MARKS)),
            (&"x".repeat(256), NameError::TooLong(256)),
        ] {
            assert_eq!(name(bad), Err(error), "{bad}");
        }
        assert_eq!(rule_description("a & b"), Err(NameError::Character('&', RULE_MARKS)));
        assert_eq!(description("a & b"), Ok(()));
    }

    #[test]
    fn device_names_follow_the_kernel() {
        for good in ["eth0", "veth-b1", "br-0.100", "123456789012345", "@"] {
            assert_eq!(device(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a\tb", "eth0:1", "1234567890123456", "a\0"] {
            assert_eq!(device(bad), Err(NameError::Device), "{bad:?}");
        }
    }

    #[test]
    fn suggestions_are_near() {
        let known = ["ingress", "egress", "description"];
        for (word, found) in [
            ("ingres", Some("ingress")),
            ("Ingress", Some("ingress")),
            ("egerss", Some("egress")),
            ("descripton", Some("description")),
            ("zebra", None),
        ] {
            let expected = found.map(|found| format!("did you mean `{found}`?"));
            assert_eq!(did_you_mean(word, known), expected, "{word}");
        }
    }
}
