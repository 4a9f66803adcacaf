//! The system call instruction. The only `unsafe` code that talks to the kernel.

/// Enters the kernel with `x7` = `number`, `x0` = `target`, `x1` = `info` and the first four
/// message words in `x2` to `x5`. Returns `x0` (a badge, where the call receives) and `x1`.
#[cfg(target_arch = "aarch64")]
#[inline]
pub(crate) fn enter(number: i64, target: u64, info: u64, words: &mut [u64; 4]) -> (u64, u64) {
    let [mut x2, mut x3, mut x4, mut x5] = *words;
    let (badge, answer);
    // SAFETY: seL4 changes only the registers named here and, where it delivers a message,
    // the IPC buffer, which is read and written through a volatile pointer only. It keeps
    // the stack.
    unsafe {
        core::arch::asm!(
            "svc #0",
            inout("x0") target => badge,
            inout("x1") info => answer,
            inout("x2") x2,
            inout("x3") x3,
            inout("x4") x4,
            inout("x5") x5,
            in("x7") number,
            options(nostack),
        );
    }
    *words = [x2, x3, x4, x5];
    (badge, answer)
}

/// There is no seL4 below a unit test.
#[cfg(not(target_arch = "aarch64"))]
pub(crate) fn enter(_: i64, _: u64, _: u64, _: &mut [u64; 4]) -> (u64, u64) {
    unreachable!("a system call outside of AArch64")
}
