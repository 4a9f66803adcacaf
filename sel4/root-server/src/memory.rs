//! The machine's memory: all of it is in untypeds, and the books are kept by `buddy`.

use crate::space::Space;
use koskit_abi::{BootInfo, Error, Ipc, Object, Result, Untyped};
use koskit_root_server::buddy::{Buddy, Knife, PIECES, TakeError};

/// Smallest piece that is worth keeping books of: a page.
const LEAST: u32 = 12;

/// All memory that is not in use.
pub struct Memory {
    buddy: Buddy,
    caps: Caps,
}

/// A piece of memory that was taken.
#[derive(Clone, Copy)]
pub struct Taken {
    /// All of it, as an untyped of which nothing has been made.
    pub untyped: Untyped,
    /// Its bytes.
    pub bytes: u64,
    piece: usize,
}

/// The capabilities of the pieces.
struct Caps {
    /// By index: the slot of a piece's untyped.
    pieces: [u64; PIECES],
    /// First of as many slots, one a piece: for the untyped of a piece that was cut from another.
    halves: u64,
    /// First of as many slots: what users get of a piece, an untyped made of all of it.
    whole: u64,
    /// By index: whether that is there.
    made: [bool; PIECES],
}

impl Memory {
    /// No memory.
    pub const fn new() -> Self {
        let caps = Caps { pieces: [0; PIECES], halves: 0, whole: 0, made: [false; PIECES] };
        Self { buddy: Buddy::new(), caps }
    }

    /// Takes all ordinary memory that the kernel has given, but for the untyped in the slot
    /// `ours`.
    pub fn fill(&mut self, info: BootInfo<'_>, space: &mut Space, ours: Untyped) {
        self.caps.halves = space.slots(PIECES as u64);
        self.caps.whole = space.slots(PIECES as u64);
        let others = info.untypeds().filter(|untyped| untyped.slot != ours.0.0);
        for untyped in others.filter(|untyped| !untyped.device && untyped.bits >= LEAST) {
            if let Some(piece) = self.buddy.add(untyped.bits) {
                self.caps.pieces[piece] = untyped.slot;
            }
        }
    }

    /// Takes what is above `limit` bytes, for ever.
    pub fn limit(&mut self, ipc: &mut Ipc, space: &Space, limit: u64) {
        while let Some(above) = self.free().checked_sub(limit).filter(|&above| above >= 1 << LEAST)
        {
            let bits = above.ilog2().min(self.largest().ilog2());
            if self.take(ipc, space, bits).is_err() {
                return;
            }
        }
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        self.buddy.free()
    }

    /// Bytes of the largest piece that can be taken.
    pub fn largest(&self) -> u64 {
        self.buddy.largest()
    }

    /// Takes 2^`bits` bytes, cleared.
    pub fn take(
        &mut self,
        ipc: &mut Ipc,
        space: &Space,
        bits: u32,
    ) -> core::result::Result<Taken, TakeError<Error>> {
        let mut knife = Hand { caps: &mut self.caps, ipc, space };
        let piece = self.buddy.take(bits.max(LEAST), &mut knife)?;
        match knife.make_whole(piece, bits.max(LEAST)) {
            Ok(untyped) => Ok(Taken { untyped, bytes: 1 << bits.max(LEAST), piece }),
            // It stays taken: the kernel says that something of it is still in use.
            Err(error) => Err(TakeError::Kernel(error)),
        }
    }

    /// Destroys all that was made of a piece, and clears it. It is free afterwards, unless the
    /// kernel finds that it is not whole.
    pub fn give(&mut self, ipc: &mut Ipc, space: &Space, taken: Taken) -> Result<()> {
        let mut hand = Hand { caps: &mut self.caps, ipc, space };
        hand.destroy(taken.piece)?;
        hand.make_whole(taken.piece, taken.bytes.trailing_zeros())?;
        self.buddy.give(taken.piece);
        Ok(())
    }
}

/// Works on the pieces.
struct Hand<'a> {
    caps: &'a mut Caps,
    ipc: &'a mut Ipc,
    space: &'a Space,
}

impl Hand<'_> {
    fn untyped(&self, piece: usize) -> Untyped {
        Untyped::at(self.caps.pieces[piece])
    }

    /// Makes one untyped of all of a piece. seL4 refuses that while anything else is there.
    fn make_whole(&mut self, piece: usize, bits: u32) -> Result<Untyped> {
        let at = self.caps.whole + piece as u64;
        if !self.caps.made[piece] {
            let into = self.space.kernels();
            self.untyped(piece).retype(self.ipc, Object::Untyped { bits }, into, at, 1)?;
            self.caps.made[piece] = true;
        }
        Ok(Untyped::at(at))
    }

    /// Destroys all that was made of a piece.
    fn destroy(&mut self, piece: usize) -> Result<()> {
        self.space.slot(self.caps.pieces[piece]).revoke(self.ipc)?;
        self.caps.made[piece] = false;
        Ok(())
    }
}

impl Knife for Hand<'_> {
    type Error = Error;

    fn cut(&mut self, whole: usize, halves: [usize; 2], bits: u32) -> Result<()> {
        self.destroy(whole)?;
        for half in halves {
            let at = self.caps.halves + half as u64;
            let into = self.space.kernels();
            self.untyped(whole).retype(self.ipc, Object::Untyped { bits }, into, at, 1)?;
            self.caps.pieces[half] = at;
            self.caps.made[half] = false;
        }
        Ok(())
    }

    fn join(&mut self, whole: usize) -> Result<()> {
        self.destroy(whole)
    }
}
