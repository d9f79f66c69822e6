//! Files that are hashed while they are used, so that no byte is read or written twice.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use r1seg_files::hex;
use sha2::{Digest, Sha256};

use crate::FileRecord;

/// Reads at positions, and hashes what it passes in the order of the file.
#[derive(Debug)]
pub struct HashingReader {
    file: File,
    /// Where the operating system would read next.
    position: u64,
    length: u64,
    hasher: Sha256,
    /// How far the file is hashed.
    hashed: u64,
    /// Bytes that were read, again or for the first time.
    read: u64,
}

impl HashingReader {
    /// Nothing is read yet.
    ///
    /// # Errors
    /// When the length of the file cannot be told.
    pub fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        // Nobody knows where the handle stands.
        Ok(Self { file, position: u64::MAX, length, hasher: Sha256::new(), hashed: 0, read: 0 })
    }

    /// Length of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How many bytes were read, those read again counted again.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// Fills `buffer` from `position` on. What lies between the hashed part and there is read too.
    ///
    /// # Errors
    /// When the file cannot be read, or ends before.
    pub fn read_at(&mut self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.hash_up_to(position)?;
        self.read_plain(position, buffer)?;
        let end = position + buffer.len() as u64;
        if position <= self.hashed && self.hashed < end {
            let known = usize::try_from(self.hashed - position).unwrap_or(usize::MAX);
            self.hasher.update(buffer.get(known..).unwrap_or_default());
            self.hashed = end;
        }
        Ok(())
    }

    fn read_plain(&mut self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.position != position {
            self.file.seek(SeekFrom::Start(position))?;
        }
        self.position = u64::MAX;
        self.read += buffer.len() as u64;
        self.file.read_exact(buffer)?;
        self.position = position + buffer.len() as u64;
        Ok(())
    }

    fn hash_up_to(&mut self, position: u64) -> io::Result<()> {
        if position <= self.hashed {
            return Ok(());
        }
        let mut buffer = vec![0; 1 << 20];
        while self.hashed < position {
            let missing = usize::try_from(position - self.hashed).unwrap_or(usize::MAX);
            let length = missing.min(buffer.len());
            let part = buffer.get_mut(..length).unwrap_or_default();
            self.read_plain(self.hashed, part)?;
            self.hasher.update(&*part);
            self.hashed += part.len() as u64;
        }
        Ok(())
    }

    /// Hashes what was not read yet.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn hash_rest(&mut self) -> io::Result<()> {
        self.hash_up_to(self.length)
    }

    /// What the file was, once all of it is hashed.
    ///
    /// # Errors
    /// When the rest of the file cannot be read.
    pub fn finish(mut self, name: String) -> io::Result<FileRecord> {
        self.hash_rest()?;
        let sha256 = hex(&self.hasher.finalize());
        Ok(FileRecord { name, bytes: self.length, sha256 })
    }
}

/// Hashes what it writes.
#[derive(Debug)]
pub struct HashingWriter {
    file: File,
    hasher: Sha256,
    bytes: u64,
}

impl HashingWriter {
    /// Writes from where the file stands.
    pub fn new(file: File) -> Self {
        Self { file, hasher: Sha256::new(), bytes: 0 }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// How many bytes were written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Another handle of the file.
    ///
    /// # Errors
    /// When the operating system has none left.
    pub fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Makes sure that the file is stored, and says what it is.
    ///
    /// # Errors
    /// When it could not be stored.
    pub fn finish(self, name: String) -> io::Result<FileRecord> {
        self.file.sync_data()?;
        Ok(FileRecord { name, bytes: self.bytes, sha256: hex(&self.hasher.finalize()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_read_in_any_order_has_the_hash_of_the_file() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i * 31 % 251) as u8).collect();
        let expected = hex(&Sha256::digest(&bytes));
        let orders: [&[(u64, usize)]; 4] = [
            &[],
            &[(0, 100), (100, 5000)],
            &[(2_000_000, 7), (5, 10), (1_999_990, 100), (2_999_999, 1)],
            &[(10, 0), (0, 3_000_000), (0, 10)],
        ];
        for order in orders {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let mut reader = HashingReader::new(file).unwrap();
            for (position, length) in order {
                let mut part = vec![0; *length];
                reader.read_at(*position, &mut part).unwrap();
                let start = *position as usize;
                assert_eq!(part, bytes[start..start + length]);
            }
            let record = reader.finish("x".to_owned()).unwrap();
            assert_eq!((record.sha256.as_str(), record.bytes), (expected.as_str(), 3_000_000));
        }
    }

    #[test]
    fn hex_is_that_of_sha256sum() {
        let mut writer = HashingWriter::new(tempfile::tempfile().unwrap());
        writer.write(b"ab").unwrap();
        writer.write(b"c").unwrap();
        let record = writer.finish("x".to_owned()).unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(record.sha256, expected);
    }
}
