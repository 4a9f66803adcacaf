//! Linux's error numbers.

/// Why a call failed, as Linux numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub u16);

/// What a call gives: a number, or an [`Errno`].
pub type Result<T = u64> = core::result::Result<T, Errno>;

#[expect(missing_docs, reason = "Linux's own names, without the leading E")]
impl Errno {
    pub const PERM: Self = Self(1);
    pub const NOENT: Self = Self(2);
    pub const SRCH: Self = Self(3);
    pub const INTR: Self = Self(4);
    pub const IO: Self = Self(5);
    pub const BADF: Self = Self(9);
    pub const CHILD: Self = Self(10);
    pub const AGAIN: Self = Self(11);
    pub const NOMEM: Self = Self(12);
    pub const ACCES: Self = Self(13);
    pub const FAULT: Self = Self(14);
    pub const EXIST: Self = Self(17);
    pub const NOTDIR: Self = Self(20);
    pub const ISDIR: Self = Self(21);
    pub const INVAL: Self = Self(22);
    pub const MFILE: Self = Self(24);
    pub const NOTTY: Self = Self(25);
    pub const NOSPC: Self = Self(28);
    pub const SPIPE: Self = Self(29);
    pub const ROFS: Self = Self(30);
    pub const RANGE: Self = Self(34);
    pub const NAMETOOLONG: Self = Self(36);
    pub const NOSYS: Self = Self(38);
    pub const LOOP: Self = Self(40);
    pub const NODEV: Self = Self(19);
    pub const TIMEDOUT: Self = Self(110);

    /// The value that a call leaves in x0.
    pub fn encode(result: Result) -> u64 {
        match result {
            Ok(value) => value,
            Err(Self(number)) => u64::from(number).wrapping_neg(),
        }
    }
}
