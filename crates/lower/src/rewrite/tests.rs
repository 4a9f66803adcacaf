use super::*;
use proptest::prelude::*;
use std::process::Command;

const TEXT: u64 = 0x40_0000;
const RET: u32 = 0xd65f_03c0;
const NOP: u32 = 0xd503_201f;
/// `mov x0, x16`.
const READ_X16: u32 = 0xaa10_03e0;

/// A static program of these instructions at TEXT + 0x1000, with a data segment `gap` bytes
/// after its text.
pub(crate) fn program(code: &[u32], gap: u64) -> Vec<u8> {
    let names = b"\0.text\0.shstrtab\0";
    let range = |offset, address, size| Range { offset, address, size };
    let size = 4 * code.len() as u64;
    let data = (TEXT + 0x1000 + size).next_multiple_of(PAGE) + gap;
    let text = range(0, TEXT, 0x1000 + size);
    let segments = [
        program_header(elf::PT_PHDR, elf::PF_R, range(64, TEXT + 64, 3 * 56), 8),
        program_header(elf::PT_LOAD, elf::PF_R | elf::PF_X, text, PAGE),
        program_header(elf::PT_LOAD, elf::PF_R | elf::PF_W, range(0, data, 16), PAGE),
    ];
    let section = |name, kind, flags, offset, address, size| SectionHeader64 {
        sh_name: U32::new(LE, name),
        sh_type: U32::new(LE, kind),
        sh_flags: U64::new(LE, flags),
        sh_addr: U64::new(LE, address),
        sh_offset: U64::new(LE, offset),
        sh_size: U64::new(LE, size),
        sh_link: U32::new(LE, 0),
        sh_info: U32::new(LE, 0),
        sh_addralign: U64::new(LE, 4),
        sh_entsize: U64::new(LE, 0),
    };
    let flags = elf::SHF_ALLOC | elf::SHF_EXECINSTR;
    let at = 0x1000 + size;
    let sections = [
        section(0, elf::SHT_NULL, Default::default(), 0, 0, 0),
        section(1, elf::SHT_PROGBITS, flags, 0x1000, TEXT + 0x1000, size),
        section(7, elf::SHT_STRTAB, Default::default(), at, 0, names.len() as u64),
    ];
    let mut out = vec![0; 64];
    out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    out[16] = 2;
    out[18] = 183;
    out[20] = 1;
    out[24..32].copy_from_slice(&(TEXT + 0x1000).to_le_bytes());
    out[32] = 64;
    out[40..48].copy_from_slice(&(at + names.len() as u64).to_le_bytes());
    out[52] = 64;
    out[54] = 56;
    out[56] = segments.len() as u8;
    out[58] = 64;
    out[60] = sections.len() as u8;
    out[62] = 2;
    out.extend_from_slice(pod::bytes_of_slice(&segments));
    out.resize(0x1000, 0);
    out.extend(code.iter().flat_map(|word| word.to_le_bytes()));
    out.extend_from_slice(names);
    out.extend_from_slice(pod::bytes_of_slice(&sections));
    out
}

/// The instructions of a rewritten file from an address on.
fn words(bytes: &[u8], address: u64, count: usize) -> Vec<u32> {
    let elf = Elf::program(bytes).unwrap();
    let code = Code { file: bytes, elf: &elf };
    (0..count as u64).map(|i| code.at(address + 4 * i).unwrap()).collect()
}

#[test]
fn a_site_where_x16_is_dead_gets_the_short_stub() {
    let site = TEXT + 0x1004;
    let done = rewrite(program(&[a64::mov_x8(64), a64::SVC, RET], 0x10000).leak()).unwrap();
    assert_eq!((done.x16_sites, done.x8_sites), (1, 0));
    let base = TEXT + 0x2000;
    let stub = base + (4 * 56_u64).next_multiple_of(16);
    let gate = stub + 16;
    assert_eq!(words(&done.bytes, site, 1), [a64::b(site, stub).unwrap()]);
    let expected = [
        a64::mrs_tpidrro(16),
        a64::str_lr(16, gate::LR),
        a64::bl(stub + 8, gate).unwrap(),
        a64::b(stub + 12, site + 4).unwrap(),
        a64::str_lr(16, gate::BACK),
        a64::ldr_lr(16, gate::ENTRY16),
        a64::BR_LR,
        a64::str_lr(8, gate::BACK),
        a64::ldr_lr(8, gate::ENTRY8),
        a64::BR_LR,
    ];
    assert_eq!(words(&done.bytes, stub, 10), expected);
}

