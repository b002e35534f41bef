//! Sixteen f32 lanes without vector registers: the specification of `dense.rs`, and the back-end where nothing better
//! is detected. Where the target has fused multiply-adds the compiler makes vectors of these loops.

use super::bilinear;
use super::dense::{self, DenseLanes, POWER_OF_TWO_OFFSET, Tile};
use super::form_tile::FormTile;
use super::panels::{PANEL_COLUMNS, PanelRow};

/// Lanes as an array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalar;

#[inline(always)]
fn each(left: PanelRow, right: PanelRow, function: impl Fn(f32, f32) -> f32) -> PanelRow {
    let mut out = left;
    for lane in 0..PANEL_COLUMNS {
        out[lane] = function(left[lane], right[lane]);
    }
    out
}

impl DenseLanes for Scalar {
    type Values = PanelRow;

    const ROWS: usize = 4;

    #[inline(always)]
    fn tile(self, rows: usize, tile: Tile<'_>) {
        match rows {
            1 => dense::tile::<Self, 1>(self, tile),
            2 => dense::tile::<Self, 2>(self, tile),
            3 => dense::tile::<Self, 3>(self, tile),
            // `product` asks for at most `ROWS`.
            _ => dense::tile::<Self, 4>(self, tile),
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Values {
        [value; PANEL_COLUMNS]
    }

    #[inline(always)]
    fn load(self, values: &PanelRow) -> Self::Values {
        *values
    }

    #[inline(always)]
    fn store(self, values: Self::Values, to: &mut PanelRow) {
        *to = values;
    }

    #[inline(always)]
    fn add(self, left: Self::Values, right: Self::Values) -> Self::Values {
        each(left, right, |left, right| left + right)
    }

    #[inline(always)]
    fn subtract(self, left: Self::Values, right: Self::Values) -> Self::Values {
        each(left, right, |left, right| left - right)
    }

    #[inline(always)]
    fn multiply(self, left: Self::Values, right: Self::Values) -> Self::Values {
        each(left, right, |left, right| left * right)
    }

    #[inline(always)]
    fn divide(self, left: Self::Values, right: Self::Values) -> Self::Values {
        each(left, right, |left, right| left / right)
    }

    #[inline(always)]
    fn multiply_add(self, sums: Self::Values, left: Self::Values, right: Self::Values) -> Self::Values {
        let mut out = sums;
        for lane in 0..PANEL_COLUMNS {
            out[lane] = left[lane].mul_add(right[lane], sums[lane]);
        }
        out
    }

    #[inline(always)]
    fn minimum(self, left: Self::Values, right: Self::Values) -> Self::Values {
        each(left, right, |left, right| if left < right { left } else { right })
    }

    #[inline(always)]
    fn maximum(self, left: Self::Values, right: Self::Values) -> Self::Values {
        each(left, right, |left, right| if left > right { left } else { right })
    }

    #[inline(always)]
    fn power_of_two(self, values: Self::Values) -> Self::Values {
        values.map(|value| {
            f32::from_bits(value.to_bits().wrapping_add(POWER_OF_TWO_OFFSET.cast_unsigned()) << 23)
        })
    }

    #[inline(always)]
    fn form_tile(self, rows: usize, tile: FormTile<'_>) {
        match rows {
            1 => bilinear::form_tile::<Self, 1>(self, tile),
            2 => bilinear::form_tile::<Self, 2>(self, tile),
            3 => bilinear::form_tile::<Self, 3>(self, tile),
            // `forms` asks for at most `ROWS`.
            _ => bilinear::form_tile::<Self, 4>(self, tile),
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, _line: &T) {}
}
