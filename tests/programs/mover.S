// Changes its own CNode: removes a capability, moves one, copies one, one of them to a slot where
// the root server put another kind. Then it waits for its standard input.
//
// The numbers are those of seL4's invocations.

#include "root.inc"
.equ READ, 0x13
.equ CNODE, 2
.equ UNTYPED, 8
.equ DELETE, 15
.equ COPY, 17
.equ MOVE, 19

.macro invoke label, length, caps
    mov x0, #CNODE
    ldr x1, =(\label << 12 | \caps << 7 | \length)
    mov x7, #-1
    svc #0
    ubfx x0, x1, #12, #20
    cbnz x0, refused
.endm

.macro between to, from
    mov x9, #CNODE
    str x9, [x19, #8 + 8 * 121]
    mov x2, #\to
    mov x3, #64
    mov x4, #\from
    mov x5, #64
.endm

.global _start
_start:
    mrs x19, tpidrro_el0
    add x19, x19, #0x2000
    mov x2, #FAULT
    mov x3, #64
    invoke DELETE, 2, 0
    between 40, UNTYPED
    invoke MOVE, 4, 1
    between 41, REQUEST
    mov x9, #7
    str x9, [x19, #8 + 8 * 4]
    invoke COPY, 5, 1
    mov x2, #16
    call REQUEST, READ, 1
refused:
    exit_with x0
    .ltorg
