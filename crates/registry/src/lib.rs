//! Registries of container images: pull, push, copy, credentials.
//!
//! [`Client`] is the face: its calls return when all is done, and behind them is an asynchronous
//! client of the OCI distribution specification 1.1.
//!
//! # What is trusted
//! The registry is a stranger. A document is read only up to a limit and only under the digest
//! that was asked for; a blob reaches the store only if its bytes have the digest and the size of
//! its descriptor; nothing is waited for without end, and no text of a registry is shown with
//! control characters in it. Credentials reach the registry that they are for and the token server
//! that it names, and nobody else: see `host`.
//!
//! # What is slow
//! Blobs move side by side, on connections of their own, and pass through memory in pieces. What
//! arrives is hashed on the way to the disk, once; what is sent is read from the store's own file.
//!
//! The library `oci-client` is not used: it reads whole manifests and errors of any size into
//! memory, and neither goes on with a broken transfer nor waits as long as a registry asks to.

pub mod answer;
mod auth;
mod client;
mod copy;
mod credentials;
pub mod document;
mod download;
mod error;
mod helper;
mod host;
mod progress;
mod pull;
mod push;
mod repository;
mod tls;
mod upload;

pub use client::{Client, DOCKER_HUB, Options};
pub use copy::What;
pub use credentials::{Credential, Credentials, Kept, Secret};
pub use document::Document;
pub use error::{Error, Transport};
pub use progress::{Event, Part, Progress, State};
pub use pull::Pulled;
