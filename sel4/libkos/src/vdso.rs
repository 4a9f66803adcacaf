//! Functions that programs call instead of making a system call, as Linux's vDSO has them: an
//! image of an ELF file in libkos's text, which AT_SYSINFO_EHDR points to. What time it is, they
//! read from the counter and from what the root server has told ([`Info`]); for clocks that they
//! do not know they make the call, by the gate.
//!
//! C libraries look the functions up by their names, which is what the tables are for. There is one
//! chain of all symbols, so that no hash matters, and there are no versions: whoever asks for
//! Linux's gets these.

use core::arch::global_asm;
use koskit_libkos::number::{CLOCK_GETRES, CLOCK_GETTIME, GETTIMEOFDAY};
use koskit_spec::gate;
use koskit_spec::info::Info;
use koskit_spec::layout::INFO_BASE;

global_asm!(
    r#"
    .section .text.vdso, "ax"
    .balign 64
koskit_vdso:
    // ELF header: 64 bits, little endian, a shared object for AArch64.
    .byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .hword 3, 183
    .word 1
    .quad 0, 64, 0
    .word 0
    .hword 64, 56, 2, 0, 0, 0
    // PT_LOAD, to read and to execute: all of it.
    .word 1, 5
    .quad 0, 0, 0, koskit_vdso_end - koskit_vdso, koskit_vdso_end - koskit_vdso, 16
    // PT_DYNAMIC
    .word 2, 4
    .quad 1f - koskit_vdso, 1f - koskit_vdso, 1f - koskit_vdso, 2f - 1f, 2f - 1f, 8
    // DT_SONAME, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, the end
1:  .quad 14, 6f - 5f
    .quad 4, 3f - koskit_vdso
    .quad 5, 5f - koskit_vdso
    .quad 6, 4f - koskit_vdso
    .quad 10, 9f - 5f
    .quad 11, 24
    .quad 0, 0
2:
    // One bucket, four symbols: the first is none.
3:  .word 1, 4, 1, 0, 2, 3, 0
    .balign 8
    .macro function name, begin, end
    .word \name - 5f
    .byte 0x12, 0
    .hword 1
    .quad \begin - koskit_vdso, \end - \begin
    .endm
4:  .quad 0, 0, 0
    function 20f, koskit_clock_gettime, koskit_gettimeofday
    function 21f, koskit_gettimeofday, koskit_clock_getres
    function 22f, koskit_clock_getres, koskit_vdso_end
5:  .byte 0
6:  .asciz "linux-vdso.so.1"
20: .asciz "__kernel_clock_gettime"
21: .asciz "__kernel_gettimeofday"
22: .asciz "__kernel_clock_getres"
9:  .balign 4

    // x7: what CLOCK_MONOTONIC shows plus x6, in nanoseconds; x9: nanoseconds of a second.
    // x4 is the place of the clock's words.
    .macro nanoseconds
    ldr x5, [x4]
    isb
    mrs x7, cntvct_el0
    udiv x8, x7, x5
    msub x7, x8, x5, x7
    mov w9, #0xca00
    movk w9, #0x3b9a, lsl #16
    mul x7, x7, x9
    udiv x7, x7, x5
    madd x7, x8, x9, x7
    add x7, x7, x6
    .endm

    .macro clock_words
    mov x4, #{clock} & 0xffff
    movk x4, #{clock} >> 16 & 0xffff, lsl #16
    movk x4, #{clock} >> 32, lsl #32
    .endm

    // As a stub of a program does it (koskit_spec::gate).
    .macro call number
    mov x8, #\number
    mrs x16, tpidrro_el0
    str x30, [x16, #{lr}]
    bl koskit_vdso_gate
    ret
    .endm

    // w0: the clock, x1: where the time goes. REALTIME, REALTIME_COARSE and TAI are ahead of
    // MONOTONIC, MONOTONIC_RAW, MONOTONIC_COARSE and BOOTTIME.
koskit_clock_gettime:
    cmp w0, #11
    b.hi 2f
    mov w2, #1
    lsl w2, w2, w0
    mov w3, #1 << 0 | 1 << 5 | 1 << 11
    mov w5, #1 << 1 | 1 << 4 | 1 << 6 | 1 << 7
    clock_words
    mov x6, #0
    tst w2, w5
    b.ne 1f
    tst w2, w3
    b.eq 2f
    ldr x6, [x4, #8]
1:  nanoseconds
    udiv x8, x7, x9
    msub x7, x8, x9, x7
    stp x8, x7, [x1]
    mov w0, #0
    ret
2:  call {clock_gettime}

    // x0: where the time goes, x1: where the time zone would.
koskit_gettimeofday:
    cbz x0, 1f
    clock_words
    ldr x6, [x4, #8]
    nanoseconds
    udiv x8, x7, x9
    msub x7, x8, x9, x7
    mov w5, #1000
    udiv x7, x7, x5
    stp x8, x7, [x0]
    mov w0, #0
    ret
1:  call {gettimeofday}

koskit_clock_getres:
    call {clock_getres}

koskit_vdso_gate:
    str x30, [x16, #{back}]
    b koskit_entry16
koskit_vdso_end:
    "#,
    clock = const INFO_BASE + Info::CLOCK as u64,
    lr = const gate::LR,
    back = const gate::BACK,
    clock_gettime = const CLOCK_GETTIME,
    gettimeofday = const GETTIMEOFDAY,
    clock_getres = const CLOCK_GETRES,
);

unsafe extern "C" {
    fn koskit_vdso();
    fn koskit_vdso_end();
}

/// Whether an instruction is one of these functions.
pub fn contains(pc: u64) -> bool {
    (address()..koskit_vdso_end as *const () as u64).contains(&pc)
}

/// Address of the image.
pub fn address() -> u64 {
    koskit_vdso as *const () as u64
}
