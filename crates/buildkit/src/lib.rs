//! BuildKit as a second engine, and koskit as BuildKit's frontend.
//!
//! [`Client`] builds a graph on a BuildKit server, which is one by itself or the one in a docker
//! daemon, and brings its layers into the store. One build there, from here:
//!
//! 1. `transport` connects: a socket or TCP, TLS, and at a docker daemon `POST /grpc`.
//! 2. `relocate` makes `oci-layout://` sources of the images that are wholly in our store, as the
//!    server has no other way to them.
//! 3. `session` opens a connection in the other direction through the first one. In it we serve
//!    what the server may ask for while it builds: the files of the context, secrets, SSH agents,
//!    credentials for registries, blobs of layouts. It may ask for what the build names and for
//!    nothing else: a server is not trusted with the rest of the machine.
//! 4. `Solve` is asked for, with the exporter `oci`, and `Status` for what happens meanwhile.
//! 5. The exporter sends the image as a tar archive through the session; each blob goes into the
//!    store as it comes.

mod address;
mod caches;
mod client;
mod error;
mod failure;
mod frontend;
mod relocate;
mod session;
mod status;
mod transport;
mod vertices;

pub use client::{Cache, Client, Credentials, Request, Solved, Worker};
pub use error::Error;
pub use frontend::serve;
