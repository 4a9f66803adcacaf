// Does what its first argument says, and what it must not.

#include "root.inc"
.global _start
_start:
    say alive
    ldr x9, =ARGUMENT
    ldrb w9, [x9]
    // Each register holds what the test looks for.
    .irp n, 0,1,2,3,4,5,6,7,8,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    mov x\n, #0x7000 + \n
    .endr
    cmp w9, #'r'
    b.eq read_null
    cmp w9, #'w'
    b.eq write_text
    cmp w9, #'j'
    b.eq jump_to_data
    cmp w9, #'u'
    b.eq undefined
    cmp w9, #'b'
    b.eq stub
    cmp w9, #'c'
    b.eq capability
    cmp w9, #'s'
    b.eq syscall
    cmp w9, #'i'
    b.eq write_information
    mov x9, #98
    exit_with x9
read_null:
    mov x9, #0
    ldr x0, [x9]
write_text:
    adr x9, _start
    str x0, [x9]
jump_to_data:
    adrp x9, data
    add x9, x9, :lo12:data
    br x9
undefined:
    .inst 0
stub:
    brk #0x6b6f
capability:
    mov x7, #-1
    mov x0, #1 << 40
    mov x1, #0
    svc #0
syscall:
    mov x7, #77
    svc #0
write_information:
    ldr x9, =ARGUMENT
    str x0, [x9]
    .ltorg

    .balign 8
alive: .ascii "I am alive, and about to fail.\n\n"

    .data
    .balign 8
data: .quad 0xd65f03c0
