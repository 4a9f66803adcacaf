//! Seeds of containers, from the machine's one seed: the first half of a ChaCha20 block (RFC
//! 8439, section 2.3) whose key is the machine's seed and whose nonce says how many containers
//! were created before. From its own seed a container learns nothing of another's.

/// The seed of the container that is created after `before` others.
pub fn of_container(machine: &[u8; 32], before: u64) -> [u64; 4] {
    let block = block(machine, 0, &[before as u32, (before >> 32) as u32, 0]);
    core::array::from_fn(|i| u64::from(block[2 * i]) | u64::from(block[2 * i + 1]) << 32)
}

fn block(key: &[u8; 32], counter: u32, nonce: &[u32; 3]) -> [u32; 16] {
    let mut start = [0; 16];
    start[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    for (word, bytes) in start[4..12].iter_mut().zip(key.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    start[12] = counter;
    start[13..].copy_from_slice(nonce);
    let mut state = start;
    for _ in 0..10 {
        for i in 0..4 {
            quarter(&mut state, [i, 4 + i, 8 + i, 12 + i]);
        }
        for i in 0..4 {
            quarter(&mut state, [i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4]);
        }
    }
    core::array::from_fn(|i| state[i].wrapping_add(start[i]))
}

fn quarter(state: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
    for (x, y, z, by) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        state[x] = state[x].wrapping_add(state[y]);
        state[z] = (state[z] ^ state[x]).rotate_left(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_function_is_that_of_rfc_8439() {
        // Section 2.3.2.
        let key = core::array::from_fn(|i| i as u8);
        let block = block(&key, 1, &[0x0900_0000, 0x4a00_0000, 0]);
        assert_eq!(block[..4], [0xe4e7_f110, 0x1559_3bd1, 0x1fdd_0f50, 0xc471_20a3]);
        assert_eq!(block[12..], [0xd19c_12b5, 0xb94e_16de, 0xe883_d0cb, 0x4e3c_50a2]);
    }

    #[test]
    fn no_two_containers_get_the_same() {
        let seeds: std::collections::HashSet<_> =
            (0..256).chain([1 << 32]).map(|c| of_container(&[7; 32], c)).collect();
        assert_eq!(seeds.len(), 257);
    }
}
