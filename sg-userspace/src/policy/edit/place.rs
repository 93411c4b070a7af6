//! Where what an edit names stands: in the VPC that it says, in the only one, or in the only one that has it.

use super::EditError;
use crate::policy::diagnostic::Code;
use crate::policy::model::{Policy, Vpc};
use crate::policy::names::did_you_mean;

/// Among more names than these a misspelling is not worth the search.
const SEARCHED: usize = 5000;

/// What is found by a name that is unique in its VPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A security group; case does not count.
    Group,
    /// A prefix list.
    PrefixList,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::PrefixList => "prefix list",
        }
    }

    const fn not_found(self) -> Code {
        match self {
            Self::Group => Code::GroupNotFound,
            Self::PrefixList => Code::PrefixListNotFound,
        }
    }

    fn names(self, vpc: &Vpc) -> Vec<&str> {
        match self {
            Self::Group => vpc.groups.iter().map(|one| one.name.as_str()).collect(),
            Self::PrefixList => vpc.prefix_lists.iter().map(|one| one.name.as_str()).collect(),
        }
    }

    fn position(self, vpc: &Vpc, name: &str) -> Option<usize> {
        let name = name.trim_end_matches(' ');
        match self {
            Self::Group => vpc.groups.iter().position(|one| one.name.eq_ignore_ascii_case(name)),
            Self::PrefixList => vpc.prefix_lists.iter().position(|one| one.name == name),
        }
    }
}

/// Index of the VPC of this name, or of the only one.
///
/// # Errors
///
/// When there is none, or it must be named.
pub fn vpc(policy: &Policy, name: Option<&str>) -> Result<usize, EditError> {
    let Some(name) = name else {
        return match policy.vpcs.len() {
            1 => Ok(0),
            0 => Err(EditError::new(Code::VpcNotFound, "the policy has no VPC")),
            count => {
                let message = format!("the policy has {count} VPCs: say in which");
                let error = EditError::new(Code::ParameterMissing, message);
                Err(error.hint(add_one_of(policy.vpcs.iter())))
            }
        };
    };
    let wanted = name.trim_end_matches(' ');
    let found = policy.vpcs.iter().position(|vpc| vpc.name == wanted);
    found.ok_or_else(|| {
        let names = policy.vpcs.iter().map(|vpc| vpc.name.as_str());
        let message = format!("the policy has no VPC {name:?}");
        EditError::new(Code::VpcNotFound, message).hint(did_you_mean(name, names))
    })
}

/// Indices of VPC and group or list of this name. Without a VPC, the only one that has it.
///
/// # Errors
///
/// When there is none, or several VPCs have one.
pub fn find(
    policy: &Policy,
    kind: Kind,
    of: Option<&str>,
    name: &str,
) -> Result<(usize, usize), EditError> {
    if let Some(of) = of {
        let vpc = vpc(policy, Some(of))?;
        let found = kind.position(&policy.vpcs[vpc], name);
        return found.map(|at| (vpc, at)).ok_or_else(|| missing_in(policy, kind, vpc, name));
    }
    let vpcs = policy.vpcs.iter().enumerate();
    let having: Vec<_> =
        vpcs.filter_map(|(vpc, of)| Some((vpc, kind.position(of, name)?))).collect();
    match (&having[..], policy.vpcs.len()) {
        (&[only], _) => Ok(only),
        ([], 1) => Err(missing_in(policy, kind, 0, name)),
        ([], _) => {
            let message = format!("no VPC has a {} {name:?}", kind.word());
            let near = suggestion(policy.vpcs.iter(), kind, name);
            Err(EditError::new(kind.not_found(), message).hint(near))
        }
        (several, _) => {
            let message = format!("several VPCs have a {} {name:?}", kind.word());
            let vpcs = several.iter().map(|&(vpc, _)| &policy.vpcs[vpc]);
            Err(EditError::new(Code::ParameterMissing, message).hint(add_one_of(vpcs)))
        }
    }
}

fn missing_in(policy: &Policy, kind: Kind, vpc: usize, name: &str) -> EditError {
    let message = format!("VPC {:?} has no {} {name:?}", policy.vpcs[vpc].name, kind.word());
    EditError::new(kind.not_found(), message).hint(elsewhere(policy, kind, vpc, name))
}

/// What helps whoever looks for a name in a VPC that has it not: who has it, or a name that is near.
pub(super) fn elsewhere(policy: &Policy, kind: Kind, vpc: usize, name: &str) -> Option<String> {
    let having = policy.vpcs.iter().filter(|vpc| kind.position(vpc, name).is_some());
    let having: Vec<_> = having.take(10).map(|vpc| format!("{:?}", vpc.name)).collect();
    match having.len() {
        0 => suggestion(std::iter::once(&policy.vpcs[vpc]), kind, name),
        1 => Some(format!("VPC {} has one; none is known outside its VPC", having[0])),
        _ => Some(format!("VPCs {} have one; none is known outside its VPC", having.join(", "))),
    }
}

/// Indices of VPC and interface of this name.
///
/// # Errors
///
/// When there is none.
pub fn find_interface(policy: &Policy, name: &str) -> Result<(usize, usize), EditError> {
    let wanted = name.trim_end_matches(' ');
    let position = |vpc: &Vpc| vpc.interfaces.iter().position(|one| one.name == wanted);
    let mut vpcs = policy.vpcs.iter().enumerate();
    let found = vpcs.find_map(|(vpc, of)| Some((vpc, position(of)?)));
    found.ok_or_else(|| missing_interface(policy, name))
}

pub(super) fn missing_interface(policy: &Policy, name: &str) -> EditError {
    let names = || policy.vpcs.iter().flat_map(|vpc| &vpc.interfaces).map(|one| one.name.as_str());
    let near = (names().count() <= SEARCHED).then(|| did_you_mean(name, names()));
    let message = format!("the policy has no interface {name:?}");
    EditError::new(Code::InterfaceNotFound, message).hint(near.flatten())
}

fn suggestion<'p>(vpcs: impl Iterator<Item = &'p Vpc>, kind: Kind, name: &str) -> Option<String> {
    let names: Vec<_> = vpcs.flat_map(|vpc| kind.names(vpc)).take(SEARCHED + 1).collect();
    if names.len() > SEARCHED { None } else { did_you_mean(name, names) }
}

fn add_one_of<'p>(vpcs: impl Iterator<Item = &'p Vpc>) -> String {
    let names: Vec<_> = vpcs.take(10).map(|vpc| vpc.name.as_str()).collect();
    format!("add --vpc with one of: {}", names.join(", "))
}
