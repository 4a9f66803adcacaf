//! `memcpy`, `memmove` and `memset`, which the compiler calls by these names. Those of its own
//! library copy a word at a time, or a byte where source and target are not aligned alike; most
//! of a `read` is copying.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .text.copy, "ax"
    .balign 64
    // x0: to, x1: from, x2: how many bytes. Whatever is read of 64 bytes is read before any of
    // it is written, so that it also copies downwards over itself.
    .global memcpy
memcpy:
    mov x3, x0
    subs x2, x2, #64
    b.lo 2f
1:  ldp x4, x5, [x1], #64
    ldp x6, x7, [x1, #-48]
    ldp x8, x9, [x1, #-32]
    ldp x10, x11, [x1, #-16]
    stp x4, x5, [x3], #64
    stp x6, x7, [x3, #-48]
    stp x8, x9, [x3, #-32]
    stp x10, x11, [x3, #-16]
    subs x2, x2, #64
    b.hs 1b
    // The lowest six bits of x2 are those of the rest.
2:  tbz x2, #5, 3f
    ldp x4, x5, [x1], #32
    ldp x6, x7, [x1, #-16]
    stp x4, x5, [x3], #32
    stp x6, x7, [x3, #-16]
3:  tbz x2, #4, 4f
    ldp x4, x5, [x1], #16
    stp x4, x5, [x3], #16
4:  tbz x2, #3, 5f
    ldr x4, [x1], #8
    str x4, [x3], #8
5:  tbz x2, #2, 6f
    ldr w4, [x1], #4
    str w4, [x3], #4
6:  tbz x2, #1, 7f
    ldrh w4, [x1], #2
    strh w4, [x3], #2
7:  tbz x2, #0, 8f
    ldrb w4, [x1]
    strb w4, [x3]
8:  ret

    .global memmove
memmove:
    sub x3, x0, x1
    cmp x3, x2
    b.hs memcpy
    // The target begins within the source: from the end.
    add x1, x1, x2
    add x3, x0, x2
    subs x2, x2, #64
    b.lo 2f
1:  ldp x4, x5, [x1, #-16]
    ldp x6, x7, [x1, #-32]
    ldp x8, x9, [x1, #-48]
    ldp x10, x11, [x1, #-64]!
    stp x4, x5, [x3, #-16]
    stp x6, x7, [x3, #-32]
    stp x8, x9, [x3, #-48]
    stp x10, x11, [x3, #-64]!
    subs x2, x2, #64
    b.hs 1b
2:  tbz x2, #5, 3f
    ldp x4, x5, [x1, #-16]
    ldp x6, x7, [x1, #-32]!
    stp x4, x5, [x3, #-16]
    stp x6, x7, [x3, #-32]!
3:  tbz x2, #4, 4f
    ldp x4, x5, [x1, #-16]!
    stp x4, x5, [x3, #-16]!
4:  tbz x2, #3, 5f
    ldr x4, [x1, #-8]!
    str x4, [x3, #-8]!
5:  tbz x2, #2, 6f
    ldr w4, [x1, #-4]!
    str w4, [x3, #-4]!
6:  tbz x2, #1, 7f
    ldrh w4, [x1, #-2]!
    strh w4, [x3, #-2]!
7:  tbz x2, #0, 8f
    ldrb w4, [x1, #-1]
    strb w4, [x3, #-1]
8:  ret

    // x0: to, w1: the byte, x2: how many.
    .global memset
memset:
    mov x3, x0
    and x4, x1, #0xff
    mov x5, #0x0101010101010101
    mul x4, x4, x5
    subs x2, x2, #64
    b.lo 2f
1:  stp x4, x4, [x3], #64
    stp x4, x4, [x3, #-48]
    stp x4, x4, [x3, #-32]
    stp x4, x4, [x3, #-16]
    subs x2, x2, #64
    b.hs 1b
2:  tbz x2, #5, 3f
    stp x4, x4, [x3], #32
    stp x4, x4, [x3, #-16]
3:  tbz x2, #4, 4f
    stp x4, x4, [x3], #16
4:  tbz x2, #3, 5f
    str x4, [x3], #8
5:  tbz x2, #2, 6f
    str w4, [x3], #4
6:  tbz x2, #1, 7f
    strh w4, [x3], #2
7:  tbz x2, #0, 8f
    strb w4, [x3]
8:  ret
    "#
);
