//! Which pieces of memory are free: a buddy allocator over untypeds.
//!
//! seL4 does not let go of a part of an untyped: an untyped is whole again when everything
//! made of it is gone. So memory is handed out as untypeds of their own, cut in halves until
//! the size is right, and two free halves can be joined again. Halves are joined only when a
//! request cannot be met otherwise: seL4 clears memory when an untyped is used again, so that
//! joining and cutting large ones over and over would cost much.
//!
//! This module only keeps the books; what is cut and joined is done by a [`Knife`].

/// Most pieces at a time, cut ones included.
pub const PIECES: usize = 8192;

/// Makes in the kernel what the books say. Pieces are named by their index.
pub trait Knife {
    /// Why the kernel refused.
    type Error;
    /// Makes the two halves of a piece, 2^`bits` bytes each.
    fn cut(&mut self, whole: usize, halves: [usize; 2], bits: u32) -> Result<(), Self::Error>;
    /// Undoes that.
    fn join(&mut self, whole: usize) -> Result<(), Self::Error>;
}

/// Why there is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeError<E> {
    /// No piece is that large, even if all free ones are joined.
    TooLarge,
    /// Too many pieces.
    TooMany,
    /// The kernel refused.
    Kernel(E),
}

// Zeroes are `Nothing`, so that empty books take no bytes of an ELF file.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
enum State {
    /// Not in use: this index names nothing.
    Nothing,
    Free,
    Taken,
    /// Cut into the piece with this index and another one.
    Cut([u16; 2]),
}

#[derive(Clone, Copy)]
struct Piece {
    bits: u32,
    state: State,
}

/// The books.
pub struct Buddy {
    pieces: [Piece; PIECES],
    /// From this index on all are [`State::Nothing`].
    end: usize,
}

/// Books without any memory.
impl Default for Buddy {
    fn default() -> Self {
        Self::new()
    }
}

impl Buddy {
    /// Books without any memory.
    pub const fn new() -> Self {
        Self { pieces: [Piece { bits: 0, state: State::Nothing }; PIECES], end: 0 }
    }

    /// Adds a free piece of 2^`bits` bytes; its index, unless there are too many.
    pub fn add(&mut self, bits: u32) -> Option<usize> {
        let index = self.pieces.iter().position(|piece| piece.state == State::Nothing)?;
        self.pieces[index] = Piece { bits, state: State::Free };
        self.end = self.end.max(index + 1);
        Some(index)
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        self.free_pieces().map(|(_, piece)| 1 << piece.bits).sum()
    }

    /// Bytes of the largest piece that could be taken.
    pub fn largest(&self) -> u64 {
        let all = 0..self.end;
        all.filter(|&index| self.is_free(index))
            .map(|i| 1 << self.pieces[i].bits)
            .max()
            .unwrap_or(0)
    }

    /// Takes a piece of 2^`bits` bytes, the smallest that fits, cut down to the size.
    pub fn take<K: Knife>(
        &mut self,
        bits: u32,
        knife: &mut K,
    ) -> Result<usize, TakeError<K::Error>> {
        let mut index = match self.smallest(bits) {
            Some(index) => index,
            None => {
                self.join(bits, knife).map_err(TakeError::Kernel)?;
                self.smallest(bits).ok_or(TakeError::TooLarge)?
            }
        };
        while self.pieces[index].bits > bits {
            index = self.cut(index, knife)?;
        }
        self.pieces[index].state = State::Taken;
        Ok(index)
    }

    /// Gives a taken piece back.
    pub fn give(&mut self, index: usize) {
        if let Some(piece) = self.pieces.get_mut(index).filter(|p| p.state == State::Taken) {
            piece.state = State::Free;
        }
    }

    fn free_pieces(&self) -> impl Iterator<Item = (usize, &Piece)> {
        self.pieces[..self.end].iter().enumerate().filter(|(_, piece)| piece.state == State::Free)
    }

    fn smallest(&self, bits: u32) -> Option<usize> {
        let fitting = self.free_pieces().filter(|(_, piece)| piece.bits >= bits);
        fitting.min_by_key(|(_, piece)| piece.bits).map(|(index, _)| index)
    }

    /// Whether all of a piece is free, be it cut or not.
    fn is_free(&self, index: usize) -> bool {
        match self.pieces[index].state {
            State::Free => true,
            State::Cut(halves) => halves.iter().all(|&half| self.is_free(usize::from(half))),
            State::Nothing | State::Taken => false,
        }
    }

    /// Makes one piece of at least 2^`bits` bytes whole again, the smallest, if there is one.
    fn join<K: Knife>(&mut self, bits: u32, knife: &mut K) -> Result<(), K::Error> {
        let fitting = (0..self.end).filter(|&i| self.pieces[i].bits >= bits && self.is_free(i));
        let Some(whole) = fitting.min_by_key(|&i| self.pieces[i].bits) else { return Ok(()) };
        knife.join(whole)?;
        self.forget_halves(whole);
        self.pieces[whole].state = State::Free;
        Ok(())
    }

    fn forget_halves(&mut self, index: usize) {
        if let State::Cut(halves) = self.pieces[index].state {
            for half in halves.map(usize::from) {
                self.forget_halves(half);
                self.pieces[half].state = State::Nothing;
            }
        }
    }

