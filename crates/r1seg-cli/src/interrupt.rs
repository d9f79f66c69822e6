//! Ctrl-C and termination: stop soon, and leave nothing half-written.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use r1seg::{CancelToken, Error};

use crate::exit::{CANCELLED, explain};

/// How long an answer may take to stop by itself, between two of its tokens.
const GRACE: Duration = Duration::from_millis(500);

/// Whether finished results are being moved to their places, which nothing interrupts.
static WRITING: AtomicBool = AtomicBool::new(false);

/// Held while finished results are written.
pub(crate) struct Writing(());

impl Writing {
    pub(crate) fn begin() -> Self {
        WRITING.store(true, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.store(false, Ordering::SeqCst);
    }
}

/// Lets the first signal stop what is being done, and a second one end the process at once.
pub(crate) fn install() -> CancelToken {
    let cancel = CancelToken::default();
    let token = cancel.clone();
    // Without a handler the first signal ends the process, which is nearly as good.
    let _ = ctrlc::set_handler(move || {
        if token.is_cancelled() {
            std::process::exit(CANCELLED.into());
        }
        token.cancel();
        std::thread::spawn(|| {
            // Loading and long stages do not look at the token: they may be left as they are.
            std::thread::sleep(GRACE);
            while WRITING.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
            explain(&Error::Cancelled.into());
            std::process::exit(CANCELLED.into());
        });
    });
    cancel
}
