//! Reading and writing little-endian integers at checked offsets.

/// `N` bytes at `at`, or `None` where they are not all inside `from`.
pub(crate) fn take<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(crate) fn u16_at(from: &[u8], at: usize) -> Option<u16> {
    take(from, at).map(u16::from_le_bytes)
}

pub(crate) fn u32_at(from: &[u8], at: usize) -> Option<u32> {
    take(from, at).map(u32::from_le_bytes)
}

pub(crate) fn u64_at(from: &[u8], at: usize) -> Option<u64> {
    take(from, at).map(u64::from_le_bytes)
}
