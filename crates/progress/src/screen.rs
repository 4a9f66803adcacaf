//! Where progress is shown.

use std::io::{self, Write};

/// A terminal, or what takes its place.
pub trait Screen: Send {
    /// Writes all of these bytes, at once where that is possible. Where it fails there is nobody
    /// to tell.
    fn write(&mut self, bytes: &[u8]);

    /// Columns and rows, where there are any.
    fn size(&self) -> Option<(usize, usize)>;
}

/// Standard error.
#[derive(Clone, Copy, Debug)]
pub struct Stderr;

impl Screen for Stderr {
    fn write(&mut self, bytes: &[u8]) {
        let _ = io::stderr().lock().write_all(bytes);
    }

    fn size(&self) -> Option<(usize, usize)> {
        let size = rustix::termios::tcgetwinsize(io::stderr()).ok()?;
        let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
        Some((columns, rows)).filter(|_| columns > 0 && rows > 0)
    }
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(pub bool);

impl Paint {
    pub fn with(self, code: &str, text: &str) -> String {
        if self.0 && !code.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}
