//! The builder of the crate `hnsw_rs`: slower, on f32 values that it copies, and an independent check of ours.
//!
//! It stands behind a wall, because it stops the program on what it does not expect: it is given finite rows of one width,
//! none twice, and gives back lists of links. Its order of insertion is ours, one row after the other, and its levels come
//! from a seed of its own, so that it gives the same graph every time.

use hnsw_rs::anndists::dist::DistL2;
use hnsw_rs::hnsw::Hnsw;

use super::builder::{GraphBuilder, GraphOptions, empty_draft};
use super::draft::Draft;
use super::error::BuildStop;
use super::space::CodedSpace;
use super::work::GraphWork;
use crate::base::limits::{GRAPH_LEVELS_MAX, GRAPH_UPPER_LINKS};
use crate::format::GraphMaker;

/// Builds with `hnsw_rs`.
#[derive(Clone, Copy, Debug, Default)]
pub struct HnswRsBuilder;

impl GraphBuilder for HnswRsBuilder {
    fn maker(&self) -> GraphMaker {
        GraphMaker::HnswRs
    }

    fn build(
        &self,
        space: &CodedSpace<'_>,
        rows: &[u32],
        options: &GraphOptions,
        work: &mut GraphWork<'_>,
    ) -> Result<Draft, BuildStop> {
        let m = GRAPH_UPPER_LINKS as usize;
        let graph = Hnsw::<f32, DistL2>::new(m, rows.len(), GRAPH_LEVELS_MAX, options.build_beam, DistL2 {});
        for &row in rows {
            work.look_up()?;
            let values = space.values(row);
            if values.len() != space.width() + 1 || values.iter().any(|value| !value.is_finite()) {
                return Err(BuildStop::Refused { reason: format!("row {row} is not finite") });
            }
            graph.insert((&values, row as usize));
            (work.advance)(1);
        }
        Ok(exported(space, &graph))
    }
}

/// The links of a graph in our form.
fn exported(space: &CodedSpace<'_>, graph: &Hnsw<'_, f32, DistL2>) -> Draft {
    let mut draft = empty_draft(space);
    let points = graph.get_point_indexation();
    // A point is kept in the layer of its level only. Rows of the top layer come first: the first is the entry.
    let layers = (0..GRAPH_LEVELS_MAX).rev();
    for (layer, point) in
        layers.clone().flat_map(|layer| points.get_layer_iterator(layer).map(move |point| (layer, point)))
    {
        draft.place(point.get_origin_id() as u32, layer as u32);
    }
    let mut links = Vec::new();
    for (layer, point) in
        layers.flat_map(|layer| points.get_layer_iterator(layer).map(move |point| (layer, point)))
    {
        let row = point.get_origin_id() as u32;
        for (level, near) in (0..=layer as u32).zip(point.get_neighborhood_id()) {
            links.clear();
            let near = near.iter().map(|near| near.get_origin_id() as u32);
            links.extend(near.filter(|near| *near != row && draft.level(*near) >= level));
            draft.set_links(level, row, &links);
        }
    }
    draft
}
