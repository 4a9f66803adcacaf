//! Boots a seL4 machine and talks to it.
