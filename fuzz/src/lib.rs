//! What koskit reads from strangers, each reader with what must hold whatever it is given.
//!
//! A function here takes any bytes and panics if something does not hold. `./x fuzz` runs them
//! under libFuzzer; the tests run them over the corpora in `corpus/`, where the inputs that once
//! went wrong stay.

mod answers;
mod language;
mod store;
mod wire;

pub use answers::answers;
pub use language::{dockerfile, dockerignore, expansion};
pub use store::{graph, image, layer};
pub use wire::wire;

/// A reader with what it must hold.
pub type Target = fn(&[u8]);

/// All of them by name, which is also that of their corpus.
pub const TARGETS: [(&str, Target); 8] = [
    ("dockerfile", dockerfile),
    ("expansion", expansion),
    ("dockerignore", dockerignore),
    ("layer", layer),
    ("image", image),
    ("graph", graph),
    ("answers", answers),
    ("wire", wire),
];
