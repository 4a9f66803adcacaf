//! The program's memory, as its system calls name it.
//!
//! Program and libkos share one protection domain: a call may read and write what the program
//! may. Each page of what a pointer names is touched first; where that fails, the thread that
//! faults go to has [`touch`] say so, and the call gives EFAULT.
//!
//! The references that these functions give are used within one call and never outlive it. What
//! several threads of the program do to the same memory meanwhile is a race of the program's own,
//! as it is on Linux; words that are meant for that are [`atomic`].

use crate::errno::{Errno, Result};
use core::sync::atomic::AtomicU32;
use koskit_spec::layout::{PAGE, PROGRAM_MIN};

fn check(address: u64, length: u64) -> Result<()> {
    match address.checked_add(length) {
        Some(_) if address >= PROGRAM_MIN => Ok(()),
        _ => Err(Errno::FAULT),
    }
}

/// Whether a byte can be read, or written where `WRITE` says so, without changing it.
#[cfg(target_os = "none")]
#[inline(always)]
fn touch<const WRITE: bool>(address: u64) -> bool {
    let failed: u64;
    // SAFETY: reads a byte, or writes one as it is; where it cannot, see `after_touch`. Of the
    // registers it changes these only, which costs less than a call.
    unsafe {
        if WRITE {
            core::arch::asm!("bl koskit_touch_to_write", inout("x0") address => failed,
                out("x1") _, out("x2") _, out("x30") _, options(nostack, preserves_flags));
        } else {
            core::arch::asm!("bl koskit_touch", inout("x0") address => failed,
                out("x1") _, out("x30") _, options(nostack, preserves_flags, readonly));
        }
    }
    failed == 0
}

#[cfg(not(target_os = "none"))]
fn touch<const WRITE: bool>(_: u64) -> bool {
    true
}

#[cfg(target_os = "none")]
core::arch::global_asm!(
    ".global koskit_touch, koskit_touch_to_write, koskit_touched, koskit_not_touched",
    "koskit_touch:",
    "    ldrb w1, [x0]",
    "    mov x0, xzr",
    "    ret",
    "koskit_touch_to_write:",
    "    ldxrb w1, [x0]",
    "    stxrb w2, w1, [x0]",
    "    cbnz w2, koskit_touch_to_write",
    "    mov x0, xzr",
    "koskit_touched:",
    "koskit_not_touched:",
    "    ret",
);

/// Where a thread goes on that has failed to touch a byte, if that is what it did at this address.
#[cfg(target_os = "none")]
pub fn after_touch(pc: u64) -> Option<u64> {
    unsafe extern "C" {
        fn koskit_touch();
        fn koskit_touched();
        fn koskit_not_touched();
    }
    let begin = koskit_touch as *const () as u64;
    let end = koskit_touched as *const () as u64;
    // The address is still in x0, and not 0.
    (begin..end).contains(&pc).then_some(koskit_not_touched as *const () as u64)
}

/// Touches each page of a range that [`check`] has found possible.
#[inline(always)]
fn touch_all<const WRITE: bool>(address: u64, length: u64) -> Result<()> {
    let mut at = address;
    while at < address + length {
        if !touch::<WRITE>(at) {
            return Err(Errno::FAULT);
        }
        at = (at | (PAGE - 1)) + 1;
    }
    Ok(())
}

/// Bytes that a call reads.
///
/// # Errors
/// EFAULT where they cannot be read.
pub fn bytes<'a>(address: u64, length: u64) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    check(address, length)?;
    touch_all::<false>(address, length)?;
    // SAFETY: the module's contract; the range neither wraps nor starts at null.
    Ok(unsafe { core::slice::from_raw_parts(address as *const u8, length as usize) })
}

/// Bytes that a call writes.
///
/// # Errors
/// As [`bytes`].
pub fn bytes_mut<'a>(address: u64, length: u64) -> Result<&'a mut [u8]> {
    if length == 0 {
        return Ok(&mut []);
    }
    check(address, length)?;
    touch_all::<true>(address, length)?;
    // SAFETY: as in `bytes`.
    Ok(unsafe { core::slice::from_raw_parts_mut(address as *mut u8, length as usize) })
}

/// A word that threads share.
///
/// # Errors
/// As [`bytes`]; EINVAL where it is not aligned.
pub fn atomic<'a>(address: u64) -> Result<&'a AtomicU32> {
    check(address, 4)?;
    if address % 4 != 0 {
        return Err(Errno::INVAL);
    }
    touch_all::<true>(address, 4)?;
    // SAFETY: the module's contract; it is aligned, and atomic to everybody.
    Ok(unsafe { AtomicU32::from_ptr(address as *mut u32) })
}

/// Longest path with its NUL byte, as Linux has it.
const PATH_MAX: u64 = 4096;

/// A path, without its NUL byte.
///
/// # Errors
/// EFAULT as [`bytes`], ENAMETOOLONG for more than 4095 bytes.
pub fn path<'a>(address: u64) -> Result<&'a [u8]> {
    check(address, PATH_MAX)?;
    let mut length = 0;
    touch_all::<false>(address, 1)?;
    // Byte by byte, for the next page may not be mapped.
    // SAFETY: as in `bytes`; no byte behind the NUL is read.
    while unsafe { *((address + length) as *const u8) } != 0 {
        length += 1;
        if length == PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        if (address + length) % PAGE == 0 {
            touch_all::<false>(address + length, 1)?;
        }
    }
    bytes(address, length)
}

/// Words that a call reads.
///
/// # Errors
/// As [`bytes`].
pub fn words<const N: usize>(address: u64) -> Result<[u64; N]> {
    let bytes = bytes(address, 8 * N as u64)?;
    let mut words = [0; N];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
    }
    Ok(words)
}

/// Writes words.
///
/// # Errors
/// As [`bytes`].
pub fn set_words(address: u64, words: &[u64]) -> Result<()> {
    let bytes = bytes_mut(address, 8 * words.len() as u64)?;
    for (word, chunk) in words.iter().zip(bytes.chunks_exact_mut(8)) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    Ok(())
}
