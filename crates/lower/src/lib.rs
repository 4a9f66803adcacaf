//! Image to bundle: what the root server needs to start an image natively.

mod a64;
pub mod rewrite;
