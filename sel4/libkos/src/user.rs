//! The program's memory, as its system calls name it.
//!
//! Program and libkos share one protection domain: a call may read and write what the program
//! may, and a wrong pointer faults as it would in the program. Only what can never be right is
//! answered with EFAULT.
//!
//! The references that these functions give are used within one call and never outlive it. What
//! several threads of the program do to the same memory meanwhile is a race of the program's own,
//! as it is on Linux; words that are meant for that are [`atomic`].

use crate::errno::{Errno, Result};
use core::sync::atomic::AtomicU32;
use koskit_spec::layout::PROGRAM_MIN;

fn check(address: u64, length: u64) -> Result<()> {
    match address.checked_add(length) {
        Some(_) if address >= PROGRAM_MIN => Ok(()),
        _ => Err(Errno::FAULT),
    }
}

/// Bytes that a call reads.
///
/// # Errors
/// EFAULT for the first pages, where nothing ever is.
pub fn bytes<'a>(address: u64, length: u64) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    check(address, length)?;
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
    // Byte by byte, for the next page may not be mapped.
    // SAFETY: as in `bytes`; no byte behind the NUL is read.
    while unsafe { *((address + length) as *const u8) } != 0 {
        length += 1;
        if length == PATH_MAX {
            return Err(Errno::NAMETOOLONG);
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
