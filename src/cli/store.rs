//! Arguments that every verb on a store has, and opening it.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, value_parser};

use super::catalog_check::CheckInChild;
use super::failure::Failure;
use super::session::{Session, note};
use crate::answers::OutputFormat;
use crate::base::limits::THREADS_MAX;
use crate::encoder::Device;
use crate::engine::{OpenOptions, Reader, Store};
use crate::format::GraphMaker;
use crate::storage::{DiskOptions, DiskStorage, Storage};

/// The store, and how it is opened.
#[derive(Args, Debug)]
pub(super) struct StoreArguments {
    /// Folder of the store
    #[arg(value_name = "STORE")]
    pub(super) path: PathBuf,
    /// Read files instead of mapping them into memory (for network file systems)
    #[arg(long)]
    pub(super) no_mmap: bool,
    /// Threads to use [default: as many as there are cores]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=i64::from(THREADS_MAX)))]
    pub(super) threads: Option<u16>,
}

/// How indexes are made.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct IndexArguments {
    /// Who makes the graphs of large segments; those of another maker are made anew [default: native]
    #[arg(long, value_name = "BUILDER", value_parser = graph_makers())]
    pub(super) graph: Option<GraphMaker>,
}

fn graph_makers() -> impl TypedValueParser<Value = GraphMaker> {
    let makers =
        GraphMaker::ALL.into_iter().filter(|maker| cfg!(feature = "hnsw_rs") || *maker != GraphMaker::HnswRs);
    PossibleValuesParser::new(makers.map(GraphMaker::name).collect::<Vec<_>>()).map(|name| {
        GraphMaker::ALL.into_iter().find(|maker| maker.name() == name).unwrap_or(GraphMaker::Native)
    })
}

impl StoreArguments {
    /// The storage of the store; touches nothing.
    pub(super) fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(DiskStorage::new(self.path.clone(), DiskOptions { memory_map: !self.no_mmap }))
    }

    /// How the store is opened.
    pub(super) fn open_options(&self) -> OpenOptions {
        OpenOptions {
            threads: self.threads.and_then(|threads| NonZeroUsize::new(usize::from(threads))),
            catalog_check: Arc::new(CheckInChild),
            // Most verbs are over before a merge would be.
            compact: false,
            ..OpenOptions::default()
        }
    }

    /// The store, open for writing.
    pub(super) fn open(&self) -> Result<Store, Failure> {
        self.open_on(&[])
    }

    /// The store, open for writing; its models compute on `devices`.
    pub(super) fn open_on(&self, devices: &[Device]) -> Result<Store, Failure> {
        self.check()?;
        Ok(Store::open(self.storage(), OpenOptions { devices: devices.to_vec(), ..self.open_options() })?)
    }

    /// The store, open for writing many rows: segments are merged meanwhile.
    pub(super) fn open_to_fill(&self, devices: &[Device], index: &IndexArguments) -> Result<Store, Failure> {
        self.check()?;
        let (devices, graph) = (devices.to_vec(), index.graph);
        Ok(Store::open(self.storage(), OpenOptions { devices, graph, compact: true, ..self.open_options() })?)
    }

    /// The store, open for making its indexes.
    pub(super) fn open_to_index(&self, index: &IndexArguments) -> Result<Store, Failure> {
        self.check()?;
        Ok(Store::open(self.storage(), OpenOptions { graph: index.graph, ..self.open_options() })?)
    }

    /// The store, open for reading beside its writer.
    pub(super) fn read(&self) -> Result<Reader, Failure> {
        self.read_on(&[])
    }

    /// The store, open for reading beside its writer; its models compute on `devices`.
    pub(super) fn read_on(&self, devices: &[Device]) -> Result<Reader, Failure> {
        self.check()?;
        Ok(Reader::open(self.storage(), OpenOptions { devices: devices.to_vec(), ..self.open_options() })?)
    }

    /// Refuses a path that leads to no folder, before anything tries to lock a file in it.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.path.is_dir() {
            return Ok(());
        }
        let what = if self.path.exists() { "it is no folder" } else { "there is no such folder" };
        Err(Failure::Failed(format!(
            "cannot open store {}: {what}; make a store with \"ascribe create\"",
            self.path.display()
        )))
    }
}

/// Waits for the merges of what was committed, and for its indexes. The rows are there whatever comes of it.
pub(super) fn finish_background(store: &Store, session: &Session<'_>) {
    if let Err(error) = store.finish_compaction(session.watch()) {
        note(&format!(
            "all rows are committed, but not all small segments are merged: {error}; \"ascribe compact\" does it later"
        ));
    }
    finish_indexes(store, session);
}

/// Waits for the indexes of what was committed. The rows are there whatever comes of it.
pub(super) fn finish_indexes(store: &Store, session: &Session<'_>) {
    if let Err(error) = store.build_indexes(session.watch()) {
        note(&format!(
            "all rows are committed, but not all indexes are built: {error}; queries read the rows instead"
        ));
    }
}

/// How results are written.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct OutputArguments {
    /// How the result is written: a table for people, or json, jsonl (one object a row) or csv for programs
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = formats())]
    pub(super) format: OutputFormat,
}

fn formats() -> impl TypedValueParser<Value = OutputFormat> {
    // Only names of the list reach the second step.
    PossibleValuesParser::new(OutputFormat::ALL.map(OutputFormat::name))
        .map(|name| OutputFormat::from_name(&name).unwrap_or_default())
}
