//! Files with random bytes changed: any answer but a panic, a hang or a tensor outside the file.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::index_of;
use crate::torch_file::{TorchFile, Val, dict, ordered, pickle, zip_of_pickle};

#[test]
fn w2_mutated_files_never_panic_and_never_reach_outside() {
    let mut file = TorchFile::new(2);
    let a = file.add_f32(&[2, 3], &[1.0; 6]);
    let b = file.add("HalfStorage", &[4], vec![0; 8]);
    let inner = ordered(vec![("a", Val::Parameter(a)), ("b", Val::Tensor(b))]);
    file.root = dict(vec![("epoch", Val::Int(3)), ("model", inner)]);
    let mut seeds = vec![file.zip(), file.legacy()];
    file.protocol = 4;
    seeds.extend([file.zip(), file.legacy()]);
    let body = file.pickle();

    let mut random = ChaCha8Rng::seed_from_u64(20);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..20_000usize {
        // Changed bytes of a pickle alone get past the archive's checksum.
        let mut bytes = match round % 5 {
            4 => body.clone(),
            seed => seeds[seed].clone(),
        };
        for _ in 0..=random.next_u32() % 4 {
            let at = random.next_u64() as usize % bytes.len();
            bytes[at] = match random.next_u32() % 3 {
                0 => random.next_u32() as u8,
                1 => bytes[at] ^ (1 << (random.next_u32() % 8)),
                _ => bytes[random.next_u64() as usize % bytes.len()],
            };
        }
        if round % 5 == 4 {
            bytes = zip_of_pickle(&pickle(2, bytes.get(11..).unwrap_or_default()));
        }
        match index_of(&bytes) {
            Err(_) => refused += 1,
            Ok(index) => {
                accepted += 1;
                for tensor in index.tensors {
                    let [start, end] = tensor.storage;
                    assert!(start <= tensor.start && tensor.start <= end);
                    assert!(end <= bytes.len() as u64);
                }
            }
        }
    }
    assert!(accepted > 100 && refused > 1000, "{accepted} accepted, {refused} refused");
}
