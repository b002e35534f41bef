//! The generator of random projections.

use ascribe::base::{Fingerprint, RandomStream};

use super::pages::table;

fn key(seed: u64, module: &str, side: &str) -> u64 {
    let text = format!("ascribe-projection-1/{seed}/{module}/{side}");
    let mut first = [0; 8];
    first.copy_from_slice(&Fingerprint::of(text.as_bytes()).0[..8]);
    u64::from_le_bytes(first)
}

fn word(key: u64, columns: u64, row: u64, column: u64) -> u64 {
    let words_a_row = columns.div_ceil(64);
    let number = row * words_a_row + column / 64 + 1;
    RandomStream::mix(key.wrapping_add(RandomStream::INCREMENT.wrapping_mul(number)))
}

fn sign(seed: u64, module: &str, side: &str, columns: u64, (row, column): (u64, u64)) -> f64 {
    let word = word(key(seed, module, side), columns, row, column);
    if word >> (column % 64) & 1 == 1 { 1.0 } else { -1.0 }
}

#[test]
fn the_documented_values_follow_from_the_documented_formula() {
    let table = table("projection.md", "Test values");
    assert_eq!(table.rows.len(), 5);
    for row in &table.rows {
        let number = |column| table.cell(row, column).parse::<u64>().unwrap();
        let (seed, columns, i, j) = (number("seed"), number("columns"), number("i"), number("j"));
        let (module, side) = (table.cell(row, "module"), table.cell(row, "side"));
        let key = key(seed, module, side);
        assert_eq!(format!("{key:#018x}"), table.cell(row, "key"), "{row:?}");
        assert_eq!(format!("{:#018x}", word(key, columns, i, j)), table.cell(row, "word"), "{row:?}");
        let name = if sign(seed, module, side, columns, (i, j)) > 0.0 { "plus" } else { "minus" };
        assert_eq!(name, table.cell(row, "sign"), "{row:?}");
    }
}

#[test]
fn a_projection_of_that_scale_keeps_inner_products_on_average() {
    // The mean over seeds of <Pu, Pv> is <u, v>; its standard deviation is about |u||v| / sqrt(r x seeds).
    let (rows, columns, seeds) = (16_u64, 70_u64, 400_u64);
    let u: Vec<f64> = (0..columns).map(|at| ((at * 37 % 11) as f64 - 5.0) / 5.0).collect();
    let v: Vec<f64> = u.iter().enumerate().map(|(at, value)| value + (at % 3) as f64 * 0.1).collect();
    let exact: f64 = u.iter().zip(&v).map(|(a, b)| a * b).sum();
    let norms = u.iter().map(|a| a * a).sum::<f64>().sqrt() * v.iter().map(|a| a * a).sum::<f64>().sqrt();
    let mut mean = 0.0;
    for seed in 0..seeds {
        for i in 0..rows {
            let signs = (0..columns).map(|j| sign(seed, "net.0", "in", columns, (i, j)));
            let (mut left, mut right) = (0.0, 0.0);
            for (at, sign) in signs.enumerate() {
                left += sign * u[at];
                right += sign * v[at];
            }
            mean += left * right / rows as f64 / seeds as f64;
        }
    }
    let deviation = norms * (2.0 / (rows * seeds) as f64).sqrt();
    assert!((mean - exact).abs() < 4.0 * deviation, "{mean} instead of {exact}, deviation {deviation}");
}
