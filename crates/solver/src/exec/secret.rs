//! What nothing shows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes that do not come out when a value is shown. They reach the program that is started again
/// through a socket, and so neither the list of processes nor a file.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden(pub Vec<u8>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}
