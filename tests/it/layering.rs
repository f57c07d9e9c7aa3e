//! The dependency rule that `lib.rs` prints, held to by reading the sources: which top-level module
//! may use which, and that the pure ones start nothing and wait for nothing.

use std::collections::BTreeSet;
use std::fs;

use crate::sources::{rust_sources, top_level_module};

/// What each top-level module of the library may use of the others.
const MAY_USE: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("model", &["api"]),
    ("plan", &["model", "api"]),
    ("world", &[]),
    ("metrics", &["model"]),
    ("telemetry", &["metrics", "settings", "world"]),
    ("settings", &["model", "plan"]),
    ("cluster", &["model", "api", "world", "metrics"]),
    ("cloud", &["model", "api", "world", "metrics"]),
    (
        "simulate",
        &["api", "model", "plan", "cluster", "cloud", "world"],
    ),
    (
        "controllers",
        &[
            "api",
            "model",
            "plan",
            "cluster",
            "cloud",
            "world",
            "metrics",
            "settings",
            "telemetry",
        ],
    ),
];

/// Modules under the purity gate.
const PURE: &[&str] = &["model", "plan"];

fn uses_of(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (position, _) in text.match_indices("crate::") {
        let rest = text.get(position + "crate::".len()..).unwrap_or_default();
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0_usize;
            let mut word = String::new();
            let mut fresh = true;
            for character in list.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => fresh = true,
                    ':' => fresh = false,
                    _ if depth == 0 && fresh && !character.is_whitespace() => word.push(character),
                    _ => {}
                }
                if matches!(character, ',' | ':' | '{') && !word.is_empty() {
                    found.insert(std::mem::take(&mut word));
                }
            }
            if !word.is_empty() {
                found.insert(word);
            }
        } else {
            let word: String = rest
                .chars()
                .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
                .collect();
            found.insert(word);
        }
    }
    found
}

#[test]
fn modules_use_only_what_the_rule_allows() {
    let known: BTreeSet<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    let mut breaches = Vec::new();
    for path in rust_sources("src") {
        let module = top_level_module(&path);
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            assert!(
                ["cli", "lib", "main", "sim"].contains(&module.as_str()),
                "src/{module} is not in the dependency rule: add it to MAY_USE and to lib.rs"
            );
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        for used in uses_of(&text) {
            if known.contains(used.as_str()) && used != module && !allowed.contains(&used.as_str())
            {
                breaches.push(format!("{} uses crate::{used}", path.display()));
            }
        }
    }
    assert!(
        breaches.is_empty(),
        "the dependency rule is broken:\n{}",
        breaches.join("\n")
    );
}

#[test]
fn the_rule_reads_grouped_imports() {
    let text =
        "use crate::{cluster::mirror::Mirror, plan::{a, b}, world};\nuse crate::cloud::Cloud;";
    let expected = ["cloud", "cluster", "plan", "world"].map(str::to_owned);
    assert_eq!(uses_of(text), BTreeSet::from(expected));
}

#[test]
fn pure_modules_are_gated_and_never_wait() {
    for module in PURE {
        let gate = fs::read_to_string(format!("src/{module}/mod.rs")).unwrap();
        for lint in [
            "disallowed_macros",
            "disallowed_methods",
            "disallowed_types",
        ] {
            assert!(
                gate.contains(&format!("clippy::{lint}")),
                "src/{module}/mod.rs lost its gate"
            );
        }
        for path in rust_sources(&format!("src/{module}")) {
            let text = fs::read_to_string(&path).unwrap();
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                let place = format!("{}:{}", path.display(), number + 1);
                for word in [
                    "async fn",
                    "async move",
                    ".await",
                    "std::fs",
                    "std::net",
                    "std::process",
                ] {
                    assert!(!code.contains(word), "{place}: `{word}` in a pure module");
                }
            }
        }
    }
}

#[test]
fn every_select_is_biased() {
    for path in rust_sources("src") {
        let text = fs::read_to_string(&path).unwrap();
        for (position, _) in text.match_indices("select! {") {
            let rest = text.get(position + "select! {".len()..).unwrap_or_default();
            assert!(
                rest.trim_start().starts_with("biased;"),
                "{}: a select without `biased;` picks its branch at random",
                path.display()
            );
        }
    }
}
