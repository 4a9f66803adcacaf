//! A thread's registers, as a call finds and leaves them.

/// What of a thread's registers its gate has saved. The vector registers are not among them:
/// libkos never touches those.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The general registers. `x16`, or `x8`, holds what the program did not need
    /// ([`Context::way`]).
    pub x: [u64; 31],
    /// The flags, in the highest bits of the lower word.
    pub nzcv: u64,
    /// The stack pointer.
    pub sp: u64,
    /// Where the program goes on.
    pub pc: u64,
    /// How it goes on.
    pub way: u64,
}

/// Values of [`Context::way`].
pub mod way {
    /// By `ret x16`: the program does not need that register.
    pub const X16: u64 = 0;
    /// By `ret x8`: the first instruction there sets that register again.
    pub const X8: u64 = 1;
    /// With all registers: the program may need any of them.
    pub const ALL: u64 = 2;
    /// By `ret x16`, to where a function begins: no way back of a call is there.
    pub const ENTER: u64 = 4;
}
