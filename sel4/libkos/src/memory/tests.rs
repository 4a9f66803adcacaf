use super::*;
use std::collections::BTreeMap as Map;
use std::vec::Vec;

/// Pages of a machine with room for a few: each has its protection.
struct Few {
    pages: Map<u64, Protection>,
    room: usize,
    /// What was written, by address.
    written: Map<u64, Vec<u8>>,
}

impl Pages for Few {
    fn set(&mut self, start: u64, end: u64, protection: Protection) -> Result<()> {
        for (_, page) in self.pages.range_mut(start..end) {
            *page = protection;
        }
        if protection != Protection::NONE {
            for page in (start..end).step_by(PAGE as usize) {
                if self.pages.len() == self.room && !self.pages.contains_key(&page) {
                    return Err(Errno::NOMEM);
                }
                self.pages.insert(page, protection);
            }
        }
        Ok(())
    }

    fn release(&mut self, start: u64, end: u64) -> Result<()> {
        self.pages.retain(|page, _| !(start..end).contains(page));
        Ok(())
    }

    fn put(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        for page in (address..address + bytes.len() as u64).step_by(PAGE as usize) {
            assert_eq!(self.pages[&page], RW);
        }
        self.written.insert(address, bytes.to_vec());
        Ok(())
    }
}

const RW: Protection = Protection::READ_WRITE;
const NONE: Protection = Protection::NONE;
const READ: Protection = Protection(1);

fn setup(room: usize) -> (Memory, Few) {
    (Memory::new(0x10_0000, 0x10_0000), Few { pages: Map::new(), room, written: Map::new() })
}

fn page(number: u64) -> u64 {
    MMAP_BASE + number * PAGE
}

fn ranges(memory: &Memory) -> Vec<(u64, u64, u8)> {
    let number = |address: u64| (address - MMAP_BASE) / PAGE;
    memory.ranges.iter().map(|(&s, r)| (number(s), number(r.end), r.protection.0)).collect()
}

#[test]
fn mappings_fill_the_lowest_hole_that_is_large_enough() {
    let (mut memory, mut few) = setup(100);
    for (length, at) in [(PAGE, 0), (2 * PAGE, 1), (1, 3), (3 * PAGE, 4)] {
        assert_eq!(memory.map(&mut few, 0, length, RW, 0), Ok(page(at)));
    }
    assert_eq!(ranges(&memory), [(0, 7, 3)]);
    memory.unmap(&mut few, page(1), 2 * PAGE).unwrap();
    assert_eq!(few.pages.len(), 5);
    assert_eq!(memory.map(&mut few, 0, 3 * PAGE, RW, 0), Ok(page(7)));
    assert_eq!(memory.map(&mut few, page(2) + 9, PAGE, READ, 0), Ok(page(2)));
    assert_eq!(memory.map(&mut few, 0, PAGE, NONE, 0), Ok(page(1)));
    assert_eq!(ranges(&memory), [(0, 1, 3), (1, 2, 0), (2, 3, 1), (3, 10, 3)]);
    assert_eq!(few.pages.len(), 9);
}

#[test]
fn fixed_mappings_replace_what_was_there() {
    let (mut memory, mut few) = setup(100);
    memory.map(&mut few, 0, 8 * PAGE, RW, 0).unwrap();
    let fixed =
        |memory: &mut Memory, few: &mut Few, at, flags| memory.map(few, at, 2 * PAGE, NONE, flags);
    assert_eq!(fixed(&mut memory, &mut few, page(3), map::FIXED), Ok(page(3)));
    assert_eq!(ranges(&memory), [(0, 3, 3), (3, 5, 0), (5, 8, 3)]);
    assert_eq!(few.pages.len(), 6);
    let again = fixed(&mut memory, &mut few, page(7), map::FIXED_NOREPLACE);
    assert_eq!(again, Err(Errno::EXIST));
    assert_eq!(fixed(&mut memory, &mut few, page(8), map::FIXED_NOREPLACE), Ok(page(8)));
    assert_eq!(fixed(&mut memory, &mut few, page(1) + 1, map::FIXED), Err(Errno::INVAL));
    assert_eq!(fixed(&mut memory, &mut few, MMAP_BASE - PAGE, map::FIXED), Err(Errno::NOMEM));
}

#[test]
fn protections_change_page_by_page_and_join_again() {
    let (mut memory, mut few) = setup(100);
    memory.map(&mut few, 0, 8 * PAGE, NONE, 0).unwrap();
    assert!(few.pages.is_empty());
    memory.protect(&mut few, page(2), 2 * PAGE, RW).unwrap();
    assert_eq!(ranges(&memory), [(0, 2, 0), (2, 4, 3), (4, 8, 0)]);
    memory.protect(&mut few, page(4), 4 * PAGE, RW).unwrap();
    memory.protect(&mut few, page(3), 1, NONE).unwrap();
    assert_eq!(few.pages[&page(3)], NONE, "the page keeps its memory");
    memory.protect(&mut few, page(0), 4 * PAGE, RW).unwrap();
    assert_eq!(ranges(&memory), [(0, 8, 3)]);
    assert_eq!(memory.protect(&mut few, page(7), 2 * PAGE, READ), Err(Errno::NOMEM));
    assert_eq!(memory.protect(&mut few, page(7) + 1, PAGE, READ), Err(Errno::INVAL));
    assert_eq!(memory.protect(&mut few, 0x40_0000, PAGE, READ), Ok(0), "the program's own");
}

