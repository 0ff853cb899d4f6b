//! Where the Java client puts a key.

/// The partition of a key among so many, the same that the Java client gives it; the first where there is none.
pub(super) fn partition(key: &[u8], partitions: usize) -> usize {
    ((murmur2(key) as u32) & 0x7fff_ffff) as usize % partitions.max(1)
}

/// MurmurHash2 with the Java client's seed.
fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // The Java client's length is an int, which wraps alike.
    let mut h = SEED ^ data.len() as u32;
    let words = data.chunks_exact(4);
    let tail = words.remainder();
    for word in words {
        let mut k = little_endian(word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        h ^= little_endian(tail);
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    (h ^ (h >> 15)) as i32
}

fn little_endian(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the tests of the Java client.
    const KNOWN: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];

    #[test]
    fn a_key_hashes_as_in_the_java_client() {
        for (key, hash) in KNOWN {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn a_partition_is_the_hash_without_its_sign_over_their_number() {
        for (key, hash) in KNOWN {
            for partitions in [1, 3, 6, 1000] {
                let expected = (hash & i32::MAX) as usize % partitions;
                assert_eq!(partition(key.as_bytes(), partitions), expected, "{key}");
            }
        }
    }
}
