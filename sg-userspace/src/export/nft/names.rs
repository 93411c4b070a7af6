//! Names that nft takes: identifiers for sets and chains, quoted strings for devices and comments.

use std::collections::BTreeSet;

/// Longest part of a name of the policy that goes into an identifier.
const LONGEST: usize = 48;
/// nft refuses comments from 128 bytes on.
const LONGEST_COMMENT: usize = 127;

/// Identifiers that are taken.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// An identifier that looks like `text` and is nobody else's. Sets and chains append their kind to it.
    pub(super) fn unique(&mut self, text: &str) -> String {
        let plain: String = text
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .take(LONGEST)
            .collect();
        // Identifiers begin with a letter, and words of the language are none.
        let plain = format!("sg_{plain}");
        let mut name = plain.clone();
        let mut number = 1;
        while !self.0.insert(name.clone()) {
            number += 1;
            name = format!("{plain}_{number}");
        }
        name
    }
}

/// A string of nft, which has no escape for a quotation mark.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "?"))
}

/// ` comment "..."`, cut to what nft takes. Text of a policy is ASCII without quotation marks.
pub(super) fn comment(text: &str) -> String {
    const CUT: &str = "...";
    let mut text: String =
        text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    if text.len() > LONGEST_COMMENT {
        text.truncate(LONGEST_COMMENT - CUT.len());
        text.push_str(CUT);
    }
    format!(" comment {}", quoted(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_stay_apart() {
        let mut names = Names::default();
        let told: Vec<_> =
            ["web tier", "web-tier", "Web Tier", "1"].map(|name| names.unique(name)).into();
        assert_eq!(told, ["sg_web_tier", "sg_web_tier_2", "sg_web_tier_3", "sg_1"]);
        // A name that another's number would make.
        assert_eq!(names.unique("web tier 2"), "sg_web_tier_2_2");
    }

    #[test]
    fn comments_are_cut() {
        let long = comment(&"x".repeat(300));
        assert_eq!(long.len(), " comment \"\"".len() + LONGEST_COMMENT);
        assert!(long.ends_with("x...\""));
        assert_eq!(comment("a \"b\""), " comment \"a ?b?\"");
    }
}
