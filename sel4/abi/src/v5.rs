//! How seL4 5.0.0 with our port encodes what the other modules say. Sources: its
//! `libsel4/include/sel4/{shared_types,types}_64.bf`, `objecttype.h`, `constants.h` of AArch64.

use crate::ipc::MessageInfo;
use crate::object::{CNodeGuard, Object, Registers, Rights, Space, VcpuRegister};

#[expect(non_upper_case_globals, reason = "the kernel's own names")]
#[allow(dead_code)] // Not every label has a wrapper.
mod numbers {
    include!(concat!(env!("OUT_DIR"), "/numbers.rs"));
}
pub(crate) use numbers::{label, number};

pub(crate) fn encode_info(info: MessageInfo) -> u64 {
    (info.label & 0xf_ffff) << 12 | (info.caps as u64 & 3) << 7 | (info.length as u64 & 0x7f)
}

pub(crate) fn decode_info(word: u64) -> MessageInfo {
    MessageInfo {
        label: word >> 12 & 0xf_ffff,
        // The kernel never says more than WORDS_MAX (120).
        length: (word & 0x7f) as usize,
        caps: (word >> 7 & 3) as usize,
    }
}

pub(crate) fn encode_rights(rights: Rights) -> u64 {
    u64::from(rights.write) | u64::from(rights.read) << 1 | u64::from(rights.grant) << 2
}

/// Badges have 28 bits; what is above is ignored.
pub(crate) fn encode_badge(badge: u64) -> u64 {
    badge & 0xfff_ffff
}

/// Guards have 18 bits; longer ones begin with zeroes.
pub(crate) fn encode_guard(guard: CNodeGuard) -> u64 {
    1 << 31 | (guard.bits & 0x3_ffff) << 8 | u64::from(guard.size & 0x3f) << 2
}

/// Words of TCB_Configure: after the fault endpoint a priority, which is set by itself, as
/// later kernels demand.
pub(crate) fn configuration(space: Space, buffer: u64) -> [u64; 5] {
    let [fault_endpoint, guard, vspace_data] = spaces(space);
    [fault_endpoint, 0, guard, vspace_data, buffer]
}

/// Words of TCB_SetSpace.
pub(crate) fn spaces(space: Space) -> [u64; 3] {
    [space.fault_endpoint, encode_guard(space.guard), 0]
}

/// Label and words of a second mapping at the address of the first. Here that has a label of its
/// own, and the kernel knows the address.
pub(crate) fn remapping(_: u64, rights: Rights, attributes: u64) -> (u64, [u64; 2]) {
    (label::ARMPageRemap, [encode_rights(rights), attributes])
}

/// Number of an object's type, and the argument that says its size.
pub(crate) fn object_type(object: Object) -> (u64, u64) {
    match object {
        Object::Untyped { bits } => (0, u64::from(bits)),
        Object::Tcb => (1, 0),
        Object::Endpoint => (2, 0),
        Object::Notification => (3, 0),
        Object::CNode { bits } => (4, u64::from(bits)),
        Object::VSpace => (7, 0),
        Object::SmallFrame => (8, 0),
        Object::LargeFrame => (9, 0),
        Object::Table { level: 0 } => (10, 0),
        Object::Table { level: 1 } => (11, 0),
        Object::Table { .. } => (6, 0),
        Object::Vcpu => (12, 0),
    }
}

pub(crate) const fn size_bits(object: Object) -> u32 {
    match object {
        Object::Untyped { bits } => bits,
        Object::Tcb => 11,
        Object::Endpoint => 4,
        Object::Notification => 5,
        Object::CNode { bits } => bits + 5,
        Object::VSpace | Object::Table { .. } | Object::SmallFrame | Object::Vcpu => 12,
        Object::LargeFrame => 21,
    }
}

/// Levels: page table, page directory, page upper directory.
pub(crate) fn table_map(level: u32) -> u64 {
    match level {
        0 => label::ARMPageTableMap,
        1 => label::ARMPageDirectoryMap,
        _ => label::ARMPageUpperDirectoryMap,
    }
}

pub(crate) fn table_unmap(level: u32) -> u64 {
    match level {
        0 => label::ARMPageTableUnmap,
        1 => label::ARMPageDirectoryUnmap,
        _ => label::ARMPageUpperDirectoryUnmap,
    }
}

/// An invocation that only the root of an address space has.
pub(crate) const OF_VSPACE: u64 = label::ARMPageGlobalDirectoryClean_Data;

/// Words of `seL4_UserContext`; the last two are our port's, as in 16.0.0.
pub(crate) const REGISTERS: usize = 36;

