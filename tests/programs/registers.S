/* Every register survives a system call, whichever stub it goes through. Exits with 0, or
 * with the number of the check that failed. */
    .text
    .global _start

/* x\n = \n << 32 | \n */
    .macro number n
    mov x\n, #\n
    movk x\n, #\n, lsl #32
    .endm
    .macro vector n
    movi v\n\().16b, #\n + 64
    .endm

    .macro fill
    .irp n, 1,2,3,4,5,6,7,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    number \n
    .endr
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vector \n
    .endr
    .endm

/* Leaves with this status unless x\n is as `fill` left it. */
    .macro check n, status
    mov x0, #\n
    movk x0, #\n, lsl #32
    cmp x0, x\n
    b.ne fail\status
    .endm

    .macro check_vector n, status
    umov w0, v\n\().b[15]
    cmp w0, #\n + 64
    b.ne fail\status
    umov w0, v\n\().b[0]
    cmp w0, #\n + 64
    b.ne fail\status
    .endm

    .macro check_vectors status
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    check_vector \n, \status
    .endr
    .endm

_start:
    /* The stack pointer and what is below it. */
    mov x20, sp
    str x20, [sp, #-64]

    /* Nobody reads x16 after this call: the x16 form. */
    fill
    mov x8, #172 /* getpid */
    cmp x8, x8   /* Z and C */
    svc #0
    mov x16, #0
    b.ne fail1
    b.cc fail1
    cmp x0, #1
    b.ne fail2
    cmp x8, #172
    b.ne fail3
    .irp n, 1,2,3,4,5,6,7,9,10,11,12,13,14,15,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    check \n, 4
    .endr
    check_vectors 5

    /* x16 is read after this call: the x8 form. */
    fill
    mov x8, #172
    subs xzr, x1, x2 /* N */
    svc #0
    b.pl fail6
    cmp x0, #1
    b.ne fail7
    cmp x8, #172
    b.ne fail8
    .irp n, 1,2,3,4,5,6,7,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    check \n, 9
    .endr
    check_vectors 10

    mov x1, sp
    ldr x2, [sp, #-64]
    cmp x1, x2
    b.ne fail11
    mov x0, #0
    b leave

    .irp n, 1,2,3,4,5,6,7,8,9,10,11
fail\n:
    mov x0, #\n
    b leave
    .endr
leave:
    mov x8, #94
    svc #0
    mov x16, #0
    brk #1
