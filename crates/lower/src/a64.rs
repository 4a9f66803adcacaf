//! The A64 instructions that stubs are made of, and what any instruction does with one general
//! register and with the flow of control. Where this reader is not sure it says the word that
//! makes the rewriter careful: [`Use::Reads`], [`Flow::Unknown`].
//!
//! Source: Arm Architecture Reference Manual, DDI 0487, C4.1 (encoding index).

/// `svc #0`.
pub(crate) const SVC: u32 = 0xd400_0001;
/// Furthest that `b` and `bl` reach, in bytes, in either direction.
pub(crate) const BRANCH_RANGE: u64 = 128 << 20;
/// Largest N of `sub x8, x8, #N`.
pub(crate) const NUMBER_MAX: u16 = 4095;

/// `mrs x<t>, tpidrro_el0`.
pub(crate) fn mrs_tpidrro(t: u32) -> u32 {
    0xd53b_d060 | t
}

/// `str x30, [x<n>, #offset]`; the offset is a multiple of 8.
pub(crate) fn str_lr(n: u32, offset: u64) -> u32 {
    0xf900_001e | n << 5 | (offset as u32 / 8) << 10
}

/// `ldr x30, [x<n>, #offset]`; the offset is a multiple of 8.
pub(crate) fn ldr_lr(n: u32, offset: u64) -> u32 {
    0xf940_001e | n << 5 | (offset as u32 / 8) << 10
}

/// `br x30`.
pub(crate) const BR_LR: u32 = 0xd61f_03c0;

/// `b` from one address to another, or `None` where it does not reach.
pub(crate) fn b(from: u64, to: u64) -> Option<u32> {
    Some(0x1400_0000 | distance(from, to)?)
}

/// `bl` from one address to another, or `None` where it does not reach.
pub(crate) fn bl(from: u64, to: u64) -> Option<u32> {
    Some(0x9400_0000 | distance(from, to)?)
}

/// `sub x8, x8, #number`.
pub(crate) fn sub_x8(number: u16) -> u32 {
    0xd100_0108 | (number as u32) << 10
}

/// `add x8, x8, #number`.
pub(crate) fn add_x8(number: u16) -> u32 {
    0x9100_0108 | (number as u32) << 10
}

/// `cbnz x8`, over this many instructions, itself counted.
pub(crate) fn cbnz_x8(instructions: u32) -> u32 {
    0xb500_0008 | instructions << 5
}

/// `mov x8, #number`.
pub(crate) fn mov_x8(number: u16) -> u32 {
    0xd280_0008 | (number as u32) << 5
}

/// `brk #comment`.
pub(crate) fn brk(comment: u16) -> u32 {
    0xd420_0000 | (comment as u32) << 5
}

/// The number where this is `mov x8, #number` or `mov w8, #number`, and small enough for a stub.
pub(crate) fn number_of_mov_x8(instruction: u32) -> Option<u16> {
    let number = (instruction >> 5) as u16;
    (instruction & 0x7fe0_001f == 0x5280_0008 && number <= NUMBER_MAX).then_some(number)
}

/// The imm26 field.
fn distance(from: u64, to: u64) -> Option<u32> {
    let bytes = to.wrapping_sub(from) as i64;
    let range = -(BRANCH_RANGE as i64)..BRANCH_RANGE as i64;
    (range.contains(&bytes) && bytes % 4 == 0).then_some((bytes >> 2) as u32 & 0x03ff_ffff)
}

/// What an instruction does with one general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Its value matters, or might.
    Reads,
    /// It is overwritten, and its old value does not matter.
    Writes,
    /// Nothing.
    Neither,
}

/// Where control goes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// To the next instruction.
    Next,
    /// To the instruction this many bytes away.
    Jump(i64),
    /// To either.
    Fork(i64),
    /// Into or out of a function, where the procedure call standard says which registers live
    /// on: x16 and x17 do not (AAPCS64, 6.1.1: a linker's veneer may change them).
    Call,
    /// Somewhere.
    Unknown,
}

