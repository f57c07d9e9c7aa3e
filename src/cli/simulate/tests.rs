//! The command as a whole: what it reads, what it says, what it prints.

use clap::Parser;

use super::*;
use crate::simulate::Nobody;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn args(words: &[&str]) -> Args {
    let words = std::iter::once("simulate").chain(words.iter().copied());
    Command::try_parse_from(words).unwrap().args
}

/// A file with a text, in a folder of its own.
fn file(name: &str, text: &str) -> String {
    let folder = std::env::temp_dir().join(format!("tonnage-simulate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn generated_work_runs_on_pools_of_its_own_and_every_form_tells_the_same() {
    let spot = file(
        "without-gpu.yaml",
        "{apiVersion: tonnage.dev/v1alpha1, kind: SimulationSettings, metadata: {name: s}, \
         spec: {withoutNodePools: [gpu]}}",
    );
    let variant = format!("no-gpu={spot}");
    let args = args(&[
        "--generate",
        "gpu",
        "--duration",
        "6h",
        "--seed",
        "4",
        "--variant",
        &variant,
        "--quiet",
        "--market",
        "calm",
    ]);
    let (scenario, variants) = args.read().unwrap();
    assert_eq!(scenario.duration, SignedDuration::from_hours(6));
    let outcomes = run_all(&scenario, &variants, 2, &Nobody).unwrap();
    let [base, without] = outcomes.as_slice() else {
        panic!("{}", outcomes.len());
    };
    assert_eq!(table::never_placed(base), 0, "{:?}", base.never_placed);
    assert!(table::never_placed(without) > 0);
    let total = table::dollars(base.figures.usd_total);
    let text = table::render(&scenario, &outcomes);
    assert!(text.contains("BASE") && text.contains("NO-GPU"), "{text}");
    assert!(
        text.contains(&total) && text.contains("never got a node"),
        "{text}"
    );
    let page = page::render(&scenario, &outcomes);
    assert!(page.contains(&total) && page.contains("nvidia.com/gpu"));
    let document = document::render(&scenario, &outcomes);
    let usd = document["variants"][0]["usdTotal"].as_str().unwrap();
    assert_eq!(
        crate::model::money::UsdPerHour::parse(usd).unwrap().units(),
        base.figures.usd_total
    );
    assert_eq!(
        document["variants"][1]["neverPlaced"][0]["reasons"][0],
        "ResourcesDoNotFit"
    );
}

#[test]
fn what_cannot_be_simulated_says_what_to_give() {
    let pools = file("pools.yaml", generate::POOLS);
    let said = |words: &[&str]| args(words).read().unwrap_err().to_string();
    let nothing = said(&["-f", &pools]);
    assert!(
        nothing.contains("nothing arrives within") && nothing.contains("a longer --duration"),
        "{nothing}"
    );
    let many = file(
        "many.jsonl",
        "{\"atSeconds\":0,\"count\":4000000000,\"requests\":{\"cpu\":\"1\"}}\n",
    );
    let refused = said(&["-f", &pools, "--trace", &many]);
    assert!(
        refused.contains("line 1: count: with it 4000000000 pods"),
        "{refused}"
    );
    let refused = said(&[
        "--generate",
        "evaluation",
        "--scale",
        "10000",
        "--duration",
        "30d",
    ]);
    assert!(refused.contains("the generated work: --scale"), "{refused}");
    let trace = file(
        "work.jsonl",
        "{\"atSeconds\":0,\"runSeconds\":60,\"requests\":{\"cpu\":\"1\"}}\n",
    );
    assert!(said(&["--trace", &trace]).contains("base: no NodePool"));
    let twice = format!("base={pools}");
    assert!(
        said(&["-f", &pools, "--trace", &trace, "--variant", &twice])
            .contains("--variant base is there twice")
    );
    let missing = said(&["-f", "/nowhere/pools.yaml", "--trace", &trace]);
    assert!(
        missing.contains("/nowhere/pools.yaml cannot be read"),
        "{missing}"
    );
    let ours = args(&["-f", &pools, "--trace", &trace]).read().unwrap();
    assert_eq!(ours.0.loads.len(), 1);
    assert_eq!(ours.0.begin, MONDAY);
}

#[test]
fn arguments_that_say_nothing_are_refused() {
    for (words, said) in [
        (["--duration", "0s"], "nothing happens in no time"),
        (["--duration", "long"], "write it as 90s"),
        (["--variant", "spot"], "write NAME=FILE"),
        (["--scale", "0"], "1..=10000"),
    ] {
        let words = std::iter::once("simulate").chain(words);
        let error = Command::try_parse_from(words).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
