//! Edits: one change of a policy, as data, and what becomes of the policy.
//!
//! An edit speaks in names and carries parts of the file format as text (`{type: ssh, from: 10.0.0.1}`),
//! which the readers of whole files read. So an edit can say what a file can say and nothing else, and its
//! errors have the same words. The policy after any number of edits is the one that [`super::write`]'s text
//! of it loads as.
//!
//! [`Editor`] keeps an index beside the policy, so that what concerns one interface costs the same however
//! many there are. No kernel, no clock.

mod error;
mod groups;
mod index;
mod interfaces;
mod lists;
mod place;
mod rules;
mod text;
mod undo;

use serde::{Deserialize, Serialize};
use sg_common::Direction;

use super::model::{Interface, Policy, Vpc};

pub use error::{EditError, Finding};
use index::Index;
pub use place::{Kind, find, find_interface, vpc};
use undo::Undo;

/// [`Direction`] by its name.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Direction", rename_all = "lowercase")]
pub(crate) enum DirectionDef {
    Ingress,
    Egress,
}

/// One change of a policy. `vpc` may be left out where there is only one, or only one that has what is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "edit", rename_all = "snake_case")]
pub enum Edit {
    /// A new group.
    GroupCreate {
        /// Where.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vpc: Option<String>,
        /// The group as a file has it: `{name: web, ingress: [...]}`.
        group: String,
    },
    /// A new group with the rules of another.
    GroupCopy {
        /// Where.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vpc: Option<String>,
        /// The other.
        group: String,
        /// Name of the new one.
        to: String,
        /// Its description; that of the other unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
    /// A group goes that no interface has and no other group refers to.
    GroupDelete {
        /// Where.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vpc: Option<String>,
        /// Its name.
        group: String,
    },
    /// More rules for a group.
    RuleAuthorize {
        /// Where.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vpc: Option<String>,
        /// Whose.
        group: String,
        /// Which way.
        #[serde(with = "DirectionDef")]
        direction: Direction,
        /// The rule as a file has it; it stands for as many as it has ports times peers.
        rule: String,
    },
    /// Rules of a group go.
    RuleRevoke {
        /// Where.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vpc: Option<String>,
        /// Whose.
        group: String,
        /// Which.
        rules: Which,
    },
    /// Every rule goes whose time is over.
    Expire {
        /// The time, in seconds since 1970.
        at: u64,
    },
    /// Another interface.
    InterfaceAdd {
        /// Where.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vpc: Option<String>,
        /// The interface as a file has it: `{name: web-1, addresses: [10.0.0.1], groups: [web]}`.
        interface: String,
    },
    /// An interface goes.
    InterfaceRemove {
        /// Its name.
        interface: String,
    },
    /// An interface has other groups.
    InterfaceSetGroups {
        /// Its name.
        interface: String,
        /// All its groups from now on.
        groups: Vec<String>,
    },
    /// A new prefix list.
    PrefixListCreate {
        /// Where.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vpc: Option<String>,
        /// The list as a file has it: `{name: office, cidrs: [203.0.113.0/24]}`.
        prefix_list: String,
    },
    /// A prefix list goes that no group refers to.
    PrefixListDelete {
        /// Where.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vpc: Option<String>,
        /// Its name.
        prefix_list: String,
    },
    /// More blocks for a prefix list.
    PrefixListAdd {
        /// Where.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vpc: Option<String>,
        /// Its name.
        prefix_list: String,
        /// The blocks.
        cidrs: Vec<String>,
    },
    /// Blocks of a prefix list go.
    PrefixListRemove {
        /// Where.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vpc: Option<String>,
        /// Its name.
        prefix_list: String,
        /// The blocks.
        cidrs: Vec<String>,
    },
}

/// Which rules of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The one with this identifier.
    Id(String),
    /// Those that the rule stands for; description and expiry do not matter.
    Exact {
        /// Which way.
        #[serde(with = "DirectionDef")]
        direction: Direction,
        /// The rule as a file has it.
        rule: String,
    },
}

/// What became of an edit, and how it is taken back.
#[derive(Debug)]
pub struct Done {
    /// What was found and did not stop it, such as host bits in a block.
    pub warnings: Vec<String>,
    /// How far it reaches.
    pub touched: Touched,
    /// Identifiers of the rules that came or went.
    pub rules: Vec<super::RuleId>,
    undo: Undo,
}