#[test]
fn a_site_where_x16_may_live_gets_the_stub_that_needs_no_register() {
    let code = [a64::mov_x8(220), NOP, a64::SVC, READ_X16, RET];
    let done = rewrite(program(&code, 0x10000).leak()).unwrap();
    assert_eq!((done.x16_sites, done.x8_sites), (0, 1));
    let site = TEXT + 0x1008;
    let stub = TEXT + 0x2000 + (4 * 56_u64).next_multiple_of(16);
    let expected = [
        a64::sub_x8(220),
        a64::cbnz_x8(6),
        a64::mrs_tpidrro(8),
        a64::str_lr(8, gate::LR),
        a64::bl(stub + 16, stub + 36 + GATE).unwrap(),
        a64::mov_x8(220),
        a64::b(stub + 24, site + 4).unwrap(),
        a64::add_x8(220),
        a64::brk(gate::BRK_NUMBER),
    ];
    assert_eq!(words(&done.bytes, stub, 9), expected);
}

#[test]
fn a_site_that_fits_neither_stub_is_named() {
    for code in [
        vec![NOP, a64::SVC, READ_X16, RET],
        // The number is that of another path: a call lies between.
        vec![a64::mov_x8(1), 0x9400_0000, a64::SVC, READ_X16],
        // `br x0`: nobody knows what is read there.
        vec![NOP, a64::SVC, 0xd61f_0000],
        // Both ways of a branch count.
        vec![NOP, a64::SVC, 0xb400_0040, RET, READ_X16],
        // Off the end of the text.
        vec![NOP, a64::SVC],
    ] {
        let at = code.iter().position(|&word| word == a64::SVC).unwrap() as u64;
        let refused = rewrite(&program(&code, 0x10000)).unwrap_err();
        assert_eq!(refused, RewriteError::Site(TEXT + 0x1000 + 4 * at), "{code:x?}");
    }
}

#[test]
fn a_loop_ends_the_proof() {
    let code = [NOP, a64::SVC, 0x17ff_ffff];
    assert_eq!(rewrite(&program(&code, 0x10000)).unwrap().x16_sites, 1);
}

#[test]
fn the_program_header_table_moves_into_the_new_segment() {
    let before = program(&[a64::SVC, RET], 0x10000);
    let after = rewrite(&before).unwrap().bytes;
    let (old, new) = (Elf::program(&before).unwrap(), Elf::program(&after).unwrap());
    assert_eq!((old.phdr, old.phnum), (TEXT + 64, 3));
    assert_eq!((new.phdr, new.phnum), (TEXT + 0x2000, 4));
    assert_eq!(new.segments().len(), 3);
    assert_eq!(new.segments()[1].access, Access::Execute);
    let header = FileHeader64::<LE>::parse(&*after).unwrap();
    let first = header.program_headers(LE, &*after).unwrap()[0];
    assert_eq!((first.p_type.get(LE), first.p_vaddr.get(LE)), (elf::PT_PHDR, TEXT + 0x2000));
}

#[test]
fn a_note_gives_its_entry_to_the_stubs_and_the_table_stays() {
    let mut before = program(&[a64::SVC, RET], 0x10000);
    before[64..68].copy_from_slice(&elf::PT_NOTE.0.to_le_bytes());
    let after = rewrite(&before).unwrap().bytes;
    let new = Elf::program(&after).unwrap();
    // What a static glibc computes: the ELF header's address and e_phoff.
    assert_eq!((new.phdr, new.phnum), (TEXT + 64, 3));
    assert_eq!(new.segments().len(), 3);
    assert_eq!(new.segments()[1].access, Access::Execute);
    let header = FileHeader64::<LE>::parse(&*after).unwrap();
    let kinds = header.program_headers(LE, &*after).unwrap().iter().map(|s| s.p_type.get(LE));
    assert!(kinds.eq([elf::PT_LOAD; 3]));
    assert_eq!(words(&after, TEXT + 0x1004, 1), [RET]);
}

#[test]
fn without_a_gap_the_stubs_follow_the_last_segment() {
    let after = rewrite(program(&[a64::SVC, RET], 0).leak()).unwrap().bytes;
    let elf = Elf::program(&after).unwrap();
    assert_eq!(elf.segments()[2].address, TEXT + 0x3000);
    assert_eq!(elf.segments()[2].access, Access::Execute);
}

