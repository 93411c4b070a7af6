//! Edits against what files say: the policy after any of them is the one its text loads as, a refused one
//! would have been refused as a file, and taken back it leaves nothing.

#[path = "policy_edit/property.rs"]
mod property;
#[path = "policy_edit/refusals.rs"]
mod refusals;
#[path = "policy_edit/sequences.rs"]
mod sequences;
#[path = "policy_edit/support.rs"]
mod support;
