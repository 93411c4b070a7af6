//! What commands that were killed, or that found a full disk, leave in the history: no later entry may build on it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use sg_userspace::history::{Cause, Content, Entry, History, Past};
use sg_userspace::policy::edit::Edit;

fn past(text: &str) -> Past {
    Past { path: "policy.yaml".to_owned(), text: text.to_owned(), edits: 0 }
}

fn policy(groups: &[&str]) -> String {
    let groups: Vec<_> =
        groups.iter().map(|name| format!("{{name: {name}, description: d}}")).collect();
    format!(
        "dialect: aws\nvpcs: [{{name: v, cidrs: [10.0.0.0/8], security_groups: [{}]}}]\n",
        groups.join(", ")
    )
}

fn entry(number: u64, content: Content) -> Entry {
    let (user, command) = ("someone".to_owned(), "something".to_owned());
    let (message, diff, cause) = (None, Vec::new(), Cause::Change);
    Entry { number, time: number, user, command, message, diff, content, cause }
}

fn whole(number: u64, text: &str) -> Entry {
    entry(number, past(text).into())
}

fn edit(number: u64, group: &str) -> Entry {
    let group = format!("{{name: {group}, description: d}}");
    entry(number, Content::Edits(vec![Edit::GroupCreate { vpc: None, group }]))
}

fn append(state: &Path, in_force: u64, entry: Entry) {
    let mut history = History::open(state, Some(in_force)).expect("readable");
    assert_eq!(history.next_number(), entry.number);
    history.append(entry, || panic!("edits join")).expect("room");
}

#[test]
fn what_went_by_itself_is_not_gone_back_to() {
    let state = tempfile::tempdir().expect("a directory");
    let state = state.path();
    let back = |number, again| Entry { cause: Cause::TakenBack { again }, ..whole(number, "a") };
    let expiry = |number| Entry { cause: Cause::Expiry, ..whole(number, "e") };
    for entry in [
        whole(1, "a"),
        whole(2, "b"),
        // Not confirmed in time.
        whole(3, "c"),
        back(4, 2),
        // A mistake, while the time of an older rule was over.
        whole(5, "d"),
        expiry(6),
        expiry(7),
        // Back, and back again.
        whole(8, "b"),
    ] {
        append(state, entry.number - 1, entry);
    }
    let history = History::open(state, Some(8)).expect("readable");
    let before: Vec<_> = (1..=8).map(|number| history.before(number)).collect();
    let expected = [None, Some(1), Some(2), Some(1), Some(4), Some(4), Some(4), Some(7)];
    assert_eq!(before, expected);
}

#[test]
fn what_never_came_into_force_is_not_built_on() {
    let state = tempfile::tempdir().expect("a directory");
    append(state.path(), 0, whole(1, &policy(&["web"])));
    // Whoever applied this was killed before it counted.
    append(state.path(), 1, whole(2, &policy(&["never"])));
    append(state.path(), 1, edit(2, "two"));
    append(state.path(), 2, edit(3, "three"));
    let history = History::open(state.path(), Some(3)).expect("readable");
    let numbers: Vec<_> = history.entries().map(|entry| entry.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let text = history.policy(3).expect("kept").text;
    assert!(!text.contains("never"), "{text}");
    assert!(text.contains("two") && text.contains("three"), "{text}");
}

#[test]
fn half_a_line_is_not_written_on() {
    let state = tempfile::tempdir().expect("a directory");
    let mut history = History::open(state.path(), None).expect("empty");
    history.append(whole(1, &policy(&["web"])), || panic!("whole")).expect("room");
    // What a write leaves that found the disk full, while whoever wrote goes on.
    let file = state.path().join("history/00000000000000000001.jsonl");
    let mut file = OpenOptions::new().append(true).open(file).expect("the segment");
    file.write_all(b"{\"number\":2,\"ti").expect("room");
    history.append(edit(2, "two"), || panic!("edits join")).expect("room");
    let again = History::open(state.path(), Some(2)).expect("not damaged");
    let text = again.policy(2).expect("kept").text;
    assert!(text.contains("two"), "{text}");
}

#[test]
fn what_never_came_into_force_goes_while_that_is_known() {
    let state = tempfile::tempdir().expect("a directory");
    append(state.path(), 0, whole(1, &policy(&["web"])));
    append(state.path(), 1, edit(2, "two"));
    // Two that were killed: an edit, and a whole policy behind it.
    append(state.path(), 2, edit(3, "never"));
    append(state.path(), 3, whole(4, &policy(&["never"])));
    assert!(History::holds(state.path(), 4).expect("readable"));
    History::open(state.path(), Some(2)).and_then(|mut it| it.forget_strays()).expect("removed");
    let numbers: Vec<_> = History::open(state.path(), None)
        .expect("readable")
        .entries()
        .map(|entry| entry.number)
        .collect();
    assert_eq!(numbers, [1, 2]);
    for (number, is_kept) in [(1, true), (2, true), (3, false), (4, false)] {
        assert_eq!(History::holds(state.path(), number).expect("readable"), is_kept, "{number}");
    }
}

#[test]
fn edits_are_counted_from_the_file_on() {
    let state = tempfile::tempdir().expect("a directory");
    append(state.path(), 0, whole(1, &policy(&["web"])));
    append(state.path(), 1, edit(2, "two"));
    let edited = History::open(state.path(), Some(2)).and_then(|it| it.policy(2)).expect("kept");
    assert_eq!(edited.edits, 1);
    // A whole policy that edits have made of the file.
    append(state.path(), 2, entry(3, Past { edits: 7, ..edited }.into()));
    append(state.path(), 3, edit(4, "four"));
    let history = History::open(state.path(), Some(4)).expect("readable");
    let counts = [1, 2, 3, 4].map(|number| history.policy(number).expect("kept").edits);
    assert_eq!(counts, [0, 1, 7, 8]);
}
