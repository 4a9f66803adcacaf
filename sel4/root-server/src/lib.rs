//! What of the root server does not need seL4 to run, and so is tested where it is built: the
//! books of memory, faults in words, seeds, and how bytes come to lie in pages.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod buddy;
pub mod report;
pub mod seed;

use koskit_spec::layout::PAGE;

/// Which of `length` bytes, as their first and their end, lie in page number `page`, where the
/// first of them lies at `head` in page 0.
pub fn piece(head: usize, length: usize, page: usize) -> (usize, usize) {
    let page_start = page * PAGE as usize;
    let start = page_start.saturating_sub(head);
    let end = (page_start + PAGE as usize).saturating_sub(head).min(length);
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_lies_in_one_page_at_its_place() {
        for (head, length) in [(0, 1), (0, 4096), (160, 5000), (4095, 2), (4095, 8193), (7, 0)] {
            let mut next = 0;
            for page in 0..4 {
                let (start, end) = piece(head, length, page);
                if start < end {
                    assert_eq!(start, next);
                    assert_eq!((head + start) / 4096, page);
                    assert_eq!((head + end - 1) / 4096, page);
                    next = end;
                }
            }
            assert_eq!(next, length);
        }
    }
}
