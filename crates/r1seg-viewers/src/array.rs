use crate::{ElementType, Error};

/// Most axes of an array: viewers send volumes, with a channel at most.
const MAX_AXES: usize = 8;

/// An array of numbers in C order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    element: ElementType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Array {
    /// An array of `bytes`, the little-endian elements in C order.
    ///
    /// # Errors
    /// If `shape` has no axes, too many or an empty one, or `bytes` is not what it holds.
    pub fn new(element: ElementType, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Self, Error> {
        let expected = length(element, &shape)?;
        match bytes.len() == expected {
            true => Ok(Self { element, shape, bytes }),
            false => Err(Error::Length { got: bytes.len(), expected }),
        }
    }

    /// What the numbers are.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Elements along each axis, the slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The little-endian elements in C order.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The little-endian elements in C order, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The elements as labels in C order.
    ///
    /// # Errors
    /// [`Error::NoLabel`] if one is negative, above 65535 or not whole.
    pub fn to_labels(&self) -> Result<Vec<u16>, Error> {
        use ElementType as E;
        match self.element {
            E::Bool => Ok(self.bytes.iter().map(|v| u16::from(*v != 0)).collect()),
            E::U8 => Ok(self.bytes.iter().map(|v| u16::from(*v)).collect()),
            E::I8 => self.labels(|v: [u8; 1]| u16::try_from(i8::from_le_bytes(v)).ok()),
            E::U16 => self.labels(|v| Some(u16::from_le_bytes(v))),
            E::I16 => self.labels(|v| u16::try_from(i16::from_le_bytes(v)).ok()),
            E::U32 => self.labels(|v| u16::try_from(u32::from_le_bytes(v)).ok()),
            E::I32 => self.labels(|v| u16::try_from(i32::from_le_bytes(v)).ok()),
            E::U64 => self.labels(|v| u16::try_from(u64::from_le_bytes(v)).ok()),
            E::I64 => self.labels(|v| u16::try_from(i64::from_le_bytes(v)).ok()),
            E::F32 => self.labels(|v| whole(f64::from(f32::from_le_bytes(v)))),
            E::F64 => self.labels(|v| whole(f64::from_le_bytes(v))),
            E::F16 => Err(Error::NoLabel),
        }
    }

    fn labels<const N: usize>(
        &self,
        label: impl Fn([u8; N]) -> Option<u16>,
    ) -> Result<Vec<u16>, Error> {
        let (elements, _) = self.bytes.as_chunks::<N>();
        elements.iter().map(|v| label(*v).ok_or(Error::NoLabel)).collect()
    }
}

fn whole(value: f64) -> Option<u16> {
    let fits = (0.0..=f64::from(u16::MAX)).contains(&value) && value.fract() == 0.0;
    fits.then_some(value as u16)
}

/// Bytes of an array of this shape.
pub(crate) fn length(element: ElementType, shape: &[usize]) -> Result<usize, Error> {
    if shape.is_empty() || MAX_AXES < shape.len() {
        return Err(Error::Axes { axes: shape.len(), most: MAX_AXES });
    }
    let product = shape.iter().try_fold(element.size(), |all, size| match size {
        0 => None,
        _ => all.checked_mul(*size),
    });
    product.ok_or(Error::Size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_holds_as_many_bytes_as_its_shape_says() {
        let of =
            |shape: &[usize], bytes| Array::new(ElementType::I16, shape.to_vec(), vec![0; bytes]);
        assert!(of(&[2, 3], 12).is_ok());
        assert!(matches!(of(&[2, 3], 6), Err(Error::Length { got: 6, expected: 12 })));
        assert!(matches!(of(&[], 2), Err(Error::Axes { axes: 0, .. })));
        assert!(matches!(of(&[1; 9], 2), Err(Error::Axes { axes: 9, .. })));
        assert!(matches!(of(&[2, 0], 0), Err(Error::Size)));
        assert!(matches!(of(&[usize::MAX, 2], 0), Err(Error::Size)));
    }

    #[test]
    fn labels_are_whole_numbers_of_16_bits() {
        let of = |element, bytes: &[u8]| {
            let count = bytes.len() / ElementType::size(element);
            Array::new(element, vec![count], bytes.to_vec()).unwrap().to_labels().ok()
        };
        let f32s = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        assert_eq!(of(ElementType::Bool, &[0, 1, 255]), Some(vec![0, 1, 1]));
        assert_eq!(of(ElementType::U16, &[0x2c, 1]), Some(vec![300]));
        assert_eq!(of(ElementType::I8, &[5, 0xff]), None);
        assert_eq!(of(ElementType::U32, &[0, 0, 1, 0]), None);
        assert_eq!(of(ElementType::F32, &f32s(&[0.0, 65535.0])), Some(vec![0, 65535]));
        for odd in [-1.0, 0.5, 65536.0, f32::NAN] {
            assert_eq!(of(ElementType::F32, &f32s(&[odd])), None, "{odd}");
        }
    }
}
