//! The most likely token.

use candle_core::{Result, Tensor, bail};

/// The first of the largest logits of each row, or the token that is forced on it, and the natural
/// logarithm of its probability; `None` for a row without a distribution: with a NaN, or with an
/// infinite largest logit. From a GPU a token and a number cross for each row, not its logits.
///
/// # Shapes
/// - `logits`: `[rows, V]`, in f32    - `forced`: `rows` of them
///
/// # Errors
/// When a forced token is not in the vocabulary, the shapes do not fit, or the backend cannot run the
/// operation.
pub fn greedy(logits: &Tensor, forced: &[Option<u32>]) -> Result<Vec<Option<(u32, f32)>>> {
    let (rows, vocabulary) = logits.dims2()?;
    if forced.len() != rows {
        bail!("{rows} rows of logits got {} forced tokens", forced.len())
    }
    let outside = |token: &&u32| usize::try_from(**token).is_ok_and(|token| token >= vocabulary);
    if let Some(token) = forced.iter().flatten().find(outside) {
        bail!("token id {token} is outside the vocabulary of {vocabulary}")
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(logits) {
        return crate::cuda::choose(&logits.contiguous()?, forced);
    }
    let rows = logits.to_vec2::<f32>()?;
    Ok(rows.iter().zip(forced).map(|(row, forced)| choose(row, *forced)).collect())
}

fn choose(logits: &[f32], forced: Option<u32>) -> Option<(u32, f32)> {
    if logits.iter().any(|x| x.is_nan()) {
        return None;
    }
    let (first, max) = logits
        .iter()
        .copied()
        .enumerate()
        .reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    let token = forced.or_else(|| u32::try_from(first).ok())?;
    let total: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
    let logit = logits.get(usize::try_from(token).ok()?)?;
    max.is_finite().then(|| (token, (f64::from(logit - max) - total.ln()) as f32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{device, on_cpu, wave};
    use candle_core::D;

    #[test]
    fn the_first_of_the_largest_and_its_logarithm() -> Result<()> {
        let logits = (wave(&[11, 3001], 0.7)? * 5.0)?;
        let rows = logits.to_vec2::<f32>()?;
        let forced: Vec<_> = (0..11).map(|i| (i % 3 == 1).then_some(i * 7)).collect();
        let chosen = greedy(&logits, &forced)?;
        assert_eq!(chosen.len(), 11);
        let exact = candle_nn::ops::log_softmax(&on_cpu(&logits)?, D::Minus1)?.to_vec2::<f64>()?;
        for (((row, chosen), forced), exact) in rows.iter().zip(chosen).zip(forced).zip(exact) {
            let (token, logarithm) = chosen.unwrap();
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let first = row.iter().position(|x| *x == largest).unwrap();
            assert_eq!(token, forced.unwrap_or(first as u32));
            let exact = exact[token as usize] as f32;
            assert!((logarithm - exact).abs() < 1e-5, "{logarithm} {exact}");
        }
        Ok(())
    }

    #[test]
    fn equal_logits_give_the_first_and_broken_ones_nothing() -> Result<()> {
        let inf = f32::INFINITY;
        let logits = Tensor::new(
            &[
                [1f32, 3., 3., 3.],
                [0., f32::NAN, 1., 1.],
                [0., inf, 1., 1.],
                [-inf, -inf, 2., -inf],
            ],
            &device()?,
        )?;
        let chosen = greedy(&logits, &[None; 4])?;
        let tokens: Vec<_> = chosen.iter().map(|c| c.map(|(token, _)| token)).collect();
        assert_eq!(tokens, [Some(1), None, None, Some(2)]);
        assert_eq!(chosen[3], Some((2, 0.0)));
        let hidden = Tensor::full(-inf, (1, 40), &device()?)?;
        assert_eq!(greedy(&hidden, &[None])?, [None]);
        assert!(greedy(&logits, &[None, None, None, Some(4)]).is_err());
        Ok(())
    }
}
