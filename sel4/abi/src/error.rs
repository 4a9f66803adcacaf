//! Errors of invocations.

use core::fmt;

/// The result of an invocation.
pub type Result<T> = core::result::Result<T, Error>;

/// Why the kernel refused an invocation: the label of its reply. The same in all versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// An argument is not valid.
    InvalidArgument,
    /// A capability is missing or of the wrong kind.
    InvalidCapability,
    /// The object does not do this, or not in its present state.
    IllegalOperation,
    /// A number is out of range.
    RangeError,
    /// An address is not aligned as it must be.
    AlignmentError,
    /// A slot or a page table could not be reached; [`crate::Ipc::missing_bits`] tells how far
    /// the search got.
    FailedLookup,
    /// The message is too short.
    TruncatedMessage,
    /// The destination is in use.
    DeleteFirst,
    /// The capability has children or copies that keep this from being done.
    RevokeFirst,
    /// The untyped has too little memory left.
    NotEnoughMemory,
    /// A code that we do not know.
    Unknown(u64),
}

impl Error {
    /// Turns the label of a kernel's reply into a result.
    pub(crate) fn check(label: u64) -> Result<()> {
        use Error::*;
        Err(match label {
            0 => return Ok(()),
            1 => InvalidArgument,
            2 => InvalidCapability,
            3 => IllegalOperation,
            4 => RangeError,
            5 => AlignmentError,
            6 => FailedLookup,
            7 => TruncatedMessage,
            8 => DeleteFirst,
            9 => RevokeFirst,
            10 => NotEnoughMemory,
            other => Unknown(other),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidArgument => "seL4 refused an argument",
            Self::InvalidCapability => "seL4 refused a capability",
            Self::IllegalOperation => "seL4 does not allow this operation",
            Self::RangeError => "seL4 found a number out of range",
            Self::AlignmentError => "seL4 found an address that is not aligned",
            Self::FailedLookup => "seL4 could not find a slot or page table",
            Self::TruncatedMessage => "seL4 found the message too short",
            Self::DeleteFirst => "seL4 found the destination in use",
            Self::RevokeFirst => "seL4 found children of the capability",
            Self::NotEnoughMemory => "seL4 found too little memory in the untyped",
            Self::Unknown(code) => return write!(f, "seL4 gave the unknown error {code}"),
        })
    }
}

impl core::error::Error for Error {}