#[test]
fn a_file_without_svc_stays_as_it_is() {
    let file = program(&[NOP, RET], 0);
    assert_eq!(rewrite(&file).unwrap().bytes, file);
}

#[test]
fn a_file_without_section_headers_is_refused() {
    let mut file = program(&[a64::SVC, RET], 0);
    file[40..48].fill(0);
    file[60..62].fill(0);
    assert_eq!(rewrite(&file).unwrap_err(), RewriteError::NoSections);
}

#[test]
fn sections_that_contradict_the_segments_are_refused() {
    let mut file = program(&[a64::SVC, RET], 0);
    let sections = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    file[sections + 64 + 16] += 4;
    assert_eq!(rewrite(&file).unwrap_err(), RewriteError::Section(1));
}

#[test]
fn objdump_shows_the_stubs_of_a_compiled_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let source = "int main(void) { return 0; }\n\
        void _start(void) { register long x8 __asm__(\"x8\") = 93, x0 __asm__(\"x0\") = 0;\n\
        __asm__ volatile(\"svc 0\" :: \"r\"(x8), \"r\"(x0)); __builtin_unreachable(); }\n\
        long write(long a, long b, long c) { register long x8 __asm__(\"x8\") = 64;\n\
        register long x0 __asm__(\"x0\") = a, x1 __asm__(\"x1\") = b, x2 __asm__(\"x2\") = c;\n\
        __asm__ volatile(\"svc 0\" : \"+r\"(x0) : \"r\"(x8), \"r\"(x1), \"r\"(x2)); return x0; }\n";
    std::fs::write(path("a.c"), source).unwrap();
    let built = Command::new("aarch64-linux-gnu-gcc")
        .args(["-nostdlib", "-static", "-O2", "-o"])
        .args([path("a.out"), path("a.c")])
        .status();
    if !built.is_ok_and(|status| status.success()) {
        println!("skipped: aarch64-linux-gnu-gcc is not here");
        return;
    }
    let done = rewrite(std::fs::read(path("a.out")).unwrap().leak()).unwrap();
    assert_eq!(done.x16_sites + done.x8_sites, 2);
    std::fs::write(path("b.out"), &done.bytes).unwrap();
    let dump = Command::new("aarch64-linux-gnu-objdump")
        .args(["-d", "-j", SECTION])
        .arg(path("b.out"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert_eq!(text.matches("tpidrro_el0").count(), 2, "{text}");
    assert_eq!(text.matches("br\tx30").count(), 2, "{text}");
}

#[test]
fn a_branch_below_address_0_leads_nowhere() {
    // From the second instruction to the last word of all addresses.
    let by = -(TEXT as i64 + 0x1004 + 4);
    let branch = 0x1400_0000 | ((by / 4) as u32 & 0x3ff_ffff);
    assert_eq!(
        rewrite(&program(&[a64::SVC, branch], 0x1000)),
        Err(RewriteError::Site(TEXT + 0x1000))
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        changes in prop::collection::vec((0usize..0x1200, any::<[u8; 8]>()), 1..4),
        code in prop::collection::vec(any::<u32>(), 1..64),
    ) {
        let code: Vec<_> = code.into_iter().flat_map(|word| [word, a64::SVC]).collect();
        let mut file = program(&code, 0x1000);
        let _ = rewrite(&file);
        for (at, bytes) in changes {
            let at = at.min(file.len() - 8);
            file[at..at + 8].copy_from_slice(&bytes);
        }
        let _ = rewrite(&file);
    }
}

#[test]
fn headers_of_any_kind_do_not_make_it_panic() {
    let file = program(&[a64::SVC, RET], 0x1000);
    // The headers of segments are at the beginning, those of sections at the end.
    for at in (0..512).chain(file.len() - 520..file.len() - 8) {
        for value in [0u64, 1, 0xffff, 1 << 31, 1 << 63, u64::MAX - 0x1000, u64::MAX] {
            let mut file = file.clone();
            file[at..at + 8].copy_from_slice(&value.to_le_bytes());
            if let Ok(done) = rewrite(&file) {
                assert!(Elf::object(&done.bytes).is_ok(), "{value:#x} at {at}");
            }
        }
    }
}
