//! Memory for libkos's own lists. It begins with a few pages of the image's data and grows by
//! pages that the container's untypeds give ([`crate::frames`]).
//!
//! Blocks have sizes of powers of two and wait in a list by size when they are free; new ones
//! are cut from the end. What libkos allocates is small and alike (nodes of maps, paths), so
//! nothing more is needed.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

/// Bytes of the first part.
const FIRST: usize = 24 << 10;
/// log2 of the smallest block.
const SMALLEST: u32 = 4;
/// Sizes from 16 bytes to 32 MiB.
const CLASSES: usize = 22;

#[repr(align(16))]
struct First(UnsafeCell<[u8; FIRST]>);

// SAFETY: only the heap uses it.
unsafe impl Sync for First {}

static FIRST_PART: First = First(UnsafeCell::new([0; FIRST]));

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(State { next: 0, end: 0, free: [0; CLASSES] }));

struct Heap(UnsafeCell<State>);

// SAFETY: whoever runs here has the lock (`crate::lock`), or is alone at the start; and the
// functions below do not call each other.
unsafe impl Sync for Heap {}

struct State {
    /// Where the next new block is cut; the part ends at `end`.
    next: usize,
    end: usize,
    /// The first free block of each size; each holds the address of the next.
    free: [usize; CLASSES],
}

impl State {
    /// Addresses in the heap are never 0: the first part is set up on first use.
    fn begin(&mut self) {
        if self.end == 0 {
            self.next = FIRST_PART.0.get() as usize;
            self.end = self.next + FIRST;
        }
    }
}

/// Bytes that can be cut, whatever their sizes.
pub fn room() -> usize {
    // SAFETY: see `Sync` for `Heap`.
    let state = unsafe { &mut *HEAP.0.get() };
    state.begin();
    state.end - state.next
}

/// Adds memory. What does not follow the last part directly begins a new one, and the rest of
/// the last is lost.
///
/// # Safety
/// The memory is mapped, and nobody else's.
pub unsafe fn extend(start: usize, size: usize) {
    // SAFETY: see `Sync` for `Heap`.
    let state = unsafe { &mut *HEAP.0.get() };
    if state.end != start {
        state.next = start;
    }
    state.end = start + size;
}

// SAFETY: blocks are cut from memory that nobody else uses, each once until it is given back,
// aligned to their size or (above a page) to a page.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see `Sync` for `Heap`.
        let state = unsafe { &mut *self.0.get() };
        state.begin();
        let size = layout.size().max(layout.align()).max(1 << SMALLEST);
        let class = (size.next_power_of_two().trailing_zeros() - SMALLEST) as usize;
        let Some(first) = state.free.get_mut(class) else { return ptr::null_mut() };
        if *first != 0 && *first % layout.align() == 0 {
            let block = *first as *mut usize;
            // SAFETY: a free block holds the address of the next.
            *first = unsafe { *block };
            return block.cast();
        }
        // Large blocks are cut as they are: there are few, and they stay.
        let size = if size > 4096 { size.next_multiple_of(16) } else { size.next_power_of_two() };
        let start = state.next.next_multiple_of(layout.align().max(16));
        if start.checked_add(size).is_none_or(|end| end > state.end) {
            return ptr::null_mut();
        }
        state.next = start + size;
        start as *mut u8
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: see `Sync` for `Heap`.
        let state = unsafe { &mut *self.0.get() };
        let size = layout.size().max(layout.align()).max(1 << SMALLEST);
        // A large block goes where all blocks are at most as large.
        let size = if size > 4096 { size } else { size.next_power_of_two() };
        let class = (size.ilog2() - SMALLEST) as usize;
        if let Some(first) = state.free.get_mut(class) {
            // SAFETY: the block was cut here, is aligned to 16 bytes at least, and is unused.
            unsafe { *block.cast::<usize>() = *first };
            *first = block as usize;
        }
    }
}
