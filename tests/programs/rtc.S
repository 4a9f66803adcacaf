// Drives a device of its contract: the board's clock (PL031). Asks it for an interrupt in a second,
// waits for that, and ends with status 0; with 1 where no interrupt was pending.

#include "root.inc"
.equ EVENTS, 7
.equ REGISTERS, 0x7fc0270000

.global _start
_start:
    ldr x19, =REGISTERS
    ldr w20, [x19]
    add w20, w20, #1
    str w20, [x19, #4]
    mov w21, #1
    str w21, [x19, #0x10]
    mov x0, #EVENTS
    mov x1, #0
    mov x7, #-5
    svc #0
    ldr w21, [x19, #0x18]
    eor x21, x21, #1
    mov w22, #1
    str w22, [x19, #0x1c]
    exit_with x21
    .ltorg
