//! What fits on a GPU.

use proptest::prelude::*;

use super::super::{
    AgentMemory, Amount, Device, EngineSettings, Layout, Provenance, Regime, fit, largest_count,
    layer_budget, tr110_layer_budget,
};
use super::gemma;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

#[test]
fn a_gpu_gives_what_its_driver_others_and_the_margin_leave() {
    let device = Device::new(12 * GIB);
    assert_eq!(device.reserved, Amount::estimated(256 * MIB));
    assert_eq!(
        device.available_bytes(),
        12 * GIB - 256 * MIB - device.margin_bytes
    );
    // As NVML reports it: 1 GiB is neither free nor reserved, so somebody else has it.
    let measured = Device::measured(12 * GIB, 10 * GIB, Some(GIB));
    assert_eq!(measured.others_bytes, GIB);
    assert_eq!(measured.reserved, Amount::derived(GIB));
    assert_eq!(measured.available_bytes(), 10 * GIB - measured.margin_bytes);
    let unsaid = Device::measured(12 * GIB, 10 * GIB, None);
    assert_eq!(unsaid.available_bytes(), measured.available_bytes());
}

#[test]
fn regimes_begin_where_tr110_says() {
    let of = |used: f64| Regime::of(used / 12.0);
    assert_eq!(of(7.9), Regime::Comfortable);
    assert_eq!(of(8.05), Regime::Pressured);
    assert_eq!(of(9.9), Regime::Pressured);
    assert_eq!(of(10.1), Regime::Thrashing);
    assert_eq!(Regime::of(f64::INFINITY), Regime::Thrashing);
}

#[test]
fn agents_fit_until_the_largest_number_of_them() {
    let device = Device::new(12 * GIB);
    let agent = Amount::derived(3 * GIB);
    let most = largest_count(agent, &device).unwrap();
    assert_eq!(most, 3);
    let with = |count| fit(&vec![agent; count], &device);
    assert!(with(3).fits && !with(4).fits);
    assert_eq!(with(3).regime, Regime::Pressured);
    assert_eq!(with(3).needed, Amount::derived(9 * GIB));
    assert_eq!(largest_count(Amount::derived(0), &device), None);
    assert_eq!(fit(&[], &device).regime, Regime::Comfortable);
}

#[test]
fn the_layer_budget_is_the_last_that_fits() {
    let facts = gemma();
    let settings = EngineSettings::new(Layout::Ollama, 8192);
    // Room for the contexts and half of the layers.
    let device = Device {
        margin_bytes: 0,
        ..Device::new(1_360 * MIB)
    };
    let budget = layer_budget(&facts, &settings, 2, &device);
    assert!((1..19).contains(&budget.layers), "{budget:?}");
    assert_eq!((budget.of, budget.provenance), (19, Provenance::Estimated));
    assert_eq!(budget.tr110, 0, "4.4 GB are more than all of it");
    let takes = |layers| {
        let settings = EngineSettings {
            gpu_layers: Some(layers),
            ..settings
        };
        let agent = AgentMemory::plan(&facts, &settings).device_total();
        fit(&[agent, agent], &device).fits
    };
    assert!(takes(budget.layers) && !takes(budget.layers + 1));
    let tiny = layer_budget(&facts, &settings, 2, &Device::new(512 * MIB));
    assert_eq!((tiny.layers, tiny.provenance), (0, Provenance::Derived));
}

#[test]
fn tr110s_formula_gives_tr110s_number() {
    // "min(26, (12GB - 4.4GB) / (0.15GB x 2)) = min(26, 25.3)"
    assert_eq!(tr110_layer_budget(12_000_000_000, 0.15e9, 26, 2), 25);
    assert_eq!(tr110_layer_budget(24_000_000_000, 0.15e9, 26, 2), 26);
    assert_eq!(tr110_layer_budget(4_000_000_000, 0.15e9, 26, 2), 0);
    assert_eq!(tr110_layer_budget(12_000_000_000, 0.15e9, 26, 0), 26);
}

proptest! {
    #[test]
    fn a_larger_gpu_never_holds_less(size in 0_u64..(100 * GIB), more in 0_u64..GIB, each in 1_u64..(8 * GIB)) {
        let count = |total| largest_count(Amount::derived(each), &Device::new(total)).unwrap();
        prop_assert!(count(size + more) >= count(size));
        let agents = count(size);
        let all = Amount::derived(each * agents);
        prop_assert!(fit(&[all], &Device::new(size)).fits || agents == 0);
    }
}
