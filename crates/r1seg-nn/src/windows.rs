//! Grids of tokens, cut into windows that attend within themselves.

use candle_core::{Result, Tensor, bail};

/// How a grid is cut into windows of one size. Where windows do not divide it, the grid is filled up
/// with zeros at its high ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    grid: [usize; 3],
    window: [usize; 3],
}

impl Windows {
    /// Windows of size `window` over `grid`, both `[D, H, W]`.
    ///
    /// # Errors
    /// When a window is empty.
    pub fn new(grid: [usize; 3], window: [usize; 3]) -> Result<Self> {
        if window.contains(&0) {
            bail!("windows of {window:?} cells")
        }
        Ok(Self { grid, window })
    }

    /// Windows per axis.
    pub fn per_axis(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.grid[axis].div_ceil(self.window[axis]))
    }

    /// Number of windows.
    pub fn count(&self) -> usize {
        self.per_axis().iter().product()
    }

    /// # Shapes
    /// - `x`: `[B, D, H, W, C]`    - returns: `[B * count, wd, wh, ww, C]`, windows depth-major
    ///
    /// # Errors
    /// When the grid is another one.
    pub fn partition(&self, x: &Tensor) -> Result<Tensor> {
        let (b, d, h, w, c) = x.dims5()?;
        if [d, h, w] != self.grid {
            bail!("windows over a grid of {:?} got an input of shape {:?}", self.grid, x.dims())
        }
        let ([gd, gh, gw], [wd, wh, ww]) = (self.per_axis(), self.window);
        let mut x = x.clone();
        for axis in 0..3 {
            let behind = self.per_axis()[axis] * self.window[axis] - self.grid[axis];
            x = x.pad_with_zeros(1 + axis, 0, behind)?;
        }
        let x = x.contiguous()?.reshape(vec![b, gd, wd, gh, wh, gw, ww, c])?;
        x.permute(vec![0, 1, 3, 5, 2, 4, 6, 7])?.reshape((b * self.count(), wd, wh, ww, c))
    }

    /// The reverse of [`partition`](Self::partition); what was filled up is left out.
    ///
    /// # Shapes
    /// - `windows`: `[B * count, wd, wh, ww, C]`    - returns: `[B, D, H, W, C]`
    ///
    /// # Errors
    /// When the windows have another size, or are not whole grids.
    pub fn unpartition(&self, windows: &Tensor) -> Result<Tensor> {
        let (n, d, h, w, c) = windows.dims5()?;
        if [d, h, w] != self.window || !n.is_multiple_of(self.count().max(1)) {
            bail!("{:?} are not windows of {self:?}", windows.dims())
        }
        let ([gd, gh, gw], [wd, wh, ww]) = (self.per_axis(), self.window);
        let b = n / self.count().max(1);
        let x = windows.contiguous()?.reshape(vec![b, gd, gh, gw, wd, wh, ww, c])?;
        let x = x.permute(vec![0, 1, 4, 2, 5, 3, 6, 7])?;
        let mut x = x.reshape((b, gd * wd, gh * wh, gw * ww, c))?;
        for axis in 0..3 {
            x = x.narrow(1 + axis, 0, self.grid[axis])?;
        }
        x.contiguous()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gap, wave};

    // x = wave([1, 3, 2, 2, 1], .7)
    // x = F.pad(x, (0, 0, 0, 0, 0, 0, 0, 1))
    // x.view(1, 2, 2, 1, 2, 1, 2, 1).permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, 2, 2, 2, 1)
    #[test]
    fn windows_equal_those_of_pytorch() -> Result<()> {
        let windows = Windows::new([3, 2, 2], [2; 3])?;
        let x = windows.partition(&wave(&[1, 3, 2, 2, 1], 0.7)?)?;
        assert_eq!(x.dims(), [2, 2, 2, 2, 1]);
        assert_close(
            &x,
            &[
                0.0,
                0.644_217_7,
                0.985_449_7,
                0.863_209_4,
                0.334_988_15,
                -0.350_783_23,
                -0.871_575_8,
                -0.982_452_6,
                -0.631_266_65,
                0.016_813_9,
                0.656_986_6,
                0.988_168_24,
                0.0,
                0.0,
                0.0,
                0.0,
            ],
            1e-6,
        )
    }

    #[test]
    fn a_grid_in_windows_and_back_is_itself() -> Result<()> {
        for (grid, window) in
            [([8, 8, 8], [14, 14, 14]), ([5, 7, 4], [2, 3, 4]), ([6, 4, 2], [3, 2, 1])]
        {
            let windows = Windows::new(grid, window)?;
            let [d, h, w] = grid;
            let x = wave(&[2, d, h, w, 3], 0.3)?;
            let parts = windows.partition(&x)?;
            assert_eq!(parts.dim(0)?, 2 * windows.count());
            assert_eq!(gap(&windows.unpartition(&parts)?, &x)?, 0.0, "{windows:?}");
        }
        Ok(())
    }

    #[test]
    fn other_grids_and_windows_are_refused() -> Result<()> {
        assert!(Windows::new([4; 3], [2, 0, 2]).is_err());
        let windows = Windows::new([4; 3], [2; 3])?;
        assert!(windows.partition(&wave(&[1, 4, 4, 5, 2], 0.3)?).is_err());
        assert!(windows.partition(&wave(&[4, 4, 4, 2], 0.3)?).is_err());
        assert!(windows.unpartition(&wave(&[7, 2, 2, 2, 2], 0.3)?).is_err());
        assert!(windows.unpartition(&wave(&[8, 2, 2, 3, 2], 0.3)?).is_err());
        Ok(())
    }
}
