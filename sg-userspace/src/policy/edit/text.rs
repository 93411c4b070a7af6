//! An edit in a line, for the history: `+` comes, `-` goes, `~` is different.

use std::fmt::{self, Display, Formatter};

use super::{Edit, Which};

impl Display for Edit {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::GroupCreate { group, .. } => write!(formatter, "+ group {group}"),
            Self::GroupCopy { group, to, .. } => write!(formatter, "+ group {to}, as {group}"),
            Self::GroupDelete { group, .. } => write!(formatter, "- group {group}"),
            Self::RuleAuthorize { group, direction, rule, .. } => {
                write!(formatter, "+ group {group} {}: {rule}", direction.name())
            }
            Self::RuleRevoke { group, rules: Which::Id(id), .. } => {
                write!(formatter, "- group {group}: rule {id}")
            }
            Self::RuleRevoke { group, rules: Which::Exact { direction, rule }, .. } => {
                write!(formatter, "- group {group} {}: {rule}", direction.name())
            }
            Self::Expire { .. } => formatter.write_str("- rules whose time is over"),
            Self::InterfaceAdd { interface, .. } => write!(formatter, "+ interface {interface}"),
            Self::InterfaceRemove { interface } => write!(formatter, "- interface {interface}"),
            Self::InterfaceSetGroups { interface, groups } => {
                write!(formatter, "~ interface {interface}: groups {}", groups.join(", "))
            }
            Self::PrefixListCreate { prefix_list, .. } => {
                write!(formatter, "+ prefix list {prefix_list}")
            }
            Self::PrefixListDelete { prefix_list, .. } => {
                write!(formatter, "- prefix list {prefix_list}")
            }
            Self::PrefixListAdd { prefix_list, cidrs, .. } => {
                write!(formatter, "~ prefix list {prefix_list}: + {}", cidrs.join(", "))
            }
            Self::PrefixListRemove { prefix_list, cidrs, .. } => {
                write!(formatter, "~ prefix list {prefix_list}: - {}", cidrs.join(", "))
            }
        }
    }
}
