// Says a word and ends with status 7. Its counter is its own: the word is another one where
// somebody else has counted before.

#include "root.inc"
.global _start
_start:
    adrp x19, counter
    add x19, x19, :lo12:counter
    ldr x20, [x19]
    add x20, x20, #1
    str x20, [x19]
    cmp x20, #1
    b.ne 1f
    say first
    mov x20, #7
    exit_with x20
1:  say later
    mov x20, #8
    exit_with x20
    .ltorg

    .balign 8
first:  .ascii "I am the first to count to one.\n"
later:  .ascii "Somebody else has counted here!\n"

    .data
    .balign 8
counter: .quad 0
