//! Encoding on every device at once: a lane for each takes tasks from one queue.
//!
//! On the processor a lane hands out as many tasks as the pool has threads and waits for them: a query that comes in
//! meanwhile is served before the next ones.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rayon::prelude::*;

use super::batch::BatchError;
use super::context::Context;
use super::encoders::{ColumnEncoders, EncoderError};
use super::packing::pack;
use crate::base::limits::{ENCODE_BLOCK_TEXTS, ENCODE_TASK_TOKENS, ENCODE_TASK_TOKENS_GPU};
use crate::base::{Spent, StageCounter};
use crate::encoder::{Device, EncodeError, PreparedText};

/// How often one who waits for an encoding looks up.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Texts that one call of the pool makes ready.
const PREPARE_TEXTS: usize = 512;

/// Texts that are being encoded for the same commit: one set of vectors for each column.
#[derive(Debug)]
pub(super) struct Encoding {
    columns: Vec<Arc<ColumnEncoders>>,
    texts: usize,
    state: Mutex<EncodingState>,
    changed: Condvar,
}

#[derive(Debug)]
struct EncodingState {
    /// Vectors of each column, in the order of the texts.
    values: Vec<Vec<f32>>,
    /// Texts of all columns that are not encoded yet.
    left: usize,
    failure: Option<EncodeError>,
}

impl Encoding {
    /// Waits a moment; the vectors of each column once all are there, otherwise the part that is done (0 to 1).
    pub(super) fn wait(&self) -> Result<Result<Vec<Vec<f32>>, f64>, EncodeError> {
        let state = self.state();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, LOOK_UP, |state| state.left > 0 && state.failure.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        if state.left == 0 {
            return Ok(Ok(std::mem::take(&mut state.values)));
        }
        let all = (self.texts * self.columns.len()).max(1);
        Ok(Err(1.0 - state.left as f64 / all as f64))
    }

    fn state(&self) -> MutexGuard<'_, EncodingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, column: usize, texts: &[usize], outcome: Result<Vec<f32>, EncodeError>) {
        let mut state = self.state();
        match outcome {
            Ok(vectors) => {
                let width = self.columns[column].width();
                let values = &mut state.values[column];
                for (text, vector) in texts.iter().zip(vectors.chunks_exact(width)) {
                    values[text * width..(text + 1) * width].copy_from_slice(vector);
                }
                state.left -= texts.len();
            }
            Err(failure) => {
                state.failure.get_or_insert(failure);
            }
        }
        let is_over = state.left == 0 || state.failure.is_some();
        drop(state);
        if is_over {
            self.changed.notify_all();
        }
    }
}

/// Some texts of an encoding, to be encoded together.
struct Task {
    encoding: Arc<Encoding>,
    column: usize,
    /// Which texts.
    texts: Vec<usize>,
    prepared: Vec<PreparedText>,
    /// Tokens of the longest text.
    width: usize,
}

impl Task {
    fn encoders(&self) -> &ColumnEncoders {
        &self.encoding.columns[self.column]
    }

    /// Whether `next` may be joined to this task on a GPU.
    fn takes(&self, next: &Self, texts_max: usize) -> bool {
        let texts = self.texts.len() + next.texts.len();
        Arc::ptr_eq(&self.encoding, &next.encoding)
            && self.column == next.column
            && texts <= texts_max
            && texts * self.width.max(next.width) <= ENCODE_TASK_TOKENS_GPU
    }

    fn join(&mut self, next: Self) {
        self.texts.extend(next.texts);
        self.prepared.extend(next.prepared);
        self.width = self.width.max(next.width);
    }

    fn run(&self, device: Device) -> Result<Vec<f32>, EncodeError> {
        let Some(encoder) = self.encoders().on(device) else {
            let encoder = self.encoders().name();
            return Err(EncodeError::Failed { encoder, reason: format!("it is not there on {device}") });
        };
        let mut values = vec![0.0; self.texts.len() * self.encoders().width()];
        encoder.encode_prepared(&self.prepared, &mut values).map(|()| values)
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked ({}), which is a bug", text.as_deref().unwrap_or("without a message"))
}

/// Tasks that no lane sees yet.
pub(super) struct PlannedTasks(VecDeque<Task>);

/// Tasks that wait for a lane.
pub(super) struct TaskQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
    texts_max: usize,
}

