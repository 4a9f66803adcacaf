// Makes of its untypeds what it can: threads, endpoints, CNodes that hold one another and
// themselves. One thread of its own asks the root server without end when the first one exits.
// Its exit status is 0, or the number of the step that seL4 refused.
//
// The numbers are those of seL4's invocations and object types.

#include "root.inc"
.equ TCB, 1
.equ CNODE, 2
.equ VSPACE, 3
// The last ones of sixteen: libkos has made its own of the first.
.equ UNTYPED, 8 + 10
.equ NESTED, 40
.equ THREAD, 44
.equ RETYPE, 1
.equ WRITE_REGISTERS, 3
.equ CONFIGURE, 5
.equ SET_PRIORITY, 6
.equ COPY, 17

// Invokes a capability: the words from the fifth on and the capabilities that go with it are in
// the IPC buffer.
.macro invoke cap, label, length, caps
    add x20, x20, #1
    mov x0, #\cap
    ldr x1, =(\label << 12 | \caps << 7 | \length)
    mov x7, #-1
    svc #0
    ubfx x0, x1, #12, #20
    cbnz x0, refused
.endm

// Capability `index` of the next message.
.macro carry index, cap
    mov x9, #\cap
    str x9, [x19, #8 + 8 * (121 + \index)]
.endm

// Word `index`, from 4 on.
.macro word index, value
    mov x9, #\value
    str x9, [x19, #8 + 8 * \index]
.endm

// Makes `count` objects of untyped `from`, into slots from `to` on.
.macro make from, type, bits, to, count
    carry 0, CNODE
    mov x2, #\type
    mov x3, #\bits
    mov x4, #0
    mov x5, #0
    word 4, \to
    word 5, \count
    invoke UNTYPED + \from, RETYPE, 6, 1
.endm

// Copies a capability to a slot of a CNode whose addresses have 5 bits.
.macro put cnode, to, from
    carry 0, CNODE
    mov x2, #\to
    mov x3, #5
    mov x4, #\from
    mov x5, #64
    word 4, 7
    invoke \cnode, COPY, 5, 1
.endm

.global _start
_start:
    mov x20, #0
    mrs x19, tpidrro_el0
    add x19, x19, #0x2000
    // Two CNodes of 32 slots, a thread, endpoints, notifications, a frame, an untyped.
    make 0, 4, 5, NESTED, 2
    make 1, 1, 0, THREAD, 1
    make 2, 2, 0, 46, 4
    make 3, 3, 0, 50, 4
    make 4, 8, 0, 54, 1
    make 5, 0, 8, 55, 1
    // Each holds the other, itself, the CNode that holds them, and what leads to others.
    .irp nested, NESTED, NESTED + 1
    put \nested, 0, NESTED
    put \nested, 1, NESTED + 1
    put \nested, 2, CNODE
    put \nested, 3, THREAD
    put \nested, 4, REQUEST
    put \nested, 5, FAULT
    put \nested, 6, VSPACE
    put \nested, 7, TCB
    .endr
    // The thread: faults as ours, no IPC buffer, the same priority.
    carry 0, CNODE
    carry 1, VSPACE
    carry 2, CNODE
    mov x2, #FAULT
    mov x3, #0
    mov x4, #0
    mov x5, #0
    word 4, 0
    invoke THREAD, CONFIGURE, 5, 3
    carry 0, TCB
    mov x2, #180
    invoke THREAD, SET_PRIORITY, 1, 1
    mov x2, #1
    mov x3, #1
    adr x4, ask_for_ever
    invoke THREAD, WRITE_REGISTERS, 3, 0
    // Long enough for it to get its turns.
    ldr x21, =5000000
1:  subs x21, x21, #1
    b.ne 1b
    say done
    mov x20, #0
refused:
    exit_with x20

ask_for_ever:
    call REQUEST, 0x999, 0
    b ask_for_ever
    .ltorg

    .balign 8
done: .ascii "I have made all that I can make\n"
