//! SHA-256 of what is read, and hexadecimal digits.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Lower-case hexadecimal digits, as `sha256sum` prints them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Hashes what is read through it.
#[derive(Debug)]
pub struct HashingStream<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> HashingStream<R> {
    /// A stream of which nothing has been read.
    pub fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// Reads on to the end and returns the SHA-256 of the whole stream, in hexadecimal. `None` if
    /// `limit` bytes or more are left.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub fn finish(mut self, limit: u64) -> io::Result<Option<String>> {
        let rest = io::copy(&mut (&mut self).take(limit), &mut io::sink())?;
        Ok((rest < limit).then(|| hex(&self.hash.finalize())))
    }
}

impl<R: Read> Read for HashingStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(bytes) = buffer.get(..count) {
            self.hash.update(bytes);
        }
        Ok(count)
    }
}

/// The SHA-256 of bytes, in hexadecimal.
#[must_use]
pub fn sha256_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-256 of a file's bytes, in hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_of_file(path: &Path) -> io::Result<String> {
    let mut stream = HashingStream::new(std::fs::File::open(path)?);
    let mut buffer = vec![0; 1 << 18];
    while stream.read(&mut buffer)? != 0 {}
    Ok(hex(&stream.hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sha256sum` of `abc`.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_and_a_stream_of_equal_bytes_have_equal_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(sha256_of_file(&path).unwrap(), ABC);
        assert_eq!(sha256_of(b"abc"), ABC);
        let mut stream = HashingStream::new(&b"abc"[..]);
        // A reader need not look at all of it.
        assert_eq!(stream.read(&mut [0; 2]).unwrap(), 2);
        assert_eq!(stream.finish(10).unwrap().as_deref(), Some(ABC));
    }

    #[test]
    fn an_endless_stream_has_no_hash() {
        let stream = HashingStream::new(io::repeat(0));
        assert_eq!(stream.finish(1 << 16).unwrap(), None);
    }

    #[test]
    fn digits_are_in_lower_case_and_come_in_pairs() {
        assert_eq!(hex(&[0, 0x0a, 0xff]), "000aff");
    }
}
