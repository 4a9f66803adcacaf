//! Progress for programs: each status as one line of JSON, as `--progress=rawjson` of docker.

use crate::Status;
use crate::display::Renderer;
use crate::screen::Screen;
use crate::trace::Trace;

pub(crate) struct Json;

impl Renderer for Json {
    fn update(&mut self, trace: &mut Trace, status: &Status, screen: &mut dyn Screen) {
        trace.changed.clear();
        forget(trace);
        let mut line = serde_json::to_vec(status).expect("a status has only string keys");
        line.push(b'\n');
        screen.write(&line);
    }

    fn tick(&mut self, _: &mut Trace, _: &mut dyn Screen) {}

    /// Whoever reads it has all lines already.
    fn finish(&mut self, _: &mut Trace, _: &mut dyn Screen) {}
}

/// Lets go of lines that nobody is going to show.
pub(crate) fn forget(trace: &mut Trace) {
    trace.steps.iter_mut().for_each(|step| step.waiting.clear());
}
