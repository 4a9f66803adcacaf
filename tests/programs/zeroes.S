// Looks whether heap, stack and bss were zero when it began: status 0. Else 1, 2 or 3.

#include "root.inc"
.equ INFO, 0x7fc0200000
.global _start
.macro all_zero from, to, status
    mov x20, #\status
1:  cmp \from, \to
    b.hs 2f
    ldr x9, [\from], #8
    cbz x9, 1b
    exit_with x20
2:
.endm
_start:
    ldr x10, =INFO
    ldr x11, [x10, #40]
    ldr x12, [x10, #48]
    add x12, x11, x12, lsl #12
    all_zero x11, x12, 1
    // libkos has written the upper half of the stack's top page at most.
    ldr x12, [x10, #56]
    lsl x12, x12, #12
    ldr x13, =0x7fcfff0000
    sub x11, x13, x12
    sub x12, x13, #0x8000
    all_zero x11, x12, 2
    adrp x11, zero
    add x11, x11, :lo12:zero
    add x12, x11, #0x8000
    all_zero x11, x12, 3
    mov x20, #0
    exit_with x20
    .ltorg

    .bss
    .balign 8
zero: .space 0x8000