/// How far an edit reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// One interface of a VPC came, went or has other groups; nothing else is different.
    Interface {
        /// Index into [`Policy::vpcs`].
        vpc: usize,
        /// As it was.
        before: Option<Box<Interface>>,
        /// As it is.
        after: Option<Box<Interface>>,
    },
    /// Groups, rules or prefix lists of a VPC.
    Rules {
        /// Index into [`Policy::vpcs`].
        vpc: usize,
    },
    /// Nothing.
    Nothing,
}

impl Done {
    fn new(touched: Touched, undo: Undo) -> Self {
        Self { warnings: Vec::new(), touched, rules: Vec::new(), undo }
    }
}

/// A policy that is edited.
#[derive(Debug)]
pub struct Editor {
    policy: Policy,
    index: Index,
}

impl Editor {
    /// Builds the index: the one step that takes longer for a larger policy.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let index = Index::new(&policy);
        Self { policy, index }
    }

    /// The policy as it is now.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The policy as it is now.
    #[must_use]
    pub fn into_policy(self) -> Policy {
        self.policy
    }

    /// Where an interface stands: indices into [`Policy::vpcs`] and [`Vpc::interfaces`].
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<(usize, usize)> {
        self.index.interface(name)
    }

    /// Makes one edit.
    ///
    /// # Errors
    ///
    /// What a file that said the same would be refused for, and the want of what the edit names. Then the
    /// policy is as it was.
    pub fn apply(&mut self, edit: &Edit) -> Result<Done, EditError> {
        match edit {
            Edit::GroupCreate { vpc, group } => self.create_group(vpc.as_deref(), group),
            Edit::GroupCopy { vpc, group, to, description } => {
                self.copy_group(vpc.as_deref(), group, to, description.as_deref())
            }
            Edit::GroupDelete { vpc, group } => self.delete_group(vpc.as_deref(), group),
            Edit::RuleAuthorize { vpc, group, direction, rule } => {
                self.authorize(vpc.as_deref(), group, *direction, rule)
            }
            Edit::RuleRevoke { vpc, group, rules } => self.revoke(vpc.as_deref(), group, rules),
            Edit::Expire { at } => Ok(self.expire(*at)),
            Edit::InterfaceAdd { vpc, interface } => self.add_interface(vpc.as_deref(), interface),
            Edit::InterfaceRemove { interface } => self.remove_interface(interface),
            Edit::InterfaceSetGroups { interface, groups } => self.set_groups(interface, groups),
            Edit::PrefixListCreate { vpc, prefix_list } => {
                self.create_list(vpc.as_deref(), prefix_list)
            }
            Edit::PrefixListDelete { vpc, prefix_list } => {
                self.delete_list(vpc.as_deref(), prefix_list)
            }
            Edit::PrefixListAdd { vpc, prefix_list, cidrs } => {
                self.add_to_list(vpc.as_deref(), prefix_list, cidrs)
            }
            Edit::PrefixListRemove { vpc, prefix_list, cidrs } => {
                self.remove_from_list(vpc.as_deref(), prefix_list, cidrs)
            }
        }
    }

    /// Makes all edits or none.
    ///
    /// # Errors
    ///
    /// Of the first one that cannot be made, with its position.
    pub fn apply_all(&mut self, edits: &[Edit]) -> Result<Vec<Done>, (usize, EditError)> {
        let mut done = Vec::with_capacity(edits.len());
        for (position, edit) in edits.iter().enumerate() {
            match self.apply(edit) {
                Ok(one) => done.push(one),
                Err(error) => {
                    done.into_iter().rev().for_each(|one| self.undo(one));
                    return Err((position, error));
                }
            }
        }
        Ok(done)
    }

    fn vpc_index(&self, name: Option<&str>) -> Result<usize, EditError> {
        vpc(&self.policy, name)
    }

    /// Indices of VPC and group.
    fn group(&self, vpc: Option<&str>, name: &str) -> Result<(usize, usize), EditError> {
        find(&self.policy, Kind::Group, vpc, name)
    }

    /// Indices of VPC and prefix list.
    fn list(&self, vpc: Option<&str>, name: &str) -> Result<(usize, usize), EditError> {
        find(&self.policy, Kind::PrefixList, vpc, name)
    }

    /// A VPC by its index, which comes from one of these.
    fn vpc(&self, at: usize) -> &Vpc {
        &self.policy.vpcs[at]
    }
}

/// Makes one edit of a policy of which no [`Editor`] is kept.
///
/// # Errors
///
/// As [`Editor::apply`].
pub fn apply(policy: &mut Policy, edit: &Edit) -> Result<Done, EditError> {
    let mut editor = Editor::new(policy.clone());
    let done = editor.apply(edit)?;
    *policy = editor.into_policy();
    Ok(done)
}
