//! A file to which lines are appended, each of them whole or not at all.

use std::fs::File;
use std::io::{self, Write};

/// What can be appended to, and cut back.
pub(super) trait Storage: Write {
    /// In bytes.
    fn length(&self) -> io::Result<u64>;
    /// Returns once everything that was written would survive a power cut.
    fn sync(&self) -> io::Result<()>;
    /// Removes all bytes after the first `length`, which is on storage when this returns.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Storage for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        self.sync_all()
    }
}

/// Appends to a file.
#[derive(Debug)]
pub(super) struct Appender<S> {
    to: S,
    /// Whether a part of a line is at its end, which the next line would be glued to.
    is_torn: bool,
}

impl<S: Storage> Appender<S> {
    /// What is in the file already is taken as whole.
    pub(super) fn new(to: S) -> Self {
        Self { to, is_torn: false }
    }

    /// Adds these bytes, which are on storage when this returns. Where that fails, for example because the
    /// disk is full, what was written of them is removed.
    ///
    /// # Errors
    /// The error of the operating system. If the part that was written cannot be removed either, this and
    /// everything after it fails.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_torn {
            return Err(io::Error::other("a line was written in part and could not be removed"));
        }
        let before = self.to.length()?;
        let written = self.to.write_all(bytes).and_then(|()| self.to.sync());
        if written.is_err() {
            self.is_torn = self.to.cut(before).is_err();
        }
        written
    }

    /// Removes everything.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.to.cut(0)?;
        self.is_torn = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with this much room.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
        can_sync: bool,
        can_cut: bool,
    }

    fn disk(room: usize) -> Disk {
        Disk { bytes: Vec::new(), room, can_sync: true, can_cut: true }
    }

    fn faulty(works: bool) -> io::Result<()> {
        if works { Ok(()) } else { Err(io::Error::other("a fault")) }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room - self.bytes.len());
            faulty(count > 0)?;
            self.bytes.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Storage for Disk {
        fn length(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }

        fn sync(&self) -> io::Result<()> {
            faulty(self.can_sync)
        }

        fn cut(&mut self, length: u64) -> io::Result<()> {
            faulty(self.can_cut)?;
            self.bytes.truncate(length as usize);
            Ok(())
        }
    }

    #[test]
    fn what_does_not_fit_leaves_nothing_and_a_shorter_line_may_follow() {
        let mut lines = Appender::new(disk(12));
        lines.append(b"first\n").unwrap();
        lines.append(b"too long\n").unwrap_err();
        assert_eq!(lines.to.bytes, b"first\n");
        lines.append(b"last\n").unwrap();
        assert_eq!(lines.to.bytes, b"first\nlast\n");
    }

    #[test]
    fn a_line_that_does_not_reach_storage_is_removed() {
        let mut lines = Appender::new(disk(99));
        lines.append(b"first\n").unwrap();
        lines.to.can_sync = false;
        lines.append(b"second\n").unwrap_err();
        assert_eq!(lines.to.bytes, b"first\n");
    }

    #[test]
    fn no_line_is_glued_to_a_part_that_cannot_be_removed() {
        let mut lines = Appender::new(disk(8));
        lines.append(b"first\n").unwrap();
        lines.to.can_cut = false;
        lines.append(b"second\n").unwrap_err();
        (lines.to.can_cut, lines.to.room) = (true, 99);
        lines.append(b"third\n").unwrap_err();
        assert_eq!(lines.to.bytes, b"first\nse");
        lines.clear().unwrap();
        lines.append(b"fourth\n").unwrap();
        assert_eq!(lines.to.bytes, b"fourth\n");
    }
}
