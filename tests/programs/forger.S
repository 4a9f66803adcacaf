// Tells the root server, as the kernel would, that it has faulted; but leaves the fault out.

#include "root.inc"
.global _start
_start:
    call FAULT, 5, 0
    mov x2, #1
    exit_with x2
    .ltorg
