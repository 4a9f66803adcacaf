//! OCI image store and layers.
