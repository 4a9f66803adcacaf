//! Why a test failed: a sentence. There is no heap to keep it in.

use core::fmt::{self, Write};
use core::panic::Location;

const SIZE: usize = 240;

/// What a test ends with.
pub type Result<T = ()> = core::result::Result<T, Failure>;

/// A sentence of up to 240 bytes; what is longer is cut off.
pub struct Failure {
    text: [u8; SIZE],
    length: usize,
}

impl Failure {
    /// Makes the sentence.
    pub fn new(sentence: fmt::Arguments) -> Self {
        let mut failure = Self { text: [0; SIZE], length: 0 };
        // Fails where the sentence is too long; what fits is there then.
        let _ = failure.write_fmt(sentence);
        failure
    }
}

impl Write for Failure {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            // Structures are formatted on several lines.
            if character == '\n' || character == ' ' && self.text[..self.length].ends_with(b" ") {
                continue;
            }
            let free = &mut self.text[self.length..];
            let to = free.get_mut(..character.len_utf8()).ok_or(fmt::Error)?;
            self.length += character.encode_utf8(to).len();
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // Only whole characters are written above.
        f.write_str(core::str::from_utf8(&self.text[..self.length]).unwrap_or(""))
    }
}

impl From<koskit_abi::Error> for Failure {
    #[track_caller]
    fn from(error: koskit_abi::Error) -> Self {
        let at = Location::caller();
        Self::new(format_args!("{error} ({}:{})", at.file(), at.line()))
    }
}

/// Ends a test with a sentence.
macro_rules! fail {
    ($($words:tt)*) => {
        return Err($crate::failure::Failure::new(format_args!($($words)*)))
    };
}

/// Ends a test with a sentence, unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($words:tt)*) => {
        if !$condition {
            $crate::failure::fail!($($words)*)
        }
    };
}

/// Ends a test, unless what is named has the value that it should have.
macro_rules! ensure_eq {
    ($what:expr, $is:expr, $should:expr) => {{
        let (is, should) = ($is, $should);
        $crate::failure::ensure!(is == should, "{} is {is:#x?} instead of {should:#x?}", $what)
    }};
}

pub(crate) use {ensure, ensure_eq, fail};
