//! How a rewritten `svc #0` reaches libkos.
//!
//! `lower` replaces each `svc #0` by a branch to a stub in the same ELF file. The stub finds
//! the thread's block (a page of libkos, pointed to by TPIDRRO_EL0, which programs cannot
//! write) and leaves through one of two gates at the end of the file's stub segment:
//!
//! ```text
//! x16 form, where x16 is proven dead          x8 form, where the number N is static
//!   mrs  x16, tpidrro_el0                       sub  x8, x8, #N
//!   str  x30, [x16, #LR]                        cbnz x8, other
//!   bl   gate16                                 mrs  x8, tpidrro_el0
//!   b    site + 4                               str  x30, [x8, #LR]
//!                                               bl   gate8
//! gate16:                                       mov  x8, #N
//!   str  x30, [x16, #BACK]                      b    site + 4
//!   ldr  x30, [x16, #ENTRY16]                 other:
//!   br   x30                                    add  x8, x8, #N
//!                                               brk  #BRK_NUMBER
//!                                             gate8: the same with x8, #ENTRY8
//! ```
//!
//! libkos saves the registers (in the x8 form, x8 is the block, and the number is read from
//! the `mov x8, #N` at the way back), switches to its own stack, serves the call, restores
//! everything but x0, loads x30 from LR and returns by `ret x16` or `ret x8` to the way back.
//! The program's stack is never touched: `vfork`, signal frames and red zones stay intact.

/// Comment of the `brk` that ends a program whose number at a site is not the one that stands
/// before the site. No compiled program does that.
pub const BRK_NUMBER: u16 = 0x6b6f;
/// Offset in the block: the program's x30.
pub const LR: u64 = 0;
/// Offset in the block: address of the stub's instruction after `bl gate…`, the way back.
pub const BACK: u64 = 8;
/// Offset in the block: address of libkos's entry for the x16 form.
pub const ENTRY16: u64 = 16;
/// Offset in the block: address of libkos's entry for the x8 form.
pub const ENTRY8: u64 = 24;
/// Offset in the block: first byte that is libkos's own business.
pub const PRIVATE: u64 = 64;
