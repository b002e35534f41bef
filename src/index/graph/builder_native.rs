//! The builder on 8-bit codes, the default: a quarter of the bytes, and the same graph with any number of threads.

use super::builder::{GraphBuilder, GraphOptions, empty_draft};
use super::draft::Draft;
use super::error::BuildStop;
use super::insert::insert;
use super::space::CodedSpace;
use super::work::GraphWork;
use crate::base::RandomStream;
use crate::base::limits::GRAPH_LEVELS_MAX;
use crate::format::GraphMaker;

/// Builds on codes.
#[derive(Clone, Copy, Debug, Default)]
pub struct NativeBuilder;

impl GraphBuilder for NativeBuilder {
    fn maker(&self) -> GraphMaker {
        GraphMaker::Native
    }

    fn build(
        &self,
        space: &CodedSpace<'_>,
        rows: &[u32],
        options: &GraphOptions,
        work: &mut GraphWork<'_>,
    ) -> Result<Draft, BuildStop> {
        let mut draft = empty_draft(space);
        // Not the stream of the order, whose numbers would come again.
        let mut levels =
            RandomStream::new(RandomStream::mix(options.seed.wrapping_add(RandomStream::INCREMENT)));
        insert(space, &mut draft, rows, [options.build_beam, GRAPH_LEVELS_MAX], &mut levels, work)?;
        Ok(draft)
    }
}
