//! Axes and words.

use proptest::prelude::*;

use super::*;

#[test]
fn ticks_are_round_and_cover_the_range() {
    let scale = Scale::linear(0.0, 2.0, (0.0, 103.0), 5);
    let texts: Vec<String> = scale.ticks().iter().map(|t| scale.tick_text(*t)).collect();
    assert_eq!(texts, ["0.0", "0.5", "1.0", "1.5", "2.0"]);
    assert!((scale.place(1.0) - 50.0).abs() < 1e-9);
    let scale = Scale::linear(0.0, 23.0, (0.0, 100.0), 5);
    let texts: Vec<String> = scale.ticks().iter().map(|t| scale.tick_text(*t)).collect();
    assert_eq!(texts, ["0", "5", "10", "15", "20"]);
}

#[test]
fn times_over_magnitudes_get_a_logarithmic_axis() {
    let scale = Scale::times(90.0, 30_000.0, (0.0, 100.0), 6);
    assert!(scale.is_log());
    assert_eq!(scale.tick_text(30.0), "30");
    assert!(!Scale::times(90.0, 900.0, (0.0, 100.0), 6).is_log());
}

#[test]
fn an_empty_or_impossible_range_is_still_an_axis() {
    for (low, high) in [(1.0, 1.0), (f64::NAN, 2.0), (0.0, f64::INFINITY)] {
        let scale = Scale::linear(low, high, (10.0, 20.0), 5);
        assert!(scale.ticks().len() > 1);
        assert!((10.0..=20.0).contains(&scale.place(0.5)));
    }
}

#[test]
fn words_are_broken_and_cut() {
    assert_eq!(
        wrap("one two three", 10.0, 45.0, 2),
        ["one two", "three"].map(str::to_owned)
    );
    let cut = fit("a very long label indeed", 10.0, 60.0);
    assert!(
        cut.ends_with('\u{2026}') && width(&cut, 10.0) <= 60.0,
        "{cut}"
    );
    assert_eq!(wrap("", 10.0, 60.0, 2), Vec::<String>::new());
}

#[test]
fn hostile_words_stay_words() {
    let mut svg = Svg::new(Layout::Wide, "a\"b");
    svg.text("l", (1.0, -0.01), Anchor::End, "</text><script>\u{0}");
    svg.circle("c", (f64::NAN, 2.25), 3.0, Some("<&'"));
    assert_eq!(
        svg.finish(10.0),
        "<svg class=\"wide\" viewBox=\"0 0 880 10\" role=\"img\" aria-label=\"a&quot;b\">\
         <text class=\"l\" x=\"1\" y=\"0\" text-anchor=\"end\">&lt;/text&gt;&lt;script&gt;\u{fffd}</text>\
         <circle class=\"c\" cx=\"0\" cy=\"2.2\" r=\"3\"><title>&lt;&amp;&#39;</title></circle></svg>"
    );
}

proptest! {
    #[test]
    fn every_value_lands_inside(low in -1e6..1e6_f64, span in 1e-6..1e9_f64, at in -1e9..1e9_f64) {
        let scale = Scale::linear(low, low + span, (5.0, 95.0), 6);
        prop_assert!((5.0..=95.0).contains(&scale.place(at)));
        prop_assert!(scale.ticks().len() <= 13);
        prop_assert!(scale.ticks().windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn what_fits_fits(text in ".{0,60}", room in 20.0..200.0_f64) {
        prop_assert!(width(&fit(&text, 12.0, room), 12.0) <= room + 1e-6);
    }
}
