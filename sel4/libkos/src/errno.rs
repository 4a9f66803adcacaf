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
    pub const NXIO: Self = Self(6);
    pub const BADF: Self = Self(9);
    pub const CHILD: Self = Self(10);
    pub const AGAIN: Self = Self(11);
    pub const NOMEM: Self = Self(12);
    pub const ACCES: Self = Self(13);
    pub const FAULT: Self = Self(14);
    pub const BUSY: Self = Self(16);
    pub const EXIST: Self = Self(17);
    pub const XDEV: Self = Self(18);
    pub const NODEV: Self = Self(19);
    pub const NOTDIR: Self = Self(20);
    pub const ISDIR: Self = Self(21);
    pub const INVAL: Self = Self(22);
    pub const MFILE: Self = Self(24);
    pub const NOTTY: Self = Self(25);
    pub const FBIG: Self = Self(27);
    pub const NOSPC: Self = Self(28);
    pub const SPIPE: Self = Self(29);
    pub const ROFS: Self = Self(30);
    pub const PIPE: Self = Self(32);
    pub const RANGE: Self = Self(34);
    pub const NAMETOOLONG: Self = Self(36);
    pub const NOSYS: Self = Self(38);
    pub const NOTEMPTY: Self = Self(39);
    pub const LOOP: Self = Self(40);
    pub const NODATA: Self = Self(61);
    pub const PROTO: Self = Self(71);
    pub const NOTSOCK: Self = Self(88);
    pub const DESTADDRREQ: Self = Self(89);
    pub const MSGSIZE: Self = Self(90);
    pub const PROTOTYPE: Self = Self(91);
    pub const NOPROTOOPT: Self = Self(92);
    pub const PROTONOSUPPORT: Self = Self(93);
    pub const SOCKTNOSUPPORT: Self = Self(94);
    pub const OPNOTSUPP: Self = Self(95);
    pub const AFNOSUPPORT: Self = Self(97);
    pub const ADDRINUSE: Self = Self(98);
    pub const ADDRNOTAVAIL: Self = Self(99);
    pub const NETUNREACH: Self = Self(101);
    pub const CONNRESET: Self = Self(104);
    pub const ISCONN: Self = Self(106);
    pub const NOTCONN: Self = Self(107);
    pub const TIMEDOUT: Self = Self(110);
    pub const CONNREFUSED: Self = Self(111);
    pub const ALREADY: Self = Self(114);
    pub const INPROGRESS: Self = Self(115);

    /// From here on they are libkos's own, and no program sees them.
    pub const OURS: u16 = u16::MAX - 3;

    /// The call waits, and is answered again.
    pub const WAIT: Self = Self(u16::MAX);

    /// A signal has come while the call waited.
    pub const RESTART: Self = Self(u16::MAX - 2);

    /// What the call does, it does to the thread's registers.
    pub const CONTEXT: Self = Self(u16::MAX - 3);

    /// The thread that made the call is gone.
    pub const END: Self = Self(u16::MAX - 1);

    /// The value that a call leaves in x0.
    pub fn encode(result: Result) -> u64 {
        match result {
            Ok(value) => value,
            Err(Self(number)) => u64::from(number).wrapping_neg(),
        }
    }
}
