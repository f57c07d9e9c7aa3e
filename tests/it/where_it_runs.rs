//! `docs/where-it-runs.md` against the code: what is refused, or not yet done, is said in the words that the
//! page quotes, and a test has heard them.

use std::collections::BTreeSet;
use std::fs;

/// A row that refuses something, with the file that its quoted words are in, and what proves them: a file, and
/// the test in it, or the words themselves in a fixture.
struct Refused {
    place: &'static str,
    said_in: &'static str,
    proofs: &'static [(&'static str, &'static str)],
}

const REFUSED: &[Refused] = &[
    Refused {
        place: "Kubernetes before 1.33",
        said_in: "charts/tonnage/Chart.yaml",
        proofs: &[("charts/tonnage/Chart.yaml", "kubeVersion: \">=1.33.0-0\"")],
    },
    Refused {
        place: "AL2 and Windows",
        said_in: "crds/tonnage.dev_ec2nodeclasses.yaml",
        proofs: &[
            (
                "tests/fixtures/api/refuse/node-class-al2.yaml",
                "# expect: AL2 is not supported",
            ),
            (
                "tests/fixtures/api/refuse/node-class-windows.yaml",
                "# expect: Windows nodes are not supported",
            ),
        ],
    },
    Refused {
        place: "`aws-cn`",
        said_in: "src/cloud/ec2/on_demand.rs",
        proofs: &[(
            "src/cloud/ec2/on_demand.rs",
            "fn a_list_without_dollars_says_which_prices_are_used()",
        )],
    },
    Refused {
        place: "A kubeconfig with `proxy-url`, or outside a pod with `HTTPS_PROXY`",
        said_in: "src/cluster/client.rs",
        proofs: &[(
            "src/cluster/client.rs",
            "fn a_proxy_before_the_api_server_is_refused_by_its_name()",
        )],
    },
    Refused {
        place: "IPv6 clusters",
        said_in: "src/settings/joining.rs",
        proofs: &[(
            "src/settings/mod.rs",
            "fn facts_that_no_node_could_join_with_are_refused()",
        )],
    },
];

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
fn every_refusal_of_the_page_is_said_in_its_words_and_tested() {
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
        let text = fs::read_to_string(row.said_in).unwrap();
        for words in words {
            assert!(
                text.contains(words),
                "{}: `{words}` is not in {}",
                row.place,
                row.said_in
            );
        }
        for (file, proof) in row.proofs {
            let text = fs::read_to_string(file).unwrap();
            assert!(
                text.contains(proof),
                "{}: no `{proof}` in {file}",
                row.place
            );
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