#[test]
fn what_does_not_fit_leaves_nothing_behind() {
    let (mut memory, mut few) = setup(4);
    assert_eq!(memory.map(&mut few, 0, 5 * PAGE, RW, 0), Err(Errno::NOMEM));
    assert!(few.pages.is_empty() && memory.ranges.is_empty());
    assert_eq!(memory.map(&mut few, 0, 4 * PAGE, RW, 0), Ok(page(0)));
    for length in [MMAP_END - MMAP_BASE, 1 << 60, u64::MAX] {
        assert_eq!(memory.map(&mut few, 0, length, NONE, 0), Err(Errno::NOMEM));
    }
    assert_eq!(memory.map(&mut few, 0, 0, RW, 0), Err(Errno::INVAL));
    let rest = MMAP_END - MMAP_BASE - LARGE_PAGE;
    assert_eq!(memory.map(&mut few, 0, rest, NONE, 0), Ok(MMAP_BASE + LARGE_PAGE));
}

#[test]
fn mappings_grow_and_shrink_in_place() {
    let (mut memory, mut few) = setup(100);
    memory.map(&mut few, 0, 2 * PAGE, RW, 0).unwrap();
    assert_eq!(memory.remap(&mut few, page(0), 2 * PAGE, 5 * PAGE, false), Ok(page(0)));
    assert_eq!(memory.remap(&mut few, page(0), 5 * PAGE, PAGE, false), Ok(page(0)));
    assert_eq!(ranges(&memory), [(0, 1, 3)]);
    memory.map(&mut few, 0, PAGE, READ, 0).unwrap();
    assert_eq!(memory.remap(&mut few, page(0), PAGE, 2 * PAGE, false), Err(Errno::NOMEM));
    assert_eq!(memory.remap(&mut few, page(1), 2 * PAGE, PAGE, false), Err(Errno::FAULT));
}

#[test]
fn discarded_pages_are_new_pages() {
    let (mut memory, mut few) = setup(100);
    memory.map(&mut few, 0, 4 * PAGE, RW, 0).unwrap();
    memory.protect(&mut few, page(1), PAGE, NONE).unwrap();
    memory.discard(&mut few, page(0), 4 * PAGE).unwrap();
    assert_eq!(few.pages.len(), 3, "the one without access gave its memory back");
    assert_eq!(memory.discard(&mut few, page(3), 2 * PAGE), Err(Errno::NOMEM));
}

#[test]
fn the_break_moves_inside_the_heap_and_gives_zeroes() {
    let mut heap = std::vec![0u8; 4096];
    let start = heap.as_mut_ptr() as u64;
    let mut memory = Memory::new(start, start + 4096);
    assert_eq!(memory.brk(0), start);
    assert_eq!(memory.brk(start + 4097), start);
    assert_eq!(memory.brk(start + 4000), start + 4000);
    heap[..4000].fill(7);
    assert_eq!(memory.brk(start + 100), start + 100);
    assert_eq!(memory.brk(start + 4096), start + 4096);
    assert_eq!((heap[99], heap[100], heap[3999]), (7, 0, 0));
}

#[test]
fn a_mapped_file_is_a_copy_with_nothing_behind_its_end() {
    let (mut memory, mut few) = setup(100);
    let file = [7; 5000];
    memory.map(&mut few, 0, 8 * PAGE, NONE, 0).unwrap();
    let code = Protection::READ_EXECUTE;
    // As a dynamic linker does it: over what it has reserved.
    let at = memory.map_file(&mut few, page(1), 4 * PAGE, code, map::FIXED, &file);
    assert_eq!(at, Ok(page(1)));
    assert_eq!(few.written[&page(1)], file);
    assert_eq!(few.pages, Map::from([(page(1), code), (page(2), code)]));
    assert_eq!(ranges(&memory), [(0, 1, 0), (1, 3, 5), (3, 8, 0)]);
    // No more of the file than is asked for, but whole pages.
    memory.map_file(&mut few, page(5), 1, RW, map::FIXED, &file).unwrap();
    assert_eq!(few.written[&page(5)].len(), PAGE as usize);
    memory.map_file(&mut few, page(6), PAGE, RW, map::FIXED, &[]).unwrap();
    assert_eq!(few.pages.len(), 3);
    assert_eq!(memory.used(), 3 * PAGE);
}

#[test]
fn a_file_that_does_not_fit_leaves_nothing_behind() {
    let (mut memory, mut few) = setup(1);
    let mapped = memory.map_file(&mut few, 0, 2 * PAGE, RW, 0, &[1; 5000]);
    assert_eq!(mapped, Err(Errno::NOMEM));
    assert!(few.pages.is_empty() && memory.ranges.is_empty());
}