/// What `instruction` does with x`register` (0 to 30).
pub(crate) fn use_of(instruction: u32, register: u32) -> Use {
    let bit = |at: u32| instruction >> at & 1 == 1;
    let is = |at: u32| instruction >> at & 31 == register;
    let (rd, rn, ra, rm) = (is(0), is(5), is(10), is(16));
    let decide = |reads: bool, writes: bool| match (reads, writes) {
        (true, _) => Use::Reads,
        (false, true) => Use::Writes,
        (false, false) => Use::Neither,
    };
    match instruction >> 25 & 15 {
        // Data processing with an immediate.
        0b1000 | 0b1001 => match instruction >> 23 & 7 {
            0b000 | 0b001 => decide(false, rd),
            0b101 => decide(rd && instruction >> 29 & 3 == 3, rd),
            0b110 => decide(rn || rd && instruction >> 29 & 3 == 1, rd),
            0b111 => decide(rn || rm, rd),
            _ => decide(rn, rd),
        },
        // Branches and system instructions.
        0b1010 | 0b1011 => match instruction >> 24 {
            // HINT 8, 10, 12, 14 sign or check x17 with x16.
            0xd5 if instruction & 0xffff_ff3f == 0xd503_211f => {
                decide(register == 16 || register == 17, false)
            }
            0xd5 if bit(21) => decide(false, rd),
            0xd5 => decide(rd, false),
            0xd6 | 0xd7 => decide(rn || rd, false),
            0x34..=0x37 | 0xb4..=0xb7 => decide(rd, false),
            _ => Use::Neither,
        },
        // Data processing with registers.
        0b0101 | 0b1101 => {
            let three = instruction >> 24 & 31 == 0b11011;
            // CCMP, CCMN, RMIF and SETF have flags where others have Rd.
            let flags = matches!(instruction >> 21 & 0xff, 0b1101_0010)
                || instruction >> 21 & 0xff == 0b1101_0000 && instruction >> 10 & 63 != 0;
            decide(rn || rm || three && ra, rd && !flags)
        }
        // Loads and stores; bit 26 says that the data registers are of the SIMD file.
        0b0100 | 0b0110 | 0b1100 | 0b1110 => {
            let vector = bit(26);
            match instruction >> 28 & 3 {
                // Literal: opc 3 is a prefetch.
                0b01 if !bit(24) => decide(false, rd && !vector && instruction >> 30 != 3),
                0b10 => {
                    let data = !vector && (rd || ra);
                    decide(rn || data && !bit(22), data)
                }
                0b11 => {
                    let offset = !bit(24) && bit(21);
                    let prefetch = instruction >> 30 == 3 && instruction >> 22 & 3 == 2;
                    let store = instruction >> 22 & 3 == 0;
                    // Atomics and loads by signed pointers: too rare to be worth knowing.
                    let rare = offset && instruction >> 10 & 3 != 2;
                    let data = !vector && !prefetch && rd;
                    decide(rn || offset && rm || data && (store || rare), data)
                }
                // Exclusive, ordered, of SIMD structures, of tags.
                _ => decide(rn || rm || !vector && (rd || ra), false),
            }
        }
        // SIMD and floating point: a general register is in Rn (FMOV, INS, DUP) or Rd (UMOV).
        0b0111 | 0b1111 => decide(rn, false),
        _ => Use::Reads,
    }
}

