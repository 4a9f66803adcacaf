//! JSON documents of images: the same document has the same bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// The largest manifest, index or configuration that is read, as in registries.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// A document with the keys of all objects sorted: maps in `oci-spec` have no order.
pub(crate) fn write(document: &impl Serialize) -> Vec<u8> {
    let mut value = serde_json::to_value(document).expect("the documents have only string keys");
    value.sort_all_objects();
    serde_json::to_vec(&value).expect("a JSON value can be written")
}

pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { what: what.into(), source })
}
