//! Runs LLB here, with no daemon.
