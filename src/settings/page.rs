//! The reference page of the flags that have tables of their own.
//!
//! Given clap's own description of the flags, it gives back Markdown, so that `--help` and the page
//! say the same.

use clap::Command;

/// The page: leader election, what keeps a plan, ceilings, wishes of pods, prices, rates, names, what is learned.
pub fn markdown() -> String {
    super::lease::markdown()
        + &super::keeping::markdown()
        + &super::ceilings::markdown()
        + &super::wishes::markdown()
        + &super::prices::markdown()
        + &super::rates::markdown()
        + &super::naming::markdown()
        + &super::learned::markdown()
}

/// A preamble and a table of flags.
pub(super) fn table(preamble: &str, augment: impl FnOnce(Command) -> Command) -> String {
    let mut page = String::from(preamble);
    page.push_str("\n| flag | environment | default | meaning |\n|---|---|---|---|\n");
    let command = augment(Command::new("controller"));
    for argument in command.get_arguments() {
        let (Some(flag), Some(variable)) = (argument.get_long(), argument.get_env()) else {
            continue;
        };
        let default = argument.get_default_values().first().map_or_else(
            || "unset".to_owned(),
            |value| format!("`{}`", value.display()),
        );
        let meaning = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let row = [
            format!("`--{flag}`"),
            format!("`{}`", variable.display()),
            default,
            meaning.replace('\n', " "),
        ];
        page.push_str("| ");
        page.push_str(&row.join(" | "));
        page.push_str(". |\n");
    }
    page
}
