//! What registries answer: their errors, tokens, challenges and other headers.

/// The bytes of an answer, read as each kind that there is.
pub fn answers(data: &[u8]) {
    koskit_registry::answer::fuzz(data);
}
