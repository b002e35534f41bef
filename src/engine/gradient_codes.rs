//! Nearly the scores of all rows, by 8-bit codes of their half-whitened gradients.

use rayon::prelude::*;

use super::curvature::OpenCurvature;
use super::gradient_error::GradientError;
use super::gradient_question::AskedGradients;
use super::gradient_rows::GradientRows;
use super::member_codes::{OpenCodes, code_rows, too_long};
use crate::base::limits::CODE_COORDINATES_MAX;
use crate::base::{Cancel, RowId};
use crate::curvature::{CurvatureKind, LeadingFit, MemberGradients, SumValue};
use crate::format::curvature_section;
use crate::kernels::{CodeQueries, KernelError, Kernels, code_row_bytes};
use crate::storage::FileError;

/// Rows of codes that a thread goes over at a time.
const CHUNK_ROWS: usize = 4096;

/// One member's part of the file.
struct StoredCodes<'a> {
    matrix: &'a [SumValue],
    codes: &'a [u8],
    scales: &'a [[u8; 4]],
}

impl OpenCurvature {
    /// For each asked member what codes say the scores of all places are for one gradient: `asked` holds no more.
    ///
    /// # Errors
    /// The curvature was fitted without codes, or its file is damaged.
    ///
    /// # Complexity
    /// Reads a byte for each row and coordinate of a member; the first question after rows came or left reads the gradients of all
    /// rows, to find those of the fit among them.
    pub(super) fn code_scores(
        &self,
        rows: &GradientRows<'_>,
        asked: &AskedGradients,
        cancel: &Cancel,
    ) -> Result<Vec<Vec<f64>>, GradientError> {
        let codes = self.open_codes(rows, cancel)?;
        let of_fit = self.rows_of_fit(rows)?;
        let members = asked.numbers.iter().zip(&asked.members);
        let of_member = |(number, gradients): (&usize, &MemberGradients)| {
            let stored = self.stored_codes(*number, codes)?;
            let own = self.coordinates(codes, *number, gradients)?;
            if own.iter().any(|value| !value.is_finite()) {
                return Err(GradientError::mismatch(
                    "the gradient is too long for codes: take candidates by embedding, or ask with --score gradient",
                ));
            }
            let queries = CodeQueries::new(&[&own]).map_err(unfit)?;
            let scale = queries.queries().first().map_or(0.0, |query| query.scale);
            let mut raw = vec![0.0; rows.places];
            let weight = |place: usize| scale * self.weights(*number, place).score;
            let sums = sums_of(&queries, stored.codes, stored.scales.len())?;
            for ((place, sum), row_scale) in of_fit.places().iter().zip(sums).zip(stored.scales) {
                if let Some(place) = place {
                    let row_scale = f64::from(f32::from_le_bytes(*row_scale));
                    raw[*place] = f64::from(sum) * row_scale * weight(*place);
                }
            }
            if let Some((later, scales)) = codes.later_codes.get(*number) {
                let sums = sums_of(&queries, later, scales.len())?;
                for ((place, sum), row_scale) in codes.later.iter().zip(sums).zip(scales) {
                    raw[*place] = f64::from(sum) * f64::from(*row_scale) * weight(*place);
                }
            }
            match raw.iter().all(|score| score.is_finite()) {
                true => Ok(raw),
                false => Err(self.file.content_error("a scale of its codes is not finite").into()),
            }
        };
        members.map(of_member).collect()
    }

    /// What is needed to compare by codes; computed once.
    fn open_codes(&self, rows: &GradientRows<'_>, cancel: &Cancel) -> Result<&OpenCodes, GradientError> {
        if let Some(known) = self.codes.get() {
            return Ok(known);
        }
        let coordinates = self.head.codes;
        if coordinates == 0 {
            let remedy = match self.kind {
                CurvatureKind::Diagonal => "ask with another one".to_owned(),
                kind => format!("run \"ascribe fit --curvature {} --codes 256\"", kind.name()),
            };
            return Err(GradientError::mismatch(format!(
                "the {} curvature has no codes: {remedy}, or take candidates by embedding",
                self.kind.name()
            )));
        }
        if coordinates > CODE_COORDINATES_MAX {
            return Err(self.file.content_error(format!("its codes have {coordinates} coordinates")).into());
        }
        let factors = self.numbers(curvature_section::CODE_FACTORS)?;
        let landmarks = self.landmark_gradients(rows, &factors)?;
        let mut opened = OpenCodes { coordinates, landmarks, later: Vec::new(), later_codes: Vec::new() };
        let members = rows.schema.members() as usize;
        for member in 0..members {
            self.stored_codes(member, &opened)?;
        }
        self.add_later(rows, &mut opened, cancel)?;
        Ok(self.codes.get_or_init(|| opened))
    }

