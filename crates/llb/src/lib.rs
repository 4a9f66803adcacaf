//! The build graph, on BuildKit's protobuf.
