//! Computing without the interpreter's lock, until it is done, cancelled, or stopped by Ctrl-C.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::error::{self, Failure, exception};

/// How often the interpreter is asked for signals: a person does not notice, and other threads that want
/// its lock hardly do.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// The process that has computed; 0 if none has.
static COMPUTED_IN: AtomicU32 = AtomicU32::new(0);

/// Stops work from another thread.
///
/// Give it to a method as ``cancel=``; after :meth:`cancel` the method raises
/// :class:`r1seg.errors.Cancelled` within a fraction of a second.
#[pyclass(frozen, module = "r1seg")]
#[derive(Debug, Default)]
pub(crate) struct CancelToken {
    token: r1seg::CancelToken,
}

#[pymethods]
impl CancelToken {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Asks the work to stop.
    fn cancel(&self) {
        self.token.cancel();
    }

    /// Whether the work was asked to stop.
    #[getter]
    fn cancelled(&self) -> bool {
        self.token.is_cancelled()
    }
}

/// Progress of a run, for ``on_event=``.
#[pyclass(frozen, module = "r1seg", get_all)]
#[derive(Debug)]
pub(crate) struct Event {
    /// ``prompt``, ``window``, ``text``, ``token``, ``text_done`` or ``mask``.
    kind: &'static str,
    /// The index of the prompt that it is about.
    prompt: Option<usize>,
    /// What follows the text so far, of a ``text``.
    text: Option<String>,
    /// The index of a ``token`` or of a ``window``.
    index: Option<usize>,
    /// The number of windows.
    of: Option<usize>,
}

#[pymethods]
impl Event {
    fn __repr__(&self) -> String {
        let prompt = self.prompt.map(|prompt| format!(", prompt={prompt}")).unwrap_or_default();
        format!("Event(kind={:?}{prompt})", self.kind)
    }
}

impl Event {
    /// `None` for a kind that Python does not know.
    fn of(event: r1seg::Event<'_>) -> Option<Self> {
        let none = Self { kind: "", prompt: None, text: None, index: None, of: None };
        Some(match event {
            r1seg::Event::Prompt { prompt } => {
                Self { kind: "prompt", prompt: Some(prompt), ..none }
            }
            r1seg::Event::Window { index, of } => {
                Self { kind: "window", index: Some(index), of: Some(of), ..none }
            }
            r1seg::Event::Text { prompt, text } => {
                Self { kind: "text", prompt: Some(prompt), text: Some(text.to_string()), ..none }
            }
            r1seg::Event::Token { prompt, index } => {
                Self { kind: "token", prompt: Some(prompt), index: Some(index), ..none }
            }
            r1seg::Event::TextDone { prompt } => {
                Self { kind: "text_done", prompt: Some(prompt), ..none }
            }
            r1seg::Event::Mask { prompt } => Self { kind: "mask", prompt: Some(prompt), ..none },
            _ => return None,
        })
    }
}

/// Limits how many threads compute; before anything has been computed.
///
/// Without it there is one for each processor that the process may use, or as many as
/// ``RAYON_NUM_THREADS`` says.
#[pyfunction]
pub(crate) fn set_num_threads(py: Python<'_>, threads: usize) -> PyResult<()> {
    if threads == 0 {
        return Err(error::usage(py, "0 threads compute nothing", "give at least 1"));
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|_| {
        let message = "the threads that compute have been started already";
        error::usage(py, message, "call set_num_threads before anything is computed")
    })
}

/// What stops a run, and the exception that did.
pub(crate) struct Watch {
    pub(crate) token: r1seg::CancelToken,
    raised: std::sync::Arc<Mutex<Option<PyErr>>>,
}

impl Watch {
    fn new(py: Python<'_>, cancel: Option<&CancelToken>) -> PyResult<Self> {
        let raised = std::sync::Arc::<Mutex<Option<PyErr>>>::default();
        let given = cancel.map(|cancel| cancel.token.clone());
        // Python runs handlers of signals in its main thread only.
        let threading = py.import("threading")?;
        let (current, main) =
            (threading.call_method0("current_thread")?, threading.call_method0("main_thread")?);
        let (is_main, kept) = (current.is(&main), raised.clone());
        let asked = Mutex::new(Instant::now());
        let token = r1seg::CancelToken::when(move || {
            if given.as_ref().is_some_and(r1seg::CancelToken::is_cancelled) {
                return true;
            }
            if !is_main {
                return false;
            }
            let Ok(mut asked) = asked.try_lock() else { return false };
            if asked.elapsed() < SIGNALS_EVERY {
                return false;
            }
            *asked = Instant::now();
            match Python::attach(|py| py.check_signals()) {
                Ok(()) => false,
                Err(error) => {
                    keep(&kept, error);
                    true
                }
            }
        });
        Ok(Self { token, raised })
    }

    /// Passes events on to a function of Python's, whose exception stops the run.
    pub(crate) fn events<'a>(
        &'a self,
        callback: Option<&'a Py<PyAny>>,
    ) -> impl FnMut(r1seg::Event<'_>) + 'a {
        move |event| {
            let Some((callback, event)) = callback.zip(Event::of(event)) else { return };
            if let Err(error) = Python::attach(|py| callback.call1(py, (event,)).map(drop)) {
                keep(&self.raised, error);
                self.token.cancel();
            }
        }
    }
}

fn keep(raised: &Mutex<Option<PyErr>>, error: PyErr) {
    raised.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
}

/// Refuses to compute in a process that was forked from one that had computed: the threads that it would wait
/// for are not there.
fn check_process(py: Python<'_>) -> PyResult<()> {
    let this = process::id();
    let before = COMPUTED_IN.swap(this, Ordering::Relaxed);
    if before != 0 && before != this {
        COMPUTED_IN.store(before, Ordering::Relaxed);
        return Err(error::forked(py));
    }
    Ok(())
}

/// Does `work` without the interpreter's lock. Ctrl-C, `cancel` and exceptions of callbacks stop it.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    cancel: Option<&CancelToken>,
    work: impl FnOnce(&Watch) -> Result<T, Failure> + Send,
) -> PyResult<T> {
    check_process(py)?;
    let watch = Watch::new(py, cancel)?;
    let done = py.detach(|| work(&watch));
    let raised = watch.raised.lock().unwrap_or_else(PoisonError::into_inner).take();
    match raised {
        Some(error) => Err(error),
        None => done.map_err(|failure| failure.raised(py)),
    }
}

/// The same for work that nothing stops.
pub(crate) fn without_lock<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, r1seg_results::Error> + Send,
) -> PyResult<T> {
    check_process(py)?;
    py.detach(work).map_err(|error| exception(py, &error))
}