/// Where control goes after `instruction`.
pub(crate) fn flow(instruction: u32) -> Flow {
    let signed = |at: u32, bits: u32| {
        let field = (instruction >> at) as i64 & ((1 << bits) - 1);
        (field << (64 - bits) >> (64 - bits)) * 4
    };
    match instruction >> 24 {
        0x14..=0x17 => Flow::Jump(signed(0, 26)),
        0x94..=0x97 => Flow::Call,
        0x54 | 0x34 | 0x35 | 0xb4 | 0xb5 => Flow::Fork(signed(5, 19)),
        0x36 | 0x37 | 0xb6 | 0xb7 => Flow::Fork(signed(5, 14)),
        0xd4 if instruction & 0x00e0_001f == 1 => Flow::Next,
        // BRK: the program ends here.
        0xd4 if instruction & 0x00e0_001f == 0x0020_0000 => Flow::Call,
        0xd4 => Flow::Unknown,
        0xd6 | 0xd7 => match instruction >> 21 & 7 {
            1 | 2 => Flow::Call,
            _ => Flow::Unknown,
        },
        _ => Flow::Next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_encoded_as_the_assembler_does() {
        // aarch64-linux-gnu-as 2.40
        assert_eq!(mrs_tpidrro(16), 0xd53b_d070);
        assert_eq!(str_lr(16, 8), 0xf900_061e);
        assert_eq!(ldr_lr(8, 24), 0xf940_0d1e);
        assert_eq!(b(0x1000, 0x0ffc), Some(0x17ff_ffff));
        assert_eq!(bl(0x1000, 0x1008), Some(0x9400_0002));
        assert_eq!(b(0, BRANCH_RANGE), None);
        assert_eq!(b(0, BRANCH_RANGE - 4), Some(0x15ff_ffff));
        assert_eq!((sub_x8(220), cbnz_x8(6)), (0xd103_7108, 0xb500_00c8));
        assert_eq!(add_x8(220), 0x9103_7108);
        assert_eq!((mov_x8(139), brk(1)), (0xd280_1168, 0xd420_0020));
    }

    #[test]
    fn uses_of_a_register_are_known() {
        use Use::*;
        for (instruction, text, expected) in [
            (0xd280_0010, "mov x16, #0", Writes),
            (0xf280_0030, "movk x16, #1", Reads),
            (0xb000_0010, "adrp x16, .", Writes),
            (0x9100_0610, "add x16, x16, #1", Reads),
            (0x9100_0410, "add x16, x0, #1", Writes),
            (0xf940_0210, "ldr x16, [x16]", Reads),
            (0xf940_0010, "ldr x16, [x0]", Writes),
            (0xf900_0010, "str x16, [x0]", Reads),
            (0xf947_c3e0, "ldr x0, [sp, #3968]", Neither),
            (0xa940_43e1, "ldp x1, x16, [sp]", Writes),
            (0xa900_43e1, "stp x1, x16, [sp]", Reads),
            (0xaa10_03e0, "mov x0, x16", Reads),
            (0xaa00_03f0, "mov x16, x0", Writes),
            (0xd61f_0200, "br x16", Reads),
            (0xb400_0010, "cbz x16, .", Reads),
            (0xd503_211f, "pacia1716", Reads),
            (0xd503_201f, "nop", Neither),
            (0xd53b_d050, "mrs x16, tpidr_el0", Writes),
            (0xd51b_d050, "msr tpidr_el0, x16", Reads),
            (0x9b00_4001, "madd x1, x0, x0, x16", Reads),
            (0xfa50_0820, "ccmp x1, #16, #0, eq", Reads),
            (0xd400_0001, "svc #0", Neither),
            (0x0000_0000, "udf #0", Reads),
        ] {
            assert_eq!(use_of(instruction, 16), expected, "{text}");
        }
    }

    #[test]
    fn flow_is_known() {
        for (instruction, text, expected) in [
            (0x1400_0002, "b .+8", Flow::Jump(8)),
            (0x17ff_ffff, "b .-4", Flow::Jump(-4)),
            (0x5400_0040, "b.eq .+8", Flow::Fork(8)),
            (0xb500_0040, "cbnz x0, .+8", Flow::Fork(8)),
            (0x3707_ffe0, "tbnz w0, #0, .-4", Flow::Fork(-4)),
            (0x9400_0000, "bl .", Flow::Call),
            (0xd65f_03c0, "ret", Flow::Call),
            (0xd63f_0000, "blr x0", Flow::Call),
            (0xd61f_0000, "br x0", Flow::Unknown),
            (0xd400_0001, "svc #0", Flow::Next),
            (0xd420_0000, "brk #0", Flow::Call),
            (0xaa00_03e1, "mov x1, x0", Flow::Next),
        ] {
            assert_eq!(flow(instruction), expected, "{text}");
        }
    }
}
