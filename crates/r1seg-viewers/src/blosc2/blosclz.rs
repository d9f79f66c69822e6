//! BloscLZ, the codec of blosc's own, after FastLZ: literals and matches, the first of which cannot
//! be a match. Described by C-Blosc2's `blosc/blosclz.c`.

/// Instructions below this one are runs of literals.
const FIRST_MATCH: u8 = 32;
/// The farthest match whose distance fits an instruction and one byte.
const MAX_DISTANCE: usize = 8191;
/// The shortest match.
const MIN_MATCH: usize = 3;

/// Decompresses `bytes` into `target` and says how much that was; `None` if they are broken.
pub(super) fn decompress(bytes: &[u8], target: &mut [u8]) -> Option<usize> {
    let mut bytes = bytes.iter();
    let mut at = 0;
    // The upper bits of the first instruction say something else.
    let mut instruction = *bytes.next()? & (FIRST_MATCH - 1);
    loop {
        if instruction < FIRST_MATCH {
            let count = usize::from(instruction) + 1;
            let (literals, rest) = bytes.as_slice().split_at_checked(count)?;
            target.get_mut(at..at + count)?.copy_from_slice(literals);
            bytes = rest.iter();
            at += count;
        } else {
            let mut length = usize::from(instruction >> 5) - 1 + MIN_MATCH;
            let high = usize::from(instruction & (FIRST_MATCH - 1));
            if instruction >> 5 == 7 {
                loop {
                    let more = *bytes.next()?;
                    length += usize::from(more);
                    if more != u8::MAX {
                        break;
                    }
                }
            }
            let low = *bytes.next()?;
            let distance = match (high, low) {
                (31, u8::MAX) => {
                    usize::from(u16::from_be_bytes([*bytes.next()?, *bytes.next()?])) + MAX_DISTANCE
                }
                _ => high << 8 | usize::from(low),
            };
            // One byte back is distance 0.
            let from = at.checked_sub(distance + 1)?;
            target.get(at..at + length)?;
            // A match may overlap what it writes: it then repeats it.
            for n in 0..length {
                target[at + n] = target[from + n];
            }
            at += length;
        }
        match bytes.next() {
            Some(next) => instruction = *next,
            None => return Some(at),
        }
    }
}