    /// Codes of the rows that came after the fit.
    fn add_later(
        &self,
        rows: &GradientRows<'_>,
        opened: &mut OpenCodes,
        cancel: &Cancel,
    ) -> Result<(), GradientError> {
        let of_fit = self.rows_of_fit(rows)?;
        let members = rows.schema.members() as usize;
        let is_later = |place: usize| of_fit.number(place).is_none() && rows.is_live(place);
        let codes: &OpenCodes = opened;
        let blocks = rows.map_blocks(
            cancel,
            |mut places| places.any(is_later),
            |block| {
                let later: Vec<usize> =
                    (0..block.count as usize).filter(|row| is_later(block.place() + row)).collect();
                let of_member = |member: usize| {
                    let own = block.gradients(rows.schema.layout(), member).subset(&later);
                    let factors: Vec<f64> =
                        later.iter().map(|row| self.weights(member, block.place() + row).factor).collect();
                    let coordinates = self.coordinates(codes, member, &own)?;
                    code_rows(coordinates, codes.coordinates, &factors).map_err(|row| {
                        let row = block.first.0 + later.get(row).copied().unwrap_or(0) as u32;
                        match block.segment.view.segment.rows.key(RowId(row)) {
                            Ok(key) => too_long(key),
                            Err(error) => error.into(),
                        }
                    })
                };
                let own = (0..members).map(of_member).collect::<Result<Vec<_>, GradientError>>()?;
                Ok((later.into_iter().map(|row| block.place() + row).collect::<Vec<usize>>(), own))
            },
        )?;
        opened.later_codes = vec![(Vec::new(), Vec::new()); members];
        for (places, own) in blocks {
            opened.later.extend(places);
            for ((codes, scales), (own_codes, own_scales)) in opened.later_codes.iter_mut().zip(own) {
                codes.extend(own_codes);
                scales.extend(own_scales);
            }
        }
        Ok(())
    }

    /// The coordinates of gradients of a member.
    fn coordinates(
        &self,
        codes: &OpenCodes,
        member: usize,
        gradients: &MemberGradients,
    ) -> Result<Vec<f32>, FileError> {
        let Some((chosen, factors)) = codes.landmarks.get(member) else { return Ok(Vec::new()) };
        let matrix = self.stored_codes(member, codes)?.matrix;
        Ok(LeadingFit::of_gradients(matrix, (chosen, factors), gradients))
    }

    /// A member's part of the file.
    fn stored_codes(&self, member: usize, codes: &OpenCodes) -> Result<StoredCodes<'_>, FileError> {
        let (members, rows) = (codes.landmarks.len(), self.record.rows as usize);
        let landmarks = codes.landmarks.first().map_or(0, |(_, factors)| factors.len());
        let part = |tag: u32, size: Option<usize>| {
            let bytes = self.bytes(tag)?;
            let size = size.filter(|size| size.checked_mul(members) == Some(bytes.len()));
            let own = size.and_then(|size| bytes.get(member * size..(member + 1) * size));
            own.ok_or_else(|| self.file.content_error("its codes do not fit its rows and landmarks"))
        };
        let matrix = part(curvature_section::CODE_MATRIX, (4 * codes.coordinates).checked_mul(landmarks))?;
        let size = code_row_bytes(codes.coordinates).checked_mul(rows);
        Ok(StoredCodes {
            matrix: matrix.as_chunks::<4>().0,
            codes: part(curvature_section::CODES, size)?,
            scales: part(curvature_section::CODE_SCALES, rows.checked_mul(4))?.as_chunks::<4>().0,
        })
    }
}

fn unfit(error: KernelError) -> GradientError {
    GradientError::mismatch(error.to_string())
}

/// The sum of each row's codes times the steps of the one query.
fn sums_of(queries: &CodeQueries, codes: &[u8], rows: usize) -> Result<Vec<i32>, GradientError> {
    let mut sums = vec![0; rows];
    let chunks = codes.par_chunks(CHUNK_ROWS * code_row_bytes(queries.width()).max(1));
    let done = chunks.zip(sums.par_chunks_mut(CHUNK_ROWS));
    done.try_for_each(|(codes, sums)| Kernels::best().code_dots(queries, codes, sums)).map_err(unfit)?;
    Ok(sums)
}
