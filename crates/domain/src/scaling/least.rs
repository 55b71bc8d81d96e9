//! The smallest value of a function of one or two bounded variables, without derivatives.
//!
//! A grid finds the valley, Brent's method its floor. Two variables are nested: for each value of the
//! first the best of the second. That is slower than a method that moves both at once, and cannot be
//! lost in the curved valleys of sums of squares.

/// Points of the grid for one variable.
const GRID: u32 = 32;
/// Points of the grids for two. Nested searches multiply, and along the second the valley is alone.
const OUTER: u32 = 16;
const INNER: u32 = 8;
/// Steps of Brent's method at most. It needs about fifteen.
const STEPS: u32 = 60;
/// Where it stops, as a part of the width of the search.
const TOLERANCE: f64 = 1e-10;
/// The part by which a golden section moves.
const GOLDEN: f64 = 0.381_966_011_250_105;

/// Where `f` is smallest within the bounds, and its value there.
///
/// *Source*: Brent (1973), chapter 5, after a grid.
pub(super) fn smallest(bounds: [f64; 2], f: &mut dyn FnMut(f64) -> f64) -> (f64, f64) {
    search(bounds, GRID, f)
}

fn search([low, high]: [f64; 2], grid: u32, f: &mut dyn FnMut(f64) -> f64) -> (f64, f64) {
    let width = high - low;
    let step = width / f64::from(grid);
    let mut best = (low, f(low));
    for at in 1..=grid {
        let x = if at == grid {
            high
        } else {
            low + step * f64::from(at)
        };
        let value = f(x);
        if value < best.1 {
            best = (x, value);
        }
    }
    let valley = [(best.0 - step).max(low), (best.0 + step).min(high)];
    let floor = brent(valley, best, width * TOLERANCE, f);
    // At an edge the grid has the exact point, and Brent's method only comes close.
    if floor.1 < best.1 { floor } else { best }
}

/// The smallest value for two variables.
pub(super) fn smallest_of_two(
    first: [f64; 2],
    second: [f64; 2],
    f: &dyn Fn(f64, f64) -> f64,
) -> ([f64; 2], f64) {
    let inner = |x: f64| search(second, INNER, &mut |y| f(x, y));
    let (x, value) = search(first, OUTER, &mut |x| inner(x).1);
    ([x, inner(x).0], value)
}

fn brent(
    [mut a, mut b]: [f64; 2],
    start: (f64, f64),
    tolerance: f64,
    f: &mut dyn FnMut(f64) -> f64,
) -> (f64, f64) {
    // The best, the second best, and the one before that.
    let (mut x, mut w, mut v) = (start, start, start);
    let (mut moved, mut before) = (0.0_f64, 0.0_f64);
    for _ in 0..STEPS {
        let middle = a.midpoint(b);
        if (x.0 - middle).abs() <= 2.0 * tolerance - 0.5 * (b - a) {
            break;
        }
        let golden = |from: f64| {
            let room = if from >= middle { a - from } else { b - from };
            (room, GOLDEN * room)
        };
        let mut parabolic = None;
        if before.abs() > tolerance {
            let r = (x.0 - w.0) * (x.1 - v.1);
            let q = (x.0 - v.0) * (x.1 - w.1);
            let p = (x.0 - v.0) * q - (x.0 - w.0) * r;
            let q = 2.0 * (q - r);
            let p = if q > 0.0 { -p } else { p };
            let q = q.abs();
            let inside = p > q * (a - x.0) && p < q * (b - x.0);
            if p.abs() < (0.5 * q * before).abs() && inside {
                let to = p / q;
                let close = x.0 + to - a < 2.0 * tolerance || b - x.0 - to < 2.0 * tolerance;
                parabolic = Some(if close {
                    tolerance.copysign(middle - x.0)
                } else {
                    to
                });
            }
        }
        if let Some(to) = parabolic {
            before = moved;
            moved = to;
        } else {
            (before, moved) = golden(x.0);
        }
        let at = if moved.abs() >= tolerance {
            x.0 + moved
        } else {
            x.0 + tolerance.copysign(moved)
        };
        let tried = (at, f(at));
        if tried.1 <= x.1 {
            if at >= x.0 {
                a = x.0;
            } else {
                b = x.0;
            }
            (v, w, x) = (w, x, tried);
        } else {
            if at < x.0 {
                a = at;
            } else {
                b = at;
            }
            let same = |one: f64, other: f64| (one - other).abs() < f64::MIN_POSITIVE;
            if tried.1 <= w.1 || same(w.0, x.0) {
                (v, w) = (w, tried);
            } else if tried.1 <= v.1 || same(v.0, x.0) || same(v.0, w.0) {
                v = tried;
            }
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valley_an_edge_and_a_kink() {
        let (x, value) = smallest([-10.0, 10.0], &mut |x| (x - 2.5).powi(2) + 1.0);
        assert!((x - 2.5).abs() < 1e-7 && (value - 1.0).abs() < 1e-12);
        let (x, _) = smallest([0.0, 5.0], &mut |x| x);
        assert!(x.abs() < f64::MIN_POSITIVE, "{x}");
        let (x, _) = smallest([0.0, 5.0], &mut |x| -x);
        assert!((x - 5.0).abs() < f64::MIN_POSITIVE, "{x}");
        let (x, _) = smallest([0.0, 7.0], &mut |x| (x - 3.21).abs());
        assert!((x - 3.21).abs() < 1e-7, "{x}");
    }

    #[test]
    fn the_lower_of_two_valleys() {
        let (x, _) = smallest([0.0, 10.0], &mut |x| {
            ((x - 2.0).powi(2) + 0.5).min((x - 8.0).powi(2))
        });
        assert!((x - 8.0).abs() < 1e-7, "{x}");
    }

    #[test]
    fn a_curved_valley_in_two() {
        let rosenbrock = |x: f64, y: f64| (1.0 - x).powi(2) + 100.0 * (y - x * x).powi(2);
        let ([x, y], value) = smallest_of_two([-2.0, 2.0], [-1.0, 3.0], &rosenbrock);
        assert!((x - 1.0).abs() < 1e-4 && (y - 1.0).abs() < 1e-4 && value < 1e-9);
    }
}
