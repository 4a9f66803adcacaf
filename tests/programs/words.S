// Calls the root server with every word of the message at random: label, length, capabilities,
// registers and the whole IPC buffer. Only requests that would end the program, or wait for
// input, are left out.

#include "root.inc"
.equ READ, 0x13
.equ ROUNDS, 20000
// Words of the IPC buffer: the tag, 120 of the message, one that is the user's, three capabilities.
.equ MESSAGE, 8
.equ CAPABILITIES, 8 * 122

// xorshift64, in x19.
.macro random to
    eor x19, x19, x19, lsl #13
    eor x19, x19, x19, lsr #7
    eor x19, x19, x19, lsl #17
    mov \to, x19
.endm

.global _start
_start:
    ldr x19, =0x9e3779b97f4a7c15
    ldr x21, =ROUNDS
    // The IPC buffer is two pages above the block.
    mrs x20, tpidrro_el0
    add x20, x20, #0x2000
round:
    add x10, x20, #MESSAGE
    mov x9, #121
1:  random x11
    str x11, [x10], #8
    subs x9, x9, #1
    b.ne 1b
    // One that is not there would be a fault: the first eight slots are, the very first as none.
    add x10, x20, #CAPABILITIES
    mov x9, #3
2:  random x11
    and x11, x11, #7
    str x11, [x10], #8
    subs x9, x9, #1
    b.ne 2b
    // A label near those of requests, or any.
3:  random x11
    and x12, x11, #0x1f
    tbz x11, #40, 4f
    ubfx x12, x11, #8, #20
4:  cmp x12, #EXIT
    b.eq 3b
    cmp x12, #READ
    b.eq 3b
    random x13
    and x13, x13, #127
    mov x14, #120
    cmp x13, x14
    csel x13, x13, x14, lo
    random x14
    and x14, x14, #0xf80
    orr x1, x13, x14
    orr x1, x1, x12, lsl #12
    random x2
    random x3
    random x4
    random x5
    // Now and then a length that may be right.
    tbz x5, #3, 5f
    and x2, x2, #3
    and x3, x3, #1023
5:  mov x0, #REQUEST
    mov x7, #-1
    svc #0
    subs x21, x21, #1
    b.ne round
    mov x2, #0
    call REQUEST, EXIT, 1
    b .
    .ltorg
