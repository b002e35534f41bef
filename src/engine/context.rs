//! What all parts of an open store share.

use std::num::NonZeroUsize;
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use super::buffers::ScoreBuffers;
use super::options::OpenOptions;
use super::retirement::Retirement;
use super::traffic::{Pace, Traffic};
use super::walkers::Walkers;
use crate::base::Clock;
use crate::encoder::{Device, Encoder};
use crate::format::GraphMaker;
use crate::kernels::Kernels;
use crate::storage::Storage;

/// Storage, threads, kernels, clock and the program's encoders.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) storage: Arc<dyn Storage>,
    /// The one thread pool of the store.
    pub(super) pool: ThreadPool,
    pub(super) kernels: Kernels,
    pub(super) clock: Arc<dyn Clock>,
    /// Encoders of the program, by column name.
    pub(super) given: Vec<(String, Arc<dyn Encoder>)>,
    /// Where encoders compute, each device once; at least one.
    pub(super) devices: Vec<Device>,
    /// Segments with fewer rows get no index.
    pub(super) index_rows_min: u32,
    /// Of segments with fewer rows no sums of gradients are kept.
    pub(super) sums_rows_min: u32,
    /// Whether small segments are merged in the background.
    pub(super) compact: bool,
    /// Segments with fewer rows get no graph.
    pub(super) graph_rows_min: u32,
    /// Who makes graphs; those of another maker are made anew if one is named.
    pub(super) graph: Option<GraphMaker>,
    pub(super) buffers: ScoreBuffers,
    pub(super) walkers: Walkers,
    pub(super) retirement: Retirement,
    pub(super) traffic: Arc<Traffic>,
    /// Of queries that are themselves work that nobody waits for.
    pub(super) pace: Option<Pace>,
}

impl Context {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        options: OpenOptions,
    ) -> Result<Arc<Self>, ThreadPoolBuildError> {
        let pool = thread_pool("ascribe", options.threads.map_or(0, NonZeroUsize::get))?;
        let OpenOptions {
            encoders,
            kernels,
            clock,
            devices: named,
            index_rows_min,
            sums_rows_min,
            graph_rows_min,
            graph,
            compact,
            ..
        } = options;
        let mut devices = Vec::new();
        for device in named {
            if !devices.contains(&device) {
                devices.push(device);
            }
        }
        if devices.is_empty() {
            devices.push(Device::Cpu);
        }
        Ok(Arc::new(Self {
            storage,
            pool,
            kernels,
            clock,
            given: encoders,
            devices,
            index_rows_min,
            sums_rows_min,
            compact,
            graph_rows_min,
            graph,
            buffers: ScoreBuffers::default(),
            walkers: Walkers::default(),
            retirement: Retirement::default(),
            traffic: Arc::default(),
            pace: None,
        }))
    }

    /// For queries that nobody waits for: they make way for others, and have one thread of their own, as in one pool others
    /// would wait for all of their tasks.
    pub(super) fn beside(&self) -> Result<Arc<Self>, ThreadPoolBuildError> {
        Ok(Arc::new(Self {
            storage: Arc::clone(&self.storage),
            pool: thread_pool("ascribe-beside", 1)?,
            clock: Arc::clone(&self.clock),
            given: self.given.clone(),
            devices: self.devices.clone(),
            buffers: ScoreBuffers::default(),
            walkers: Walkers::default(),
            retirement: Retirement::default(),
            traffic: Arc::default(),
            pace: Some(Pace::new(&self.traffic)),
            ..*self
        }))
    }
}

/// A pool of threads; of as many as the machine has cores for 0.
fn thread_pool(name: &'static str, threads: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
    let name = move |thread| format!("{name}-{thread}");
    ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build()
}
