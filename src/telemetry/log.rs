//! The log: lines go through a bounded buffer to one writer, so that no other thread waits for a disk or a
//! terminal.

use super::line::tidy;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber, callsite};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// The number of bytes that may wait for the writer. Further lines are dropped and counted.
const MAX_WAITING: usize = 4 << 20;
/// The time for which the writer lets lines gather. Waking it for each line would cost more than the line itself.
const GATHER_TIME: Duration = Duration::from_millis(100);

/// The target of log lines about requests.
pub const ACCESS: &str = "access";

/// Another target of log lines about requests. Lines with this target are written at every level of the log.
pub const ACCESS_ALWAYS: &str = "access+";

/// The time that writing the last lines may take when the log is dropped.
const FINAL_WRITE_TIMEOUT: Duration = Duration::from_millis(500);

/// Starts to log to standard error. Lines of `level` and of more important levels are written, and so are all lines
/// with the target [`ACCESS_ALWAYS`]. Only the first call of a process has an effect.
pub fn start(level: LevelFilter) -> Log {
    let queue = Arc::new(LineQueue::default());
    let for_writer = Arc::clone(&queue);
    let writer = std::thread::Builder::new().name("log".into()).spawn(move || for_writer.write_all(&mut io::stderr()));
    let level = Arc::new(Mutex::new(level));
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(LineMaker(Arc::clone(&queue)));
    let subscriber = tracing_subscriber::registry().with(lines).with(LevelOfLines(Arc::clone(&level)));
    // An error means that the process has a log already.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Log { queue, writer: writer.ok(), level }
}

/// The log of the process. Dropping it waits until the remaining lines are written, for at most 500 milliseconds.
#[derive(Debug)]
pub struct Log {
    queue: Arc<LineQueue>,
    writer: Option<JoinHandle<()>>,
    level: Arc<Mutex<LevelFilter>>,
}

impl Log {
    /// Writes lines of `level` and of more important levels from now on.
    pub fn set_level(&self, level: LevelFilter) {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = level;
        // Each place in the code that logs remembers whether its lines are written.
        callsite::rebuild_interest_cache();
    }
}

/// The filter of log lines by their level. It is asked once for each place in the code that logs, and again when the
/// level has changed.
struct LevelOfLines(Arc<Mutex<LevelFilter>>);

impl LevelOfLines {
    fn level(&self) -> LevelFilter {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for LevelOfLines {
    fn enabled(&self, line: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *line.level() <= self.level() || line.target() == ACCESS_ALWAYS
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // The lines with the target `ACCESS_ALWAYS` have the level INFO.
        Some(self.level().max(LevelFilter::INFO))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.filled.notify_one();
        // The process must end even if standard error is a terminal or a pipe that takes nothing.
        let begin = Instant::now();
        while self.writer.as_ref().is_some_and(|w| !w.is_finished()) && begin.elapsed() < FINAL_WRITE_TIMEOUT {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[derive(Debug, Default)]
struct LineQueue {
    waiting: Mutex<WaitingLines>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct WaitingLines {
    bytes: Vec<u8>,
    dropped: u64,
    closed: bool,
}

impl LineQueue {
    fn lock(&self) -> MutexGuard<'_, WaitingLines> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes.len() + line.len() > MAX_WAITING {
            waiting.dropped += 1;
            return;
        }
        let first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if first {
            self.filled.notify_one();
        }
    }

    /// Writes lines as they come, until the log is closed.
    fn write_all(&self, to: &mut impl Write) {
        let mut batch = Vec::new();
        loop {
            self.gather();
            let (dropped, closed) = self.take(&mut batch);
            if dropped > 0 {
                batch.extend_from_slice(
                    format!("{dropped} log lines were dropped: the writer is too slow\n").as_bytes(),
                );
            }
            // If the log cannot be written, there is no place to report the error.
            let _ = to.write_all(&batch);
            if closed {
                return;
            }
        }
    }

    /// Waits for lines, and then for more of them, unless the log is being closed.
    fn gather(&self) {
        let waiting = self.lock();
        let open = |w: &mut WaitingLines| !w.closed;
        let empty = |w: &mut WaitingLines| w.bytes.is_empty() && !w.closed;
        let waiting = self.filled.wait_while(waiting, empty).unwrap_or_else(PoisonError::into_inner);
        drop(self.filled.wait_timeout_while(waiting, GATHER_TIME, open));
    }

    /// Moves all waiting lines into `batch`. Returns how many lines were dropped, and whether the log is closed.
    fn take(&self, batch: &mut Vec<u8>) -> (u64, bool) {
        let mut waiting = self.lock();
        batch.clear();
        std::mem::swap(batch, &mut waiting.bytes);
        (std::mem::take(&mut waiting.dropped), waiting.closed)
    }
}

/// A factory that makes a writer for each log line.
struct LineMaker(Arc<LineQueue>);

impl<'a> MakeWriter<'a> for LineMaker {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(&self.0)
    }
}

/// A writer that takes one log line, which the formatter writes in one call.
struct LineWriter<'a>(&'a LineQueue);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(&tidy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_in_order_and_the_rest_is_counted() {
        let queue = Arc::new(LineQueue::default());
        let long = vec![b'x'; MAX_WAITING / 4];
        queue.push(b"first\n");
        for _ in 0..5 {
            queue.push(&long);
        }
        queue.lock().closed = true;
        let mut out = Vec::new();
        queue.write_all(&mut out);
        assert!(out.starts_with(b"first\nxxx"));
        assert!(out.ends_with(b"2 log lines were dropped: the writer is too slow\n"));
    }
}
