// Counts to some millions, says so, and ends with the digit that is its first argument.

#include "root.inc"
.global _start
_start:
    ldr x9, =ARGUMENT
    ldrb w19, [x9]
    sub x19, x19, #'0'
    ldr x20, =3000000
1:  subs x20, x20, #1
    b.ne 1b
    say done
    exit_with x19
    .ltorg

    .balign 8
done: .ascii "I have counted to three million\n"
