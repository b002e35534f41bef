//! Sums of many terms.

/// Sums that are taken side by side: a processor then does not wait for one addition before it begins the next.
const LANES: usize = 8;

/// The sum of the term of each row, over columns of one length: of every eighth row apart, then of these sums. Rows that not
/// all columns have are left out.
///
/// # Complexity
/// O(rows), no allocation.
///
/// ```
/// use ascribe::base::sum_of;
/// assert_eq!(sum_of([&[1.0, 2.0, 4.0]], |[value]| value * value), 21.0);
/// assert_eq!(sum_of([&[1.0, 2.0], &[10.0, 20.0]], |[left, right]| left * right), 50.0);
/// ```
#[inline]
pub fn sum_of<T, const N: usize>(columns: [&[T]; N], term: impl Fn([&T; N]) -> f64) -> f64 {
    let rows = columns.iter().map(|column| column.len()).min().unwrap_or(0);
    let columns = columns.map(|column| &column[..rows]);
    let blocks = columns.map(|column| column.as_chunks::<LANES>().0);
    let mut sums = [0.0; LANES];
    for block in 0..rows / LANES {
        let block = blocks.map(|blocks| &blocks[block]);
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += term(block.map(|values| &values[lane]));
        }
    }
    let rest = (rows - rows % LANES..rows).map(|row| term(columns.map(|column| &column[row])));
    sums.iter().sum::<f64>() + rest.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::sum_of;

    #[test]
    fn every_row_counts_once_whatever_their_number() {
        for rows in (0..40).chain([511, 512, 1000]) {
            let (left, right): (Vec<f64>, Vec<f64>) =
                (0..rows).map(|row| (f64::from(row), f64::from(row % 7))).unzip();
            let expected: f64 = left.iter().zip(&right).map(|(left, right)| left * right + 1.0).sum();
            assert_eq!(sum_of([&left, &right], |[left, right]| left * right + 1.0), expected, "{rows}");
            assert_eq!(sum_of([left.as_slice(), &right[..rows as usize / 2]], |_| 1.0), f64::from(rows / 2));
        }
        assert_eq!(sum_of::<f64, 0>([], |[]| 1.0), 0.0);
    }
}
