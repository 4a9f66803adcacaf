//! Instructions to LLB and image config.
