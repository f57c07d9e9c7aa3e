//! `docs/where-it-runs.md` against the code: what is refused, or not yet done, is tried here, and refused in the words
//! that the page quotes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tonnage::sim::{Embedded, Options, runtime};

/// A row that refuses something, and what is said each time that it is tried.
struct Refused {
    place: &'static str,
    tried: fn() -> Vec<String>,
}

const REFUSED: &[Refused] = &[
    Refused {
        place: "Kubernetes before 1.33",
        tried: what_the_chart_wants,
    },
    Refused {
        place: "AL2 and Windows",
        tried: families_that_are_not_supported,
    },
    Refused {
        place: "`aws-cn`",
        tried: a_price_list_without_dollars,
    },
    Refused {
        place: "A kubeconfig with `proxy-url`, or outside a pod with `HTTPS_PROXY`",
        tried: proxies_before_the_api_server,
    },
    Refused {
        place: "IPv6 clusters",
        tried: addresses_that_are_ipv6,
    },
];

/// Helm is not here; it goes by this field.
fn what_the_chart_wants() -> Vec<String> {
    let chart = fs::read_to_string("charts/tonnage/Chart.yaml").unwrap();
    let chart: Value = serde_saphyr::from_str(&chart).unwrap();
    vec![chart["kubeVersion"].as_str().unwrap().to_owned()]
}

/// By the rules of the CustomResourceDefinition, in the embedded API server.
fn families_that_are_not_supported() -> Vec<String> {
    let refused = runtime::run(async {
        let world = Embedded::begin(Options::calm(1));
        let refused = ["al2", "windows"].map(|family| {
            let path = format!("tests/fixtures/api/refuse/node-class-{family}.yaml");
            let manifest = fs::read_to_string(path).unwrap();
            let class: Value = serde_saphyr::from_str(&manifest).unwrap();
            world.apply(class).unwrap_err().message
        });
        world.end().await;
        refused
    });
    refused.unwrap().into()
}

/// The adapter, which alone reads the list, is not built here. So it is its own test that has heard the words.
fn a_price_list_without_dollars() -> Vec<String> {
    let test = "a_list_without_dollars_says_which_prices_are_used";
    vec![looked_for("src/cloud/ec2/on_demand.rs", test).join("; ")]
}

fn proxies_before_the_api_server() -> Vec<String> {
    let proxy = "http://proxy.example:3128";
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let kubeconfig = |name: &str, cluster: &str| {
        let path = folder.join(name);
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: local\n\
             clusters: [{{name: local, cluster: {{server: \"https://127.0.0.1:1\"{cluster}}}}}]\n\
             contexts: [{{name: local, context: {{cluster: local, user: me}}}}]\n\
             users: [{{name: me, user: {{token: anything}}}}]\n"
        );
        fs::write(&path, text).unwrap();
        path
    };
    let proxied = kubeconfig("proxied.yaml", &format!(", proxy-url: \"{proxy}\""));
    let plain = kubeconfig("plain.yaml", "");
    let plan = |kubeconfig: &Path| {
        let mut plan = Command::new(env!("CARGO_BIN_EXE_tonnage"));
        plan.arg("plan").arg("--kubeconfig").arg(kubeconfig);
        plan
    };
    vec![
        complaint(plan(&proxied).env_remove("HTTPS_PROXY")),
        complaint(plan(&plain).env("HTTPS_PROXY", proxy)),
    ]
}

fn addresses_that_are_ipv6() -> Vec<String> {
    let with = |flag: &str, value: &str| {
        // Should it start all the same it finds no cluster.
        let start = [
            "controller",
            "--mode=run",
            "--cluster-name=a",
            "--kubeconfig=no-such-file",
        ];
        let mut controller = Command::new(env!("CARGO_BIN_EXE_tonnage"));
        complaint(controller.args(start).args([flag, value]))
    };
    vec![
        with("--cluster-cidr", "fd12:3456::/108"),
        with("--cluster-endpoint", "https://[fd12::1]:443"),
    ]
}

/// What a command that must fail says of it.
fn complaint(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
    said
}

/// The texts that a unit test looks for in what it hears; it must be one that is run wherever its file is built.
fn looked_for(file: &str, test: &str) -> Vec<String> {
    let source = fs::read_to_string(file).unwrap();
    let found = source.split_once(&format!("    fn {test}() {{\n"));
    assert!(found.is_some(), "{file} has no test {test}");
    let (before, after) = found.unwrap();
    let above = before.lines().rev().map(str::trim);
    let attributes: Vec<&str> = above.take_while(|line| line.starts_with("#[")).collect();
    assert_eq!(attributes, ["#[test]"], "{file}: {test}");
    let body = after.split("\n    }\n").next().unwrap_or_default();
    let code: Vec<&str> = body
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let texts = code.split(".contains(\"").skip(1);
    texts
        .filter_map(|text| Some(text.split_once('"')?.0.to_owned()))
        .collect()
}

/// Place, state and what is seen, of every row.
fn rows() -> Vec<[String; 3]> {
    let page = fs::read_to_string("docs/where-it-runs.md").unwrap();
    let rows = page.lines().filter_map(|line| {
        let cells = line.strip_prefix("| ")?.strip_suffix('|')?;
        let mut cells = cells.splitn(3, " | ").map(|cell| cell.trim().to_owned());
        Some([cells.next()?, cells.next()?, cells.next()?])
    });
    rows.skip(1).collect()
}

/// What a text has in quotation marks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

#[test]
fn every_refusal_of_the_page_is_tried_and_said_in_its_words() {
    let rows = rows();
    let refuses = |state: &str| state.contains("refused") || state.contains("not yet");
    let refused: BTreeSet<&str> = rows
        .iter()
        .filter(|[_place, state, _seen]| refuses(state))
        .map(|[place, _state, _seen]| place.as_str())
        .collect();
    let listed: BTreeSet<&str> = REFUSED.iter().map(|row| row.place).collect();
    assert_eq!(refused, listed, "the page and this list differ");
    for row in REFUSED {
        let [_place, _state, seen] = rows
            .iter()
            .find(|[place, _state, _seen]| place == row.place)
            .unwrap();
        let words = quoted(seen);
        assert!(!words.is_empty(), "{}: the page quotes nothing", row.place);
        let said = (row.tried)();
        for words in &words {
            let is_said = said.iter().any(|said| said.contains(words));
            assert!(is_said, "{}: nobody says `{words}`: {said:?}", row.place);
        }
        for said in &said {
            let is_quoted = words.iter().any(|words| said.contains(words));
            assert!(is_quoted, "{}: the page has not: {said}", row.place);
        }
    }
}

#[test]
fn every_state_of_the_page_is_one_that_it_explains() {
    let known = ["tested", "expected", "refused", "not yet"];
    let rows = rows();
    assert!(rows.len() > 20, "{} rows", rows.len());
    for [place, state, _seen] in rows {
        assert!(
            known.iter().any(|word| state.contains(word)),
            "{place}: `{state}`"
        );
    }
}
