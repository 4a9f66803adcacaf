//! Image to bundle.