    /// Cuts a free piece; the index of its first half.
    fn cut<K: Knife>(&mut self, whole: usize, knife: &mut K) -> Result<usize, TakeError<K::Error>> {
        let bits = self.pieces[whole].bits - 1;
        let first = self.add(bits).ok_or(TakeError::TooMany)?;
        let second = self.add(bits);
        let done = match second {
            Some(second) => knife.cut(whole, [first, second], bits).map_err(TakeError::Kernel),
            None => Err(TakeError::TooMany),
        };
        match (done, second) {
            (Ok(()), Some(second)) => {
                // Both are below PIECES.
                self.pieces[whole].state = State::Cut([first as u16, second as u16]);
                Ok(first)
            }
            (done, second) => {
                for index in [Some(first), second].into_iter().flatten() {
                    self.pieces[index].state = State::Nothing;
                }
                Err(done.err().unwrap_or(TakeError::TooMany))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::vec::Vec;

    /// A kernel: where each piece is.
    #[derive(Default)]
    struct Kernel {
        start: HashMap<usize, u64>,
        cut: HashMap<usize, [usize; 2]>,
        joins: usize,
        broken: bool,
    }

    impl Knife for Kernel {
        type Error = ();

        fn cut(&mut self, whole: usize, halves: [usize; 2], bits: u32) -> Result<(), ()> {
            if self.broken {
                return Err(());
            }
            let start = self.start[&whole];
            assert_eq!(self.cut.insert(whole, halves), None);
            self.start.insert(halves[0], start);
            self.start.insert(halves[1], start + (1 << bits));
            Ok(())
        }

        fn join(&mut self, whole: usize) -> Result<(), ()> {
            self.joins += 1;
            if let Some(halves) = self.cut.remove(&whole) {
                for half in halves {
                    self.start.remove(&half);
                    if self.cut.contains_key(&half) {
                        self.join(half)?;
                    }
                }
            }
            Ok(())
        }
    }

    fn machine(pieces: &[u32]) -> (Buddy, Kernel) {
        let (mut buddy, mut kernel, mut start) = (Buddy::default(), Kernel::default(), 1 << 40);
        for &bits in pieces {
            kernel.start.insert(buddy.add(bits).unwrap(), start);
            start += 1 << 40;
        }
        (buddy, kernel)
    }

    #[test]
    fn the_smallest_piece_that_fits_is_cut() {
        let (mut buddy, mut kernel) = machine(&[20, 16, 14]);
        let index = buddy.take(15, &mut kernel).unwrap();
        assert_eq!(kernel.start[&index], 2 << 40);
        assert_eq!(buddy.free(), (1 << 20) + (1 << 15) + (1 << 14));
        assert_eq!(buddy.take(21, &mut kernel), Err(TakeError::TooLarge));
        assert_eq!(buddy.largest(), 1 << 20);
    }

    #[test]
    fn free_halves_are_joined_only_when_that_is_needed() {
        let (mut buddy, mut kernel) = machine(&[20]);
        let taken: Vec<_> = (0..4).map(|_| buddy.take(18, &mut kernel).unwrap()).collect();
        assert_eq!((buddy.free(), buddy.largest()), (0, 0));
        taken[..3].iter().for_each(|&index| buddy.give(index));
        assert_eq!(buddy.largest(), 1 << 19);
        assert_eq!(buddy.take(20, &mut kernel), Err(TakeError::TooLarge));
        buddy.give(taken[3]);
        let joins = kernel.joins;
        buddy.take(18, &mut kernel).map(|index| buddy.give(index)).unwrap();
        assert_eq!(kernel.joins, joins);
        assert_eq!((buddy.free(), buddy.largest()), (1 << 20, 1 << 20));
        assert!(buddy.take(20, &mut kernel).is_ok());
        assert!(kernel.joins > joins);
    }

    #[test]
    fn a_kernel_that_refuses_loses_no_memory() {
        let (mut buddy, mut kernel) = machine(&[20]);
        kernel.broken = true;
        assert_eq!(buddy.take(12, &mut kernel), Err(TakeError::Kernel(())));
        assert_eq!(buddy.free(), 1 << 20);
        kernel.broken = false;
        assert!(buddy.take(12, &mut kernel).is_ok());
    }

    #[test]
    fn no_order_of_requests_hands_out_the_same_memory_twice() {
        let (mut buddy, mut kernel) = machine(&[22, 20, 13]);
        let all = buddy.free();
        let mut taken: Vec<(usize, u32)> = Vec::new();
        let mut random = 1u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let dice = (random >> 33) as usize;
            if dice % 2 == 0 && !taken.is_empty() {
                buddy.give(taken.swap_remove(dice / 2 % taken.len()).0);
            } else if let Ok(index) = buddy.take(12 + (dice / 2 % 10) as u32, &mut kernel) {
                taken.push((index, 12 + (dice / 2 % 10) as u32));
            }
            let mut ranges: Vec<_> = taken
                .iter()
                .map(|&(i, bits)| (kernel.start[&i], kernel.start[&i] + (1 << bits)))
                .collect();
            ranges.sort_unstable();
            assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
            let held: u64 = taken.iter().map(|&(_, bits)| 1 << bits).sum();
            assert_eq!(buddy.free() + held, all);
        }
        taken.iter().for_each(|&(index, _)| buddy.give(index));
        assert_eq!((buddy.free(), buddy.largest()), (all, 1 << 22));
    }
}
