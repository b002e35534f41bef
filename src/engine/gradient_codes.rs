//! Nearly the scores of all rows, by codes of their half-whitened gradients.

use super::code_layout::{CodeBits, CodeLayout};
use super::curvature::OpenCurvature;
use super::fit_codes::signs_of_modules;
use super::gradient_error::GradientError;
use super::gradient_question::AskedGradients;
use super::gradient_rows::GradientRows;
use super::member_codes::{OpenCodes, too_long};
use crate::base::limits::CODE_COORDINATES_MAX;
use crate::base::{Cancel, RowId};
use crate::curvature::{CurvatureKind, DiagonalFit, LeadingFit, MemberGradients, SumValue};
use crate::format::curvature_section;
use crate::kernels::KernelError;
use crate::storage::FileError;

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
    /// Reads a byte, or a bit, for each row and coordinate of a member; the first question after rows came or left reads the gradients of all
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
            let question = codes.layout.question(&own).map_err(unfit)?;
            let mut raw: Vec<f64> = vec![0.0; rows.places];
            let weight = |place: usize| self.weights(*number, place).score;
            let scale = |at: usize| f64::from(f32::from_le_bytes(stored.scales[at]));
            let count = of_fit.places().len();
            let products = codes.layout.products(&question, stored.codes, count, scale).map_err(unfit)?;
            for (place, product) in of_fit.places().iter().zip(products) {
                if let Some(place) = place {
                    raw[*place] = product * weight(*place);
                }
            }
            if let Some((later, scales)) = codes.later_codes.get(*number) {
                let scale = |at: usize| f64::from(scales[at]);
                let products = codes.layout.products(&question, later, codes.later.len(), scale);
                for (place, product) in codes.later.iter().zip(products.map_err(unfit)?) {
                    raw[*place] = product * weight(*place);
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
        let layout = self.code_layout(rows)?;
        let landmarks = match self.has_leading() {
            true => self.landmark_gradients(rows, &self.numbers(curvature_section::CODE_FACTORS)?)?,
            false => Vec::new(),
        };
        let mut opened = OpenCodes { layout, landmarks, later: Vec::new(), later_codes: Vec::new() };
        let members = rows.schema.members() as usize;
        for member in 0..members {
            self.stored_codes(member, &opened)?;
        }
        self.add_later(rows, &mut opened, cancel)?;
        Ok(self.codes.get_or_init(|| opened))
    }

    /// Whether codes are those of leading coordinates.
    fn has_leading(&self) -> bool {
        !self.kind.is_direct() || self.kind == CurvatureKind::Identity
    }

    /// How the codes stand that the head of the file tells of.
    fn code_layout(&self, rows: &GradientRows<'_>) -> Result<CodeLayout, GradientError> {
        let (coordinates, bits) = (self.head.codes, self.head.code_bits);
        if coordinates == 0 {
            let flags = if self.has_leading() { "--codes 256" } else { "--code-bits 1" };
            return Err(GradientError::mismatch(format!(
                "the {0} curvature has no codes: run \"ascribe fit --curvature {0} {flags}\", or take candidates by embedding",
                self.kind.name()
            )));
        }
        let layout = match self.has_leading() {
            true => CodeLayout::joint(bits, coordinates),
            false => signs_of_modules(&MemberGradients::empty(rows.schema.layout())),
        };
        let is_known = match self.has_leading() {
            true => coordinates <= CODE_COORDINATES_MAX,
            false => bits == CodeBits::One && layout.coordinates() == coordinates,
        };
        match is_known {
            true => Ok(layout),
            false => Err(self.file.content_error(format!("its codes have {coordinates} coordinates")).into()),
        }
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
                    codes.layout.encode(coordinates, &factors).map_err(|row| {
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
        Ok(match self.kind {
            CurvatureKind::Kfac | CurvatureKind::Ekfac => self.kronecker(member)?.half_whitened(gradients),
            CurvatureKind::Diagonal => DiagonalFit::half_whitened(self.diagonal(member), gradients),
            _ => {
                let Some((chosen, factors)) = codes.landmarks.get(member) else { return Ok(Vec::new()) };
                let matrix = self.stored_codes(member, codes)?.matrix;
                LeadingFit::of_gradients(matrix, (chosen, factors), gradients)
            }
        })
    }

    /// A member's part of the file.
    fn stored_codes(&self, member: usize, codes: &OpenCodes) -> Result<StoredCodes<'_>, FileError> {
        let (members, rows) = (self.head.damping.len(), self.record.rows as usize);
        let landmarks = codes.landmarks.first().map_or(0, |(_, factors)| factors.len());
        let part = |tag: u32, size: Option<usize>| {
            let bytes = self.bytes(tag)?;
            let size = size.filter(|size| size.checked_mul(members) == Some(bytes.len()));
            let own = size.and_then(|size| bytes.get(member * size..(member + 1) * size));
            own.ok_or_else(|| self.file.content_error("its codes do not fit its rows and landmarks"))
        };
        let layout: &CodeLayout = &codes.layout;
        let matrix = match self.has_leading() {
            true => part(curvature_section::CODE_MATRIX, (4 * layout.coordinates()).checked_mul(landmarks))?,
            false => &[],
        };
        let scales = rows.checked_mul(4 * layout.scales_a_row());
        Ok(StoredCodes {
            matrix: matrix.as_chunks::<4>().0,
            codes: part(curvature_section::CODES, layout.row_bytes().checked_mul(rows))?,
            scales: part(curvature_section::CODE_SCALES, scales)?.as_chunks::<4>().0,
        })
    }
}

fn unfit(error: KernelError) -> GradientError {
    GradientError::mismatch(error.to_string())
}
