// Writes what it reads, 16 bytes at a time, and ends with 0 at the end of its input.

#include "root.inc"
.equ READ, 0x13
.global _start
_start:
1:  mov x2, #16
    call REQUEST, READ, 1
    cbnz x0, 2f
    cbz x2, 2f
    mov x5, x4
    mov x4, x3
    mov x3, x2
    mov x2, #1
    call REQUEST, WRITE, 4
    b 1b
2:  mov x19, x0
    exit_with x19
    .ltorg
