//! Any text is a quantity that prints as itself again, or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tonnage::model::quantity::{Quantity, amount, text};

fuzz_target!(|written: &str| {
    if let Ok(quantity) = Quantity::parse(written) {
        assert_eq!(Quantity::parse(&quantity.to_string()), Ok(quantity));
    }
    for resource in ["cpu", "memory", "nvidia.com/gpu"] {
        if let Ok(read) = amount(resource, written) {
            let again = amount(resource, &text(resource, read));
            assert_eq!(again, Ok(read), "{resource} {written:?}");
        }
    }
});
