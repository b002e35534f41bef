//! Where members, modules and sides stand in a row.

use std::ops::Range;

use crate::format::{
    ModuleEncoding, SPARSE_PADDING, SketchModule, SketchModulesError, SketchPart, SketchSide, sketch_parts,
    sketch_terms,
};

/// Where everything stands in a row of a sketch column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SketchLayout {
    modules: Vec<SketchModule>,
    members: u32,
    parts: Vec<SketchPart>,
    /// For each member and module its parts: the output side (or the matrix), and the input side.
    places: Vec<(usize, Option<usize>)>,
}

impl SketchLayout {
    /// The layout of rows with these modules for each of so many members.
    ///
    /// # Errors
    /// A module has no values, or a row would have more than the limit.
    pub fn new(modules: Vec<SketchModule>, members: u32) -> Result<Self, SketchModulesError> {
        let parts = sketch_parts(&modules, members)?;
        let mut places: Vec<(usize, Option<usize>)> = Vec::new();
        for (position, part) in parts.iter().enumerate() {
            match (part.side, places.last_mut()) {
                (SketchSide::Input, Some(last)) => last.1 = Some(position),
                _ => {
                    let shared = (modules[part.module as usize].encoding == ModuleEncoding::SharedInput)
                        .then(|| places.get(part.module as usize).and_then(|first| first.1))
                        .flatten();
                    places.push((position, shared));
                }
            }
        }
        Ok(Self { modules, members, parts, places })
    }

    /// Modules, in the order of a row's values.
    pub fn modules(&self) -> &[SketchModule] {
        &self.modules
    }

    /// Members, at least 1.
    pub fn members(&self) -> u32 {
        self.members
    }

    /// Runs of values that belong together, in the order of a row.
    pub fn parts(&self) -> &[SketchPart] {
        &self.parts
    }

    /// Values of one row.
    pub fn width(&self) -> usize {
        self.parts.last().map_or(0, |part| part.offset + part.width)
    }

    /// Places of sparse inputs that a row names.
    pub fn terms_a_row(&self) -> usize {
        sketch_terms(&self.modules) as usize
    }

    /// Where the terms of a sparse module stand among those of a row.
    pub fn terms_of(&self, module: usize) -> Range<usize> {
        let first = sketch_terms(&self.modules[..module]) as usize;
        first..first + self.modules[module].terms as usize
    }

    /// Appends a row of another layout to rows of this one: the same but for sparse modules that may name fewer places, which are padded.
    pub fn append_padded(
        &self,
        other: &Self,
        (values, terms): (&[f32], &[u32]),
        (all_values, all_terms): (&mut Vec<f32>, &mut Vec<u32>),
    ) {
        let start = all_values.len();
        all_values.resize(start + self.width(), 0.0);
        let own = &mut all_values[start..];
        for (member, module) in
            (0..self.members).flat_map(|member| (0..self.modules.len()).map(move |at| (member, at)))
        {
            let (to, from) = (self.places(member, module), other.places(member, module));
            own[to.0].copy_from_slice(&values[from.0]);
            let (Some(to), Some(from)) = (to.1, from.1) else { continue };
            let rank = self.modules[module].rank.max(1) as usize;
            let (wide, narrow) = (to.len() / rank, from.len() / rank);
            for pair in 0..rank {
                let (to, from) = (to.start + pair * wide, from.start + pair * narrow);
                own[to..to + narrow].copy_from_slice(&values[from..from + narrow]);
            }
        }
        for module in 0..self.modules.len() {
            let (wide, narrow) = (self.terms_of(module), other.terms_of(module));
            let padding = std::iter::repeat_n(SPARSE_PADDING, wide.len() - narrow.len());
            all_terms.extend(terms[narrow].iter().copied().chain(padding));
        }
    }

    /// Whether a row's gradient is zero: of each module one side is.
    pub fn is_zero(&self, values: &[f32]) -> bool {
        let is_zero = |range: Range<usize>| values[range].iter().all(|value| *value == 0.0);
        (0..self.members).all(|member| {
            (0..self.modules.len()).all(|module| {
                let (first, second) = self.places(member, module);
                is_zero(first) || second.is_some_and(is_zero)
            })
        })
    }

    /// Places of a module's values of one member: the output side (or the whole matrix), and the input side of factored
    /// and sparse modules, which for shared inputs is that of the first member.
    ///
    /// # Panics
    /// Never for members and modules below their numbers.
    pub fn places(&self, member: u32, module: usize) -> (Range<usize>, Option<Range<usize>>) {
        let range = |part: usize| {
            let part = &self.parts[part];
            part.offset..part.offset + part.width
        };
        let (output, input) = self.places[member as usize * self.modules.len() + module];
        (range(output), input.map(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_inputs_are_those_of_the_first_member() {
        let module = |name: &str, encoding, [rank, out, input, terms]: [u32; 4]| SketchModule {
            name: name.into(),
            encoding,
            rank,
            out,
            input,
            terms,
        };
        let modules = vec![
            module("a", ModuleEncoding::SharedInput, [1, 2, 5, 0]),
            module("b", ModuleEncoding::Factored, [1, 3, 2, 0]),
            module("c", ModuleEncoding::Dense, [0, 2, 2, 0]),
            module("d", ModuleEncoding::Sparse, [2, 1, 100, 3]),
        ];
        let layout = SketchLayout::new(modules, 2).unwrap();
        assert_eq!(layout.places(0, 0), (0..2, Some(2..7)));
        assert_eq!(layout.places(0, 1), (7..10, Some(10..12)));
        assert_eq!(layout.places(0, 2), (12..16, None));
        assert_eq!(layout.places(0, 3), (16..18, Some(18..24)));
        assert_eq!(layout.places(1, 0), (24..26, Some(2..7)));
        assert_eq!(layout.places(1, 1), (26..29, Some(29..31)));
        assert_eq!(layout.width(), 43);
        assert_eq!((layout.terms_a_row(), layout.terms_of(3)), (3, 0..3));
    }

    #[test]
    fn rows_that_name_fewer_places_are_padded() {
        let layout = |terms| {
            let module = |name: &str, encoding, rank, terms| SketchModule {
                name: name.into(),
                encoding,
                rank,
                out: 1,
                input: 9,
                terms,
            };
            let modules = vec![
                module("a", ModuleEncoding::Factored, 1, 0),
                module("w", ModuleEncoding::Sparse, 2, terms),
            ];
            SketchLayout::new(modules, 1).unwrap()
        };
        let (own, other) = (layout(3), layout(2));
        let row: Vec<f32> = (1..=other.width()).map(|value| value as f32).collect();
        let (mut values, mut terms) = (vec![7.0], vec![5]);
        own.append_padded(&other, (&row, &[4, 8]), (&mut values, &mut terms));
        let padded = [&[7.0][..], &row[..12], &row[12..14], &[0.0], &row[14..], &[0.0]].concat();
        assert_eq!((values, terms), (padded, vec![5, 4, 8, SPARSE_PADDING]));
        // The same layout changes nothing.
        let (mut values, mut terms) = (Vec::new(), Vec::new());
        other.append_padded(&other, (&row, &[4, 8]), (&mut values, &mut terms));
        assert_eq!((values, terms), (row, vec![4, 8]));
    }
}
