use super::*;

mod fitting;
mod headers;
mod plans;

/// Ollama's `/api/show` of the Gemma 3 270M that set-up fetches.
fn gemma() -> ModelFacts {
    let show: Show = serde_json::from_str(include_str!("fixtures/gemma3-270m.show.json")).unwrap();
    ModelFacts::from_show(&show).unwrap()
}

#[test]
fn a_sum_is_estimated_as_soon_as_a_part_of_it_is() {
    let sum = Amount::derived(1).plus(Amount::derived(2));
    assert_eq!(sum, Amount::derived(3));
    assert_eq!(sum.plus(Amount::estimated(1)), Amount::estimated(4));
    assert_eq!(sum.plus(Amount::estimated(0)), sum);
}
