//! Any manifests: an error, or a plan in which the independent checker finds no fault. Start from the
//! scenarios: `cargo +nightly fuzz run plan fuzz/corpus/plan tests/it/scenarios`.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use tonnage::cloud::builtin;
use tonnage::cluster::manifests::{Manifests, read_text};
use tonnage::plan::check;
use tonnage::plan::provision::{ProvisionSettings, provision};

const BASE: &str = include_str!("../../tests/it/scenarios/base.yaml");

fuzz_target!(|text: &str| {
    let (Ok(mut documents), Ok(more)) = (read_text("base", BASE), read_text("fuzz", text)) else {
        return;
    };
    documents.extend(more);
    let Ok(manifests) = Manifests::read(documents) else {
        return;
    };
    let classes = builtin::node_classes(&manifests.node_classes);
    let snapshot = manifests.snapshot(Timestamp::UNIX_EPOCH, classes);
    let plan = provision(&snapshot, &ProvisionSettings::default().with_budget_ms(1));
    assert_eq!(check::violations(&snapshot, &plan), Vec::<String>::new());
});
