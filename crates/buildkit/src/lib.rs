//! BuildKit as a second engine, and koskit as BuildKit's frontend.