#[derive(Default)]
struct QueueState {
    tasks: VecDeque<Task>,
    is_closed: bool,
}

impl TaskQueue {
    /// A queue whose tasks have at most `texts_max` texts.
    pub(super) fn new(texts_max: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), texts_max }
    }

    /// Begins to encode, for each column, the same texts made ready for it.
    pub(super) fn submit(&self, columns: Vec<(Arc<ColumnEncoders>, Vec<PreparedText>)>) -> Arc<Encoding> {
        let (encoding, tasks) = self.plan(columns);
        self.begin(tasks);
        encoding
    }

    /// What [`submit`](Self::submit) would do, for [`begin`](Self::begin) to do it later.
    pub(super) fn plan(
        &self,
        columns: Vec<(Arc<ColumnEncoders>, Vec<PreparedText>)>,
    ) -> (Arc<Encoding>, PlannedTasks) {
        let texts = columns.first().map_or(0, |(_, prepared)| prepared.len());
        let (encoders, prepared): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let state = EncodingState {
            values: encoders.iter().map(|encoders| vec![0.0; texts * encoders.width()]).collect(),
            left: texts * encoders.len(),
            failure: None,
        };
        let encoding =
            Encoding { columns: encoders, texts, state: Mutex::new(state), changed: Condvar::new() };
        let encoding = Arc::new(encoding);
        let mut tasks = VecDeque::new();
        for (column, prepared) in prepared.into_iter().enumerate() {
            let tokens: Vec<usize> = prepared.iter().map(PreparedText::token_count).collect();
            let mut prepared: Vec<Option<PreparedText>> = prepared.into_iter().map(Some).collect();
            for texts in pack(&tokens, ENCODE_TASK_TOKENS, self.texts_max) {
                let width = texts.first().map_or(0, |text| tokens[*text]);
                let prepared = texts.iter().filter_map(|text| prepared[*text].take()).collect();
                tasks.push_back(Task { encoding: Arc::clone(&encoding), column, texts, prepared, width });
            }
        }
        (encoding, PlannedTasks(tasks))
    }

    /// Hands planned tasks to the lanes.
    pub(super) fn begin(&self, mut planned: PlannedTasks) {
        let mut state = self.state();
        if !state.is_closed {
            state.tasks.append(&mut planned.0);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Sends the lanes home after what they are at.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.tasks.clear();
        drop(state);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for tasks that `device` can do: at most `count`, or for a GPU one that is joined from several. `None` when
    /// the queue is closed.
    fn take(&self, device: Device, count: usize) -> Option<Vec<Task>> {
        let is_fit = |task: &Task| task.encoders().on(device).is_some();
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(first) = state.tasks.iter().position(is_fit) {
                let mut taken: Vec<Task> = state.tasks.remove(first).into_iter().collect();
                while let Some(next) = state.tasks.get(first).filter(|next| is_fit(next)) {
                    let joins =
                        device != Device::Cpu && taken.iter().any(|task| task.takes(next, self.texts_max));
                    let next = match device {
                        Device::Cpu if taken.len() < count => state.tasks.remove(first),
                        Device::Cuda(_) if joins => state.tasks.remove(first),
                        _ => break,
                    };
                    match (next, taken.first_mut()) {
                        (Some(next), Some(task)) if joins => task.join(next),
                        (next, _) => taken.extend(next),
                    }
                }
                return Some(taken);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Closes the queue however the work with it ends.
struct Closing<'a>(&'a TaskQueue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A device at work.
pub(super) struct Lane {
    device: Device,
    pub(super) counter: StageCounter,
}

/// A lane for each device that the store may use, and one on the processor for the encoders that know no other.
pub(super) fn lanes(context: &Context) -> Vec<Lane> {
    let mut devices = context.devices.clone();
    if !devices.contains(&Device::Cpu) {
        devices.push(Device::Cpu);
    }
    let lane = |device| Lane { device, counter: StageCounter::new(format!("encode {device}")) };
    devices.into_iter().map(lane).collect()
}

/// Does `work` while the lanes serve `queue`.
///
/// # Errors
/// A thread cannot be started.
pub(super) fn with_lanes<T>(
    context: &Context,
    lanes: &[Lane],
    queue: &TaskQueue,
    work: impl FnOnce() -> T,
) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let _closing = Closing(queue);
        for lane in lanes {
            std::thread::Builder::new()
                .name(format!("ascribe-{}", lane.device))
                .spawn_scoped(scope, move || lane.serve(context, queue))?;
        }
        Ok(work())
    })
}

impl Lane {
    fn serve(&self, context: &Context, queue: &TaskQueue) {
        let clock = context.clock.as_ref();
        let count = context.pool.current_num_threads();
        let take = || queue.take(self.device, count);
        while let Some(tasks) = self.counter.timed(clock, Spent::InputWait, take) {
            let run = || catch_unwind(AssertUnwindSafe(|| self.run(context, &tasks)));
            if let Err(panic) = self.counter.timed(clock, Spent::Busy, run) {
                // A bug of an encoder is a failure like another: whoever waits must hear of it.
                for task in &tasks {
                    let (encoder, reason) = (task.encoders().name(), panic_text(&*panic));
                    task.encoding.settle(task.column, &[], Err(EncodeError::Failed { encoder, reason }));
                }
            }
        }
    }

    fn run(&self, context: &Context, tasks: &[Task]) {
        let outcomes: Vec<_> = match self.device {
            Device::Cpu => {
                context.pool.install(|| tasks.par_iter().map(|task| task.run(self.device)).collect())
            }
            Device::Cuda(_) => tasks.iter().map(|task| task.run(self.device)).collect(),
        };
        for (task, outcome) in tasks.iter().zip(outcomes) {
            let tokens: usize = task.prepared.iter().map(PreparedText::token_count).sum();
            let bytes = outcome.as_ref().map_or(0, |values| 4 * values.len());
            // Counted first: whoever sees the vectors sees them counted.
            self.counter.add(task.texts.len() as u64, tokens as u64, bytes as u64);
            task.encoding.settle(task.column, &task.texts, outcome);
        }
    }
}

/// Makes texts ready on the store's threads; `None` once `is_stopped`.
pub(super) fn prepare_texts(
    context: &Context,
    encoders: &ColumnEncoders,
    texts: &[&str],
    is_stopped: &dyn Fn() -> bool,
) -> Result<Option<Vec<PreparedText>>, EncodeError> {
    let encoder = encoders.first();
    let mut prepared = Vec::with_capacity(texts.len());
    for texts in texts.chunks(PREPARE_TEXTS) {
        if is_stopped() {
            return Ok(None);
        }
        let part: Result<Vec<_>, EncodeError> =
            context.pool.install(|| texts.par_iter().map(|text| encoder.prepare(text)).collect());
        prepared.extend(part?);
    }
    Ok(Some(prepared))
}

/// Encodes texts on all devices; row i's vector is `out[i * width..(i + 1) * width]`. `watch` hears how many are done
/// (of these) and says whether to go on; `None` if it did not want to.
pub(super) fn encode_texts(
    context: &Context,
    encoders: &Arc<ColumnEncoders>,
    texts: &[&str],
    watch: &dyn Fn(u64) -> bool,
) -> Result<Option<Vec<f32>>, BatchError> {
    let failed = |error: EncodeError| BatchError::Encoder(EncoderError::Encode(error));
    let (lanes, queue) = (lanes(context), TaskQueue::new(usize::MAX));
    let encode = || {
        let mut values = Vec::with_capacity(texts.len() * encoders.width());
        // The next block is made ready while the one before is encoded.
        let mut under_way: Option<(usize, Arc<Encoding>)> = None;
        let mut done = 0;
        let blocks = texts.chunks(ENCODE_BLOCK_TEXTS).map(Some).chain([None]);
        for block in blocks {
            let next = match block {
                None => None,
                Some(block) => {
                    match prepare_texts(context, encoders, block, &|| !watch(done as u64)).map_err(failed)? {
                        None => return Ok(None),
                        Some(prepared) => {
                            Some((block.len(), queue.submit(vec![(Arc::clone(encoders), prepared)])))
                        }
                    }
                }
            };
            if let Some((count, encoding)) = under_way.take() {
                loop {
                    match encoding.wait().map_err(failed)? {
                        Ok(columns) => break values.extend(columns.into_iter().flatten()),
                        Err(part) if !watch((done as f64 + part * count as f64) as u64) => return Ok(None),
                        Err(_) => {}
                    }
                }
                done += count;
            }
            under_way = next;
        }
        Ok(Some(values))
    };
    with_lanes(context, &lanes, &queue, encode)
        .map_err(|error| BatchError::Threads { reason: error.to_string() })?
}
