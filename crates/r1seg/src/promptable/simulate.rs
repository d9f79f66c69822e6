//! The clicks of SAM-Med3D's evaluation: where a mask differs from the truth, a cell drawn at random,
//! by the generator that the authors' script seeds.
//!
//! Port of `random_sample_next_click` in `utils/infer_utils.py` (SAM-Med3D @f3de1fa), and of the parts of
//! numpy that it draws with.

/// Words of the state of MT19937.
const WORDS: usize = 624;
/// How far apart the words are that are mixed.
const SHIFT: usize = 397;

/// numpy's `RandomState`, which gives the same numbers for a seed in every version: MT19937, and whole
/// numbers by masked rejection.
///
/// ```
/// use r1seg::simulate::RandomState;
///
/// // numpy.random.seed(233); numpy.random.randint(10)
/// assert_eq!(RandomState::new(233).randint(10), 7);
/// ```
#[derive(Debug, Clone)]
pub struct RandomState {
    words: [u32; WORDS],
    /// The next word that is given away.
    next: usize,
}

impl RandomState {
    /// `numpy.random.RandomState(seed)`.
    pub fn new(seed: u32) -> Self {
        let mut words = [seed; WORDS];
        for n in 1..WORDS {
            let before = words[n - 1];
            let mixed = 1_812_433_253_u32.wrapping_mul(before ^ (before >> 30));
            words[n] = mixed.wrapping_add(n as u32);
        }
        Self { words, next: WORDS }
    }

    /// `randint(n)`: a number below `n`. For `n` of 1 or 0 it is 0, and nothing is drawn.
    pub fn randint(&mut self, n: u32) -> u32 {
        let Some(last) = n.checked_sub(1).filter(|last| 0 < *last) else { return 0 };
        let mask = u32::MAX >> last.leading_zeros();
        loop {
            let drawn = self.word() & mask;
            if drawn <= last {
                return drawn;
            }
        }
    }

    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            self.renew();
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn renew(&mut self) {
        for n in 0..WORDS {
            let (this, following) = (self.words[n], self.words[(n + 1) % WORDS]);
            let bits = (this & 0x8000_0000) | (following & 0x7fff_ffff);
            let twisted = (bits >> 1) ^ if bits % 2 == 1 { 0x9908_b0df } else { 0 };
            self.words[n] = self.words[(n + SHIFT) % WORDS] ^ twisted;
        }
        self.next = 0;
    }
}

/// A click into a cell of the grid that masks are compared on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Click {
    /// In the order of the grid's axes.
    pub cell: [usize; 3],
    /// Whether the cell is a part of what is meant.
    pub positive: bool,
}

/// The next click: one of the cells where a mask differs from the truth, and one of the truth's where
/// they are the same. `None` where there are none of these either.
///
/// # Shapes
/// `mask` and `truth` are C order of `shape`, in which cells are counted; 0 is background.
pub fn next_click(
    mask: &[u8],
    truth: &[u8],
    shape: [usize; 3],
    random: &mut RandomState,
) -> Option<Click> {
    let wrong =
        || mask.iter().zip(truth).enumerate().filter(|(_, (m, t))| (**m == 0) != (**t == 0));
    let meant = || truth.iter().enumerate().filter(|(_, t)| **t != 0);
    let index = match wrong().count() {
        0 => meant().nth(draw(meant().count(), random)?)?.0,
        count => wrong().nth(draw(count, random)?)?.0,
    };
    let [_, height, width] = shape;
    let cell = [index / (height * width), index / width % height, index % width];
    Some(Click { cell, positive: truth[index] != 0 })
}

/// One of `count` candidates; none of none, nor of more than a draw can choose from.
fn draw(count: usize, random: &mut RandomState) -> Option<usize> {
    let count = u32::try_from(count).ok().filter(|count| 0 < *count)?;
    Some(random.randint(count) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_mt19937() {
        let mut random = RandomState::new(233);
        let first = [0; 4].map(|_| random.word());
        assert_eq!(first, [0x2643_9be7, 0x7d12_0f27, 0xe468_3dd5, 0x84c8_a971]);
        // numpy.random.RandomState(7).randint(2**32, size=2000, dtype="u4")[[623, 624, 1999]]
        let mut random = RandomState::new(7);
        let words: Vec<u32> = (0..2000).map(|_| random.word()).collect();
        assert_eq!(
            [words[623], words[624], words[1999]],
            [3_222_554_838, 3_732_577_367, 1_233_290_179]
        );
    }

    #[test]
    fn whole_numbers_are_those_of_numpy() {
        // r = numpy.random.RandomState(233)
        // [r.randint(n) for n in (1, 2, 3, 4, 5, 1, 1000, 2**31, 2**31 + 1, 2**32 - 1)]
        let mut random = RandomState::new(233);
        let bounds = [1, 2, 3, 4, 5, 1, 1000, 1 << 31, (1 << 31) + 1, u32::MAX];
        assert_eq!(
            bounds.map(|n| random.randint(n)),
            [0, 1, 1, 1, 4, 0, 131, 1_716_870_997, 605_683_375, 1_498_537_665]
        );
        // r = numpy.random.RandomState(5); sum(r.randint(n + 1) for n in range(3000))
        let mut random = RandomState::new(5);
        let sum: u32 = (1..=3000).map(|n| random.randint(n)).sum();
        assert_eq!(sum, 2_257_628);
        assert_eq!(random.clone().randint(0), 0);
    }

    #[test]
    fn a_click_says_what_is_missing_or_too_much() {
        let mut random = RandomState::new(1);
        let mut truth = [0; 24];
        truth[17] = 3;
        let mut click = |mask: &[u8], truth: &[u8]| next_click(mask, truth, [2, 3, 4], &mut random);
        let missing = Some(Click { cell: [1, 1, 1], positive: true });
        assert_eq!(click(&[0; 24], &truth), missing);
        // Nothing is wrong: into what is meant.
        assert_eq!(click(&truth, &truth), missing);
        let mut wrong = truth;
        wrong[23] = 1;
        assert_eq!(click(&wrong, &truth), Some(Click { cell: [1, 2, 3], positive: false }));
        assert_eq!(click(&[0; 24], &[0; 24]), None);
        // Of both kinds, each now and then.
        (wrong[17], wrong[23]) = (0, 1);
        let found = [0; 40].map(|_| click(&wrong, &truth).unwrap());
        assert!(found.iter().all(|click| click.positive == (click.cell == [1, 1, 1])));
        assert!((10..30).contains(&found.iter().filter(|click| click.positive).count()));
    }
}
