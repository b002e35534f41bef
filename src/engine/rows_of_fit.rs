//! The rows that a curvature was fitted to, as far as they are still there.

use rayon::prelude::*;

use super::gradient_rows::GradientRows;
use crate::format::curvature_section;
use crate::storage::{FileError, SealedFile};

/// A place that is not in the fit.
const NOT_FITTED: u32 = u32::MAX;

/// Where the rows of a fit are.
pub(super) struct RowsOfFit {
    /// For each place of the snapshot its number in the fit.
    numbers: Vec<u32>,
    /// For each row of the fit its place.
    places: Vec<Option<usize>>,
    /// Rows of the fit that are there no longer.
    missing: Vec<usize>,
}

impl RowsOfFit {
    /// Finds the `count` rows whose keys and checksums a curvature file holds.
    ///
    /// # Errors
    /// The file does not hold so many, or rows cannot be read.
    ///
    /// # Complexity
    /// O(count) keys that are looked up and gradients that are read, in parallel.
    pub(super) fn find(file: &SealedFile, count: usize, rows: &GradientRows<'_>) -> Result<Self, FileError> {
        let known = keys_and_prints(file, count)?;
        let found = known.par_iter().with_min_len(256).map(|(key, print)| place_of(rows, key, *print));
        let places = found.collect::<Result<Vec<Option<usize>>, FileError>>()?;
        let found = Self::of_places(places, rows);
        let is_number = |number: &&u32| **number != NOT_FITTED;
        match found.numbers.iter().filter(is_number).count() == found.rows() {
            true => Ok(found),
            false => Err(file.content_error("a key is in it twice")),
        }
    }

    /// All live rows, in the order of ingest.
    pub(super) fn all(rows: &GradientRows<'_>) -> Self {
        Self::of_places(rows.live_places().into_iter().map(Some).collect(), rows)
    }

    fn of_places(places: Vec<Option<usize>>, rows: &GradientRows<'_>) -> Self {
        let mut numbers = vec![NOT_FITTED; rows.places];
        let mut missing = Vec::new();
        for (number, place) in places.iter().enumerate() {
            match place {
                Some(place) => numbers[*place] = number as u32,
                None => missing.push(number),
            }
        }
        Self { numbers, places, missing }
    }

    /// Number in the fit of the row at a place.
    pub(super) fn number(&self, place: usize) -> Option<usize> {
        self.numbers.get(place).filter(|number| **number != NOT_FITTED).map(|number| *number as usize)
    }

    /// Place of each row of the fit.
    pub(super) fn places(&self) -> &[Option<usize>] {
        &self.places
    }

    /// Rows of the fit that are still there.
    pub(super) fn rows(&self) -> usize {
        self.places.len() - self.missing.len()
    }

    /// Rows of the fit that are there no longer, ascending.
    pub(super) fn missing(&self) -> &[usize] {
        &self.missing
    }
}

/// The key and the checksum of the stored gradient of each row of a fit.
fn keys_and_prints(file: &SealedFile, count: usize) -> Result<Vec<(&str, u64)>, FileError> {
    let (ends, bytes) = count
        .checked_mul(8)
        .and_then(|length| {
            file.whole(curvature_section::KEYS).map(|keys| keys.split_at_checked(length)).transpose()
        })
        .ok_or_else(|| file.content_error("it has too few keys"))??;
    let prints = file.whole(curvature_section::PRINTS)?.as_chunks::<8>().0;
    if prints.len() != count {
        return Err(file.content_error("it has not one print for each row"));
    }
    let mut start = 0;
    let known = ends.as_chunks::<8>().0.iter().zip(prints).map(|(end, print)| {
        let end = u64::from_le_bytes(*end) as usize;
        let key = bytes.get(start..end).and_then(|key| std::str::from_utf8(key).ok());
        start = end;
        Ok((key.ok_or_else(|| file.content_error("a key in it is none"))?, u64::from_le_bytes(*print)))
    });
    known.collect()
}

/// The place of a row of the fit, if it is still the same.
fn place_of(rows: &GradientRows<'_>, key: &str, print: u64) -> Result<Option<usize>, FileError> {
    let Some((position, row)) = rows.snapshot.find(key)? else { return Ok(None) };
    let Some(place) = rows.place_of(position, row) else { return Ok(None) };
    let Some((segment, row)) = rows.row_at(place) else { return Ok(None) };
    Ok((GradientRows::print(segment, row)? == print).then_some(place))
}