/// The register at an index of `seL4_UserContext`.
pub(crate) fn register(registers: &mut Registers, index: usize) -> Option<&mut u64> {
    const X: [u8; 31] = [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 18, 29, 30, 9, 10, 11, 12, 13, 14, 15, 19, 20, 21, 22,
        23, 24, 25, 26, 27, 28,
    ];
    match index {
        0 => Some(&mut registers.pc),
        1 => Some(&mut registers.sp),
        2 => Some(&mut registers.spsr),
        34 => Some(&mut registers.tpidr_el0),
        35 => Some(&mut registers.tpidrro_el0),
        _ => registers.x.get_mut(usize::from(*X.get(index - 3)?)),
    }
}

/// All four in one word, as libsel4's own stub packs them.
pub(crate) fn encode_injection(virq: u16, priority: u8, group: u8, index: u8) -> [u64; 1] {
    let (priority, group, index) = (u64::from(priority), u64::from(group), u64::from(index));
    [u64::from(virq) | priority << 16 | group << 24 | index << 32]
}

/// Number of a register in `seL4_VCPUReg`. The first 23 are 16.0.0's; the others our port's.
pub(crate) fn vcpu_register(register: VcpuRegister) -> u64 {
    register as u64
}

/// Where things are in the boot information, a packed structure: offsets in bytes.
pub(crate) mod bootinfo {
    pub(crate) const IPC_BUFFER: usize = 32;
    pub(crate) const EMPTY: usize = 40;
    pub(crate) const CNODE_BITS: usize = 136;
    pub(crate) const UNTYPEDS: usize = 153;
    pub(crate) const LIST: usize = 169;
    /// Bytes of an entry: address u64, two bytes unused, size bits u8, device u8.
    pub(crate) const ENTRY: usize = 12;
    pub(crate) const ENTRY_BITS: usize = 10;
    pub(crate) const ENTRY_DEVICE: usize = 11;
}

/// Labels of fault messages.
pub(crate) mod fault {
    pub(crate) const CAP: u64 = 1;
    pub(crate) const UNKNOWN_SYSCALL: u64 = 2;
    pub(crate) const USER_EXCEPTION: u64 = 3;
    pub(crate) const VM: u64 = 5;
    pub(crate) const VGIC_MAINTENANCE: u64 = 6;
    pub(crate) const VCPU: u64 = 7;
    pub(crate) const VPPI: u64 = 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_info_survives_its_encoding() {
        let info = MessageInfo { label: 0x1_2345, length: 120, caps: 3 };
        assert_eq!(decode_info(encode_info(info)), info);
        assert_eq!(encode_info(MessageInfo::new(1, 6)), 0x1006);
    }

    #[test]
    fn every_register_has_one_place() {
        let mut registers = Registers::default();
        for index in 0..REGISTERS {
            let place = register(&mut registers, index).unwrap();
            assert_eq!(*place, 0);
            *place = index as u64 + 1;
        }
        assert_eq!((registers.x[29], registers.x[28], registers.tpidrro_el0), (16, 34, 36));
        assert_eq!(register(&mut registers, REGISTERS), None);
    }

    /// From the kernel's generated `sel4/invocation.h`, `sel4_arch_invocation.h` and
    /// `arch_invocation.h`.
    #[test]
    fn labels_are_those_of_the_kernels_own_headers() {
        use label::*;
        assert_eq!((UntypedRetype, TCBConfigure, CNodeRevoke, DomainSetSet), (1, 5, 14, 27));
        // Our port's five are in front of those of all ARM processors.
        assert_eq!((ARMVCPUSetTCB, ARMVCPUAckVPPI), (36, 40));
        assert_eq!((ARMPageTableMap, ARMPageMap, ARMASIDPoolAssign), (36 + 5, 38 + 5, 47 + 5));
        assert_eq!((number::Call, number::Recv, number::NBRecv), (-1, -5, -8));
    }

    #[test]
    fn guards_and_badges_are_tagged_and_cut_to_their_fields() {
        assert_eq!(encode_guard(CNodeGuard { bits: 0, size: 48 }), 0x8000_00c0);
        assert_eq!(encode_guard(CNodeGuard { bits: 0xf_ffff, size: 64 }), 0x83ff_ff00);
        assert_eq!(encode_badge(0xffff_ffff_1234_5678), 0x234_5678);
    }

    #[test]
    fn an_injection_is_one_word() {
        assert_eq!(encode_injection(0x3ff, 0x1f, 1, 3), [0x3_011f_03ff]);
    }

    #[test]
    fn the_last_vcpu_registers_are_our_ports() {
        use VcpuRegister::*;
        let numbers = [Sctlr, Isr, CntkCtl, Par, Vmpidr].map(vcpu_register);
        assert_eq!(numbers, [0, 13, 22, 23, 25]);
    }
}
