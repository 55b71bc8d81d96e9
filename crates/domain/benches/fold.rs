//! What an analyzer pays per experiment: folding streams, one quantile, and a whole report.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

#[path = "../tests/report/support.rs"]
mod support;

use std::hint::black_box;

use chimera_domain::stats::quantile;
use chimera_domain::timeline::{AgentTimeline, StreamIntegrity, Streams};
use criterion::{Criterion, criterion_group, criterion_main};
use support::{MS, Pace, World, planned_test};

/// Thirty runs of two agents, two requests of 400 tokens each: what a long quick test leaves.
fn world() -> World {
    let mut world = World::new(vec![planned_test(1, &["collector", "insight"], 30)]);
    let pace = Pace::new(200 * MS, 20 * MS, 400);
    let paces = [pace.clone(), pace];
    for run in 1..=30 {
        world.run(1, run, &paces, &paces);
    }
    world.close();
    world
}

fn fold(criterion: &mut Criterion) {
    let world = world();
    let streams = Streams::sort(&world.events);
    let stream = streams.ids().next().unwrap().clone();
    criterion.bench_function("fold/one stream", |bencher| {
        bencher.iter(|| {
            let records = streams.records(black_box(&stream)).iter().copied();
            AgentTimeline::fold(stream.clone(), records, StreamIntegrity::default())
        });
    });
    criterion.bench_function("fold/report of 30 runs", |bencher| {
        bencher.iter(|| black_box(&world).report());
    });
}

fn quantiles(criterion: &mut Criterion) {
    let sorted: Vec<f64> = (0..100_000_u32).map(|n| f64::from(n).sqrt()).collect();
    criterion.bench_function("quantile/100 000 values", |bencher| {
        bencher.iter(|| quantile(black_box(&sorted), black_box(0.99)));
    });
}

criterion_group!(benches, fold, quantiles);
criterion_main!(benches);
