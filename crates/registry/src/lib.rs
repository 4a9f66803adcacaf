//! OCI registries: pull, push, copy, credentials.
