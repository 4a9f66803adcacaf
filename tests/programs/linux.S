// A Linux program without a C library. Says a line; then, without arguments, exits with status 7,
// and with one, fills its stack to the end and beyond.

    .global _start
_start:
    ldr x19, [sp]
    mov x0, #1
    adr x1, line
    mov x2, #18
    mov x8, #64
    svc #0
    cmp x19, #1
    b.hi 1f
    mov x0, #7
    mov x8, #94
    svc #0
1:  str x0, [sp, #-16]!
    b 1b

line: .ascii "I run under Linux\n"
