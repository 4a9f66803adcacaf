//! The one who is told and shows.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Status;
use crate::json::Json;
use crate::lines::Lines;
use crate::quiet::Quiet;
use crate::screen::{Paint, Screen, Stderr};
use crate::step::Step;
use crate::trace::Trace;
use crate::tree::Tree;

/// How often what changes by itself is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A tree that changes, on a terminal.
    Tree,
    /// Lines of text.
    #[default]
    Plain,
    /// A [`Status`] in each line.
    RawJson,
    /// Nothing, but what steps wrote that fail.
    Quiet,
}

/// What else there is to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How.
    pub mode: Mode,
    /// Whether the tree may have colours.
    pub color: bool,
    /// What builds, for the tree's first line; may be empty.
    pub builder: String,
}

/// Shows the progress of one build, until it is dropped or finished. Cheap to clone; any thread
/// may tell.
#[derive(Clone)]
pub struct Progress {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    /// Stops the thread that draws.
    ticker: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

struct Shared(Mutex<State>);

struct State {
    trace: Trace,
    renderer: Box<dyn Renderer>,
    screen: Box<dyn Screen>,
    finished: bool,
}

/// One way of showing.
pub(crate) trait Renderer: Send {
    /// The trace has just taken the status.
    fn update(&mut self, trace: &mut Trace, status: &Status, screen: &mut dyn Screen);

    /// Some time has passed.
    fn tick(&mut self, trace: &mut Trace, screen: &mut dyn Screen);

    /// The build has ended.
    fn finish(&mut self, trace: &mut Trace, screen: &mut dyn Screen);
}

impl Progress {
    /// Begins to show on standard error.
    pub fn new(options: &Options) -> Self {
        Self::on(Box::new(Stderr), options)
    }

    /// Begins to show.
    pub fn on(screen: Box<dyn Screen>, options: &Options) -> Self {
        let renderer: Box<dyn Renderer> = match options.mode {
            Mode::Tree => Box::new(Tree::new(Paint(options.color), &options.builder)),
            Mode::Plain => Box::new(Lines::new(&options.builder)),
            Mode::RawJson => Box::new(Json),
            Mode::Quiet => Box::new(Quiet),
        };
        let state = State { trace: Trace::new(), renderer, screen, finished: false };
        let shared = Arc::new(Shared(Mutex::new(state)));
        let ticks = matches!(options.mode, Mode::Tree | Mode::Plain);
        let ticker = ticks.then(|| {
            let (stop, stopped) = channel();
            let shared = Arc::clone(&shared);
            let tick = move || {
                while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    let State { trace, renderer, screen, .. } = &mut *shared.lock();
                    renderer.tick(trace, &mut **screen);
                }
            };
            (stop, std::thread::spawn(tick))
        });
        Self { inner: Arc::new(Inner { shared, ticker: Mutex::new(ticker) }) }
    }

    /// Shows what happened.
    pub fn update(&self, status: &Status) {
        let State { trace, renderer, screen, finished } = &mut *self.inner.shared.lock();
        if !*finished && !status.is_empty() {
            trace.update(status);
            renderer.update(trace, status, &mut **screen);
        }
    }

    /// Does a step that is none of a graph's, such as the writing of an output.
    ///
    /// # Errors
    /// Those of the step.
    pub fn step<T, E: std::fmt::Display>(
        &self,
        name: &str,
        work: impl FnOnce(&Step<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let step = Step::begin(self, name);
        let result = work(&step);
        match &result {
            Ok(_) => step.complete(),
            Err(error) => step.fail(&error.to_string()),
        }
        result
    }

    /// Shows the end of a build that was stopped: what runs is said to be canceled.
    pub fn cancel(&self) {
        self.inner.shared.lock().trace.cancel();
        self.inner.finish();
    }

    /// Shows the end, with the last lines of steps that failed. Nothing is shown after it.
    pub fn finish(&self) {
        self.inner.finish();
    }
}

impl Inner {
    fn finish(&self) {
        let ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = ticker {
            drop(stop);
            // It holds nothing that a panic of it could leave half done.
            let _ = thread.join();
        }
        let State { trace, renderer, screen, finished } = &mut *self.shared.lock();
        if !std::mem::replace(finished, true) {
            renderer.finish(trace, &mut **screen);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
