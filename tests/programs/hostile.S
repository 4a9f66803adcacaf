// Sends what a root server must survive, and looks at the answers. Its exit status has a bit for
// each answer that was wrong.

#include "root.inc"
.equ EINVAL, 22
.equ ENOSYS, 38

.macro expect bit, errno
    cmp x0, #\errno
    b.eq 1f
    orr x20, x20, #1 << \bit
1:
.endm

.global _start
_start:
    mov x20, #0
    // More bytes than a message has.
    mov x2, #1
    mov x3, #10000
    call REQUEST, WRITE, 2
    expect 0, EINVAL
    // More bytes than this message has: they would be somebody else's.
    mov x2, #1
    mov x3, #900
    call REQUEST, WRITE, 6
    expect 1, EINVAL
    mov x2, #1
    mov x3, #-1
    call REQUEST, WRITE, 6
    expect 2, EINVAL
    // A stream that there is not.
    mov x2, #9
    mov x3, #1
    call REQUEST, WRITE, 3
    expect 3, EINVAL
    // Requests without arguments, and without a meaning.
    call REQUEST, WRITE, 0
    expect 4, EINVAL
    call REQUEST, EXIT, 0
    expect 5, EINVAL
    call REQUEST, 0xfffff, 120
    expect 6, ENOSYS
    // Messages that nobody answers, with as many capabilities as fit.
    mov x21, #2000
2:  mov x0, #REQUEST
    lsl x1, x21, #12
    orr x1, x1, #0x180
    orr x1, x1, #120
    // Labels that are no requests.
    orr x1, x1, #1 << 28
    // Send and NBSend by turns.
    mov x7, #-3
    tst x21, #1
    b.eq 3f
    mov x7, #-4
3:  svc #0
    subs x21, x21, #1
    b.ne 2b
    // No bytes at all are fine.
    mov x2, #1
    mov x3, #0
    call REQUEST, WRITE, 2
    expect 7, 0
    say done
    exit_with x20
    .ltorg

    .balign 8
done: .ascii "I have said all that I wanted.\n\n"
