//! Any two expressions: a value meets both when it meets their intersection, and what an intersection
//! says of itself means the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tonnage::model::requirement::Requirement;

fuzz_target!(|expressions: Vec<(String, Vec<String>)>| {
    let read: Vec<Requirement> = expressions
        .iter()
        .take(4)
        .filter_map(|(operator, values)| Requirement::parse(operator, values).ok())
        .collect();
    let all = read
        .iter()
        .fold(Requirement::anything(), |sum, next| sum.intersection(next));
    let mut again = Requirement::anything();
    for entry in all.entries() {
        let entry = Requirement::parse(entry.operator, &entry.values).expect("own words");
        again = again.intersection(&entry);
    }
    let asked = expressions.iter().flat_map(|(_operator, values)| values);
    for value in asked.map(|value| Some(value.as_str())).chain([None]) {
        assert_eq!(all.accepts(value), read.iter().all(|each| each.accepts(value)));
        assert_eq!(all.accepts(value), again.accepts(value));
    }
});
