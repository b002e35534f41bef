//! What all parts of an open store share.

use std::num::NonZeroUsize;
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use super::buffers::ScoreBuffers;
use super::options::OpenOptions;
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
    /// Whether small segments are merged in the background.
    pub(super) compact: bool,
    /// Segments with fewer rows get no graph.
    pub(super) graph_rows_min: u32,
    /// Who makes graphs; those of another maker are made anew if one is named.
    pub(super) graph: Option<GraphMaker>,
    pub(super) buffers: ScoreBuffers,
    pub(super) walkers: Walkers,
}

impl Context {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        options: OpenOptions,
    ) -> Result<Arc<Self>, ThreadPoolBuildError> {
        let threads = options.threads.map_or(0, NonZeroUsize::get);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|thread| format!("ascribe-{thread}"))
            .build()?;
        let OpenOptions {
            encoders,
            kernels,
            clock,
            devices: named,
            index_rows_min,
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
            compact,
            graph_rows_min,
            graph,
            buffers: ScoreBuffers::default(),
            walkers: Walkers::default(),
        }))
    }
}
