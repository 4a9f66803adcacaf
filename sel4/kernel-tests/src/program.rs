//! Programs: a few instructions in our own image, which threads run where they are and guests
//! from a copy. They stop by a system call that seL4 does not have (threads) or by HVC
//! (guests), and whoever runs them looks at their registers then.

/// A program.
#[derive(Clone, Copy)]
pub struct Program {
    /// Address of its first instruction.
    pub begin: u64,
    /// End of its last one.
    pub end: u64,
}

impl Program {
    /// Its bytes.
    pub fn bytes(self) -> &'static [u8] {
        let length = (self.end - self.begin) as usize;
        // SAFETY: only `program!` makes such values, of instructions in our own text, which
        // nobody changes.
        unsafe { core::slice::from_raw_parts(self.begin as *const u8, length) }
    }
}

/// A program of the instructions given as strings. It must not depend on where it is, nor use
/// the local labels 90 and 91. Constants (`ldr x0, =…`) lie at its end.
macro_rules! program {
    ($($line:literal),* $(,)?) => {{
        let (begin, end): (u64, u64);
        // SAFETY: jumps over the program; changes nothing but the two registers.
        unsafe {
            core::arch::asm!(
                "adr {begin}, 90f",
                "adr {end}, 91f",
                "b 91f",
                ".balign 16",
                ".arch_extension fp",
                ".arch_extension simd",
                "90:",
                $($line,)*
                ".ltorg",
                ".balign 4",
                "91:",
                ".arch_extension nosimd",
                ".arch_extension nofp",
                begin = out(reg) begin,
                end = out(reg) end,
                options(nomem, nostack, preserves_flags),
            );
        }
        $crate::program::Program { begin, end }
    }};
}

pub(crate) use program;
