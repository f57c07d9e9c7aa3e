//! Whether the checks are proven: each of their messages must be one that a mutation leads to, or have a reason why none
//! can.
//!
//! Given the text of every file that has a check; given back what is wrong. A message is a text of three words or more,
//! and a mutation leads to it when one of its fragments, what stands between two placeholders, has the mutation's words or
//! is among them.

use super::ALL;

/// Every file with a check of a world.
const CHECKS: [&str; 8] = [
    include_str!("../acts.rs"),
    include_str!("../checks.rs"),
    include_str!("../leadership.rs"),
    include_str!("../limits.rs"),
    include_str!("../plans.rs"),
    include_str!("../quiet.rs"),
    include_str!("../room.rs"),
    include_str!("../trial.rs"),
];

/// Messages that no mutation leads to, by their words, and why.
const UNPROVEN: [(&str, &str); 8] = [
    (
        "a plan breaks a rule",
        "plans are held against the rules where they are made, and nothing that could be broken is in between",
    ),
    (
        "at the end of its time there are",
        "who has no work asks for nothing, so there is no request or answer to be broken",
    ),
    (
        "a manifest was refused",
        "it is about the manifests of a trial, and no controller has a part in it",
    ),
    (
        "machines were bought, and none of the plans was looked at",
        "it is about whether the trial sees plans, and no controller has a part in it",
    ),
    (
        "see what goes round",
        "no message: what to do about a world that hangs, which the mutation `waits-for-nothing` leads to",
    ),
    (
        "hack/sim --seeds",
        "no message: the command that replays a seed",
    ),
    (
        "before a backup",
        "no message: by whom a Node is being deleted",
    ),
    (
        ": claim ",
        "no message of its own: what does not match, which is told with the pods that wait",
    ),
];

/// Words of a fragment from which on it tells a message from others.
const TELLING: usize = 2;
/// Words of a text from which on it is a message.
const MESSAGE: usize = 3;

/// What is wrong with the list of mutations and the one above.
pub(crate) fn gaps() -> Vec<String> {
    let messages: Vec<String> = CHECKS
        .iter()
        .flat_map(|source| texts(source))
        .filter(|text| fragments(text).map(words).sum::<usize>() >= MESSAGE)
        .collect();
    let unproven = |text: &&String| {
        let is_proven = ALL.iter().any(|mutation| leads_to(mutation.found_by, text));
        let has_reason = UNPROVEN.iter().any(|(words, _why)| text.contains(words));
        !is_proven && !has_reason
    };
    let mut gaps: Vec<String> = messages
        .iter()
        .filter(unproven)
        .map(|text| format!("no mutation leads to `{text}`, and nothing says why"))
        .collect();
    for (words, why) in UNPROVEN {
        if !messages.iter().any(|text| text.contains(words)) {
            gaps.push(format!("no check says `{words}` any more ({why})"));
        }
    }
    for mutation in &ALL {
        if !messages
            .iter()
            .any(|text| leads_to(mutation.found_by, text))
        {
            let (name, found_by) = (mutation.name, mutation.found_by);
            gaps.push(format!(
                "no check says `{found_by}`, by which {name} is found"
            ));
        }
    }
    gaps
}

/// True when the words of a mutation are those of a message.
fn leads_to(found_by: &str, text: &str) -> bool {
    fragments(text).map(str::trim).any(|fragment| {
        fragment.contains(found_by) || words(fragment) >= TELLING && found_by.contains(fragment)
    })
}

/// What a text says around its placeholders.
fn fragments(text: &str) -> impl Iterator<Item = &str> {
    text.split(['{', '}']).step_by(2)
}

/// How many words there are.
fn words(text: &str) -> usize {
    let words = text.split_whitespace();
    words
        .filter(|word| word.contains(char::is_alphabetic))
        .count()
}

/// The texts in Rust source, comments aside, as they are written there.
fn texts(source: &str) -> Vec<String> {
    let code = source.lines().map(str::trim_start);
    let code: Vec<&str> = code.filter(|line| !line.starts_with("//")).collect();
    let code = code.join("\n");
    let mut texts = Vec::new();
    let mut open: Option<String> = None;
    let mut characters = code.chars();
    while let Some(character) = characters.next() {
        open = match (open, character) {
            (Some(text), '"') => {
                texts.push(text);
                None
            }
            (Some(mut text), '\\') => {
                text.extend(characters.next());
                Some(text)
            }
            (Some(mut text), _) => {
                text.push(character);
                Some(text)
            }
            (None, '"') => Some(String::new()),
            (None, _) => None,
        };
    }
    texts
}
