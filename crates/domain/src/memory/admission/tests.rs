use proptest::prelude::*;

use super::*;
use crate::memory::Provenance;

const GIB: u64 = 1 << 30;

fn node(name: &str) -> NodeId {
    NodeId::try_new(name).unwrap()
}

fn agent(name: &str) -> AgentId {
    AgentId::try_new(name).unwrap()
}

fn instance(name: &str) -> InstanceId {
    InstanceId::try_new(name).unwrap()
}

fn room(total: u64, free: u64) -> Room {
    Room {
        total_bytes: total,
        free_bytes: free,
        margin_bytes: 0,
    }
}

fn rooms(host: Option<Room>, gpus: &[(&str, Option<Room>)]) -> Rooms {
    let mut rooms = Rooms::default();
    let gpus = gpus.iter().map(|(uuid, room)| ((*uuid).to_owned(), *room));
    rooms.insert(node("n"), NodeRooms::new(host, gpus));
    rooms
}

fn appraisal(device: u64, host_only: u64) -> Appraisal {
    Appraisal {
        device: Amount::derived(device),
        host: Amount::derived(GIB),
        host_only: Amount::derived(host_only),
        mapped: None,
        held_device_bytes: 0,
        held_host_bytes: 0,
    }
}

/// Who sits where, on which GPU if it is stated, and what the worker said.
type Seat = (
    AgentId,
    InstanceId,
    Option<&'static str>,
    Result<Appraisal, &'static str>,
);

struct Gang {
    node: NodeId,
    seats: Vec<Seat>,
}

impl Gang {
    fn claims(&self) -> Vec<Claim<'_>> {
        self.seats
            .iter()
            .map(|(agent, instance, gpu, appraisal)| Claim {
                agent,
                model: "m",
                instance,
                node: &self.node,
                gpu: *gpu,
                appraisal: appraisal.as_ref().map_err(|why| *why),
            })
            .collect()
    }
}

fn two(first: Result<Appraisal, &'static str>, second: Result<Appraisal, &'static str>) -> Gang {
    Gang {
        node: node("n"),
        seats: vec![
            (agent("a"), instance("i1"), None, first),
            (agent("b"), instance("i2"), None, second),
        ],
    }
}

#[test]
fn agents_on_one_gpu_are_added_up_and_the_refusal_names_figures_and_a_way_out() {
    let gang = two(Ok(appraisal(5 * GIB, 0)), Ok(appraisal(4 * GIB, 0)));
    let host = Some(room(64 * GIB, 32 * GIB));
    let wide = rooms(host, &[("g", Some(room(12 * GIB, 9 * GIB)))]);
    let accounts = assess(&gang.claims(), &wide);
    assert_eq!(accounts.len(), 2, "the host's memory and the GPU's");
    assert_eq!(judge(Admit::Fits, &accounts), Decision::Admitted);
    let tight = rooms(host, &[("g", Some(room(12 * GIB, 9 * GIB - 1)))]);
    let refused = Admission::decide(Admit::Fits, assess(&gang.claims(), &tight), 0, false);
    assert_eq!(refused.decision, Decision::Refused);
    let words = refused.in_words();
    for part in [
        "a, b need 9663676416 bytes of GPU g of n",
        "9663676415",
        "num_ctx",
        "admit = \"warn\"",
    ] {
        assert!(words.contains(part), "{part} is not in: {words}");
    }
    let warned = judge(Admit::Warn, &assess(&gang.claims(), &tight));
    assert_eq!(warned, Decision::Overridden);
}

#[test]
fn what_the_instance_holds_already_is_not_counted_twice() {
    let mut loaded = appraisal(8 * GIB, 0);
    loaded.held_device_bytes = 8 * GIB;
    let gang = two(Ok(loaded.clone()), Ok(appraisal(0, 0)));
    let full = rooms(
        Some(room(GIB * 9, GIB * 9)),
        &[("g", Some(room(8 * GIB, 0)))],
    );
    let accounts = assess(&gang.claims(), &full);
    assert_eq!(
        judge(Admit::Fits, &accounts),
        Decision::Admitted,
        "{accounts:?}"
    );
    loaded.held_device_bytes -= 1;
    let gang = two(Ok(loaded), Ok(appraisal(0, 0)));
    let accounts = assess(&gang.claims(), &full);
    assert_eq!(judge(Admit::Fits, &accounts), Decision::Refused);
}

#[test]
fn agents_that_share_an_instance_need_its_model_once() {
    let mut gang = two(Ok(appraisal(5 * GIB, 0)), Ok(appraisal(5 * GIB, 0)));
    gang.seats[1].1 = instance("i1");
    let rooms = rooms(
        Some(room(9 * GIB, 9 * GIB)),
        &[("g", Some(room(8 * GIB, 6 * GIB)))],
    );
    let accounts = assess(&gang.claims(), &rooms);
    assert_eq!(
        judge(Admit::Fits, &accounts),
        Decision::Admitted,
        "{accounts:?}"
    );
}

#[test]
fn without_a_gpu_the_host_holds_everything_and_a_mapped_file_once() {
    let mut mapped = appraisal(5 * GIB, 5 * GIB);
    mapped.mapped = Some(Mapped {
        file: "m.gguf".into(),
        bytes: 4 * GIB,
    });
    let gang = two(Ok(mapped.clone()), Ok(mapped));
    let accounts = assess(&gang.claims(), &rooms(Some(room(16 * GIB, 6 * GIB)), &[]));
    let [account] = accounts.as_slice() else {
        panic!("{accounts:?}");
    };
    assert_eq!(account.needed_bytes, 6 * GIB);
    assert_eq!(account.gpu, None);
    assert_eq!(account.fits(), Some(true));
}

#[test]
fn what_is_not_known_is_admitted_and_said() {
    let known = || Ok(appraisal(GIB, GIB));
    let gang = two(known(), Err("the engine names no tensors"));
    let host = Some(room(64 * GIB, 32 * GIB));
    let cases: [(Rooms, &str); 4] = [
        (rooms(host, &[]), "names no tensors"),
        (rooms(host, &[("g", None)]), "names no tensors"),
        (Rooms::default(), "no telemetry of n"),
        (rooms(host, &[("g", None), ("h", None)]), "--gpu UUID"),
    ];
    for (rooms, why) in cases {
        let made = Admission::decide(Admit::Fits, assess(&gang.claims(), &rooms), 0, false);
        assert_eq!(made.decision, Decision::Unchecked, "{why}");
        assert!(made.in_words().contains(why), "{}", made.in_words());
    }
    // What is known is too much already, whatever the other needs.
    let accounts = assess(&gang.claims(), &rooms(Some(room(GIB, GIB - 1)), &[]));
    assert_eq!(judge(Admit::Fits, &accounts), Decision::Refused);
}

#[test]
fn a_gpu_split_by_mig_has_no_room_that_is_known() {
    use crate::telemetry::{GpuFacts, GpuSample, GpuUuid};
    let uuid = GpuUuid("g".into());
    let mut facts = GpuFacts::unknown(uuid.clone(), 0);
    facts.memory_total_bytes = Some(8 * GIB);
    let mut sample = GpuSample::unmeasured(uuid);
    sample.memory_used_bytes = Some(3 * GIB);
    let mut batch = batch(facts, sample);
    let mut all = Rooms::default();
    all.insert(node("n"), NodeRooms::of(&batch));
    let free = all.room(&node("n"), Some("g")).unwrap().free_bytes;
    assert_eq!(free, 5 * GIB);
    batch.gpus[0].mig_enabled = Some(true);
    all.insert(node("n"), NodeRooms::of(&batch));
    assert_eq!(all.room(&node("n"), Some("g")), None);
}

fn candidate(gpu: &str) -> Candidate {
    Candidate {
        node: node("n"),
        gpu: Some(gpu.to_owned()),
        held_bytes: 0,
    }
}

fn item(bytes: u64, eligible: &[usize]) -> Item {
    Item {
        device_bytes: bytes,
        host_only_bytes: bytes,
        eligible: eligible.to_vec(),
    }
}

#[test]
fn the_largest_are_placed_first_and_pinned_ones_before_them() {
    let two_gpus = rooms(
        None,
        &[("g", Some(room(10, 10))), ("h", Some(room(10, 10)))],
    );
    let seats = [
        candidate("g"),
        candidate("g"),
        candidate("h"),
        candidate("h"),
    ];
    let all = [0, 1, 2, 3];
    let items = [item(3, &all), item(7, &all), item(4, &all), item(6, &all)];
    // 7 and 3 on g, 6 and 4 on h.
    assert_eq!(place(&items, &seats, &two_gpus), Some(vec![1, 0, 3, 2]));
    let pinned = [item(3, &all), item(7, &all), item(8, &[0])];
    let placed = place(&pinned, &seats, &two_gpus).unwrap();
    assert_eq!(placed[2], 0);
    assert_eq!(placed[1], 2, "7 does not fit beside 8");
    let too_much = [item(9, &all), item(9, &all), item(2, &all)];
    assert_eq!(place(&too_much, &seats, &two_gpus), None);
    let unknown = rooms(None, &[("g", None), ("h", Some(room(10, 10)))]);
    assert_eq!(place(&[item(1, &all)], &seats, &unknown), Some(vec![2]));
}

proptest! {
    #[test]
    fn nothing_is_placed_beyond_what_is_free(
        sizes in prop::collection::vec(0_u64..20, 1..8),
        seats in prop::collection::vec(0_usize..3, 1..10),
        free in prop::collection::vec(0_u64..40, 3),
    ) {
        let names = ["g", "h", "i"];
        let gpus: Vec<(&str, Option<Room>)> = names
            .iter()
            .zip(&free)
            .map(|(name, free)| (*name, Some(room(40, *free))))
            .collect();
        let rooms = rooms(None, &gpus);
        let candidates: Vec<Candidate> = seats.iter().map(|gpu| candidate(names[*gpu])).collect();
        let all: Vec<usize> = (0..candidates.len()).collect();
        let items: Vec<Item> = sizes.iter().map(|size| item(*size, &all)).collect();
        let placed = place(&items, &candidates, &rooms);
        prop_assert_eq!(&placed, &place(&items, &candidates, &rooms), "deterministic");
        if let Some(placed) = placed {
            let mut used = [0_u64; 3];
            for (seat, size) in placed.iter().zip(&sizes) {
                used[seats[*seat]] += size;
            }
            for (used, free) in used.iter().zip(&free) {
                prop_assert!(used <= free);
            }
            let distinct: BTreeSet<usize> = placed.iter().copied().collect();
            prop_assert_eq!(distinct.len(), placed.len());
        }
    }

    #[test]
    fn a_gang_is_admitted_only_if_every_memory_has_room(
        needs in prop::collection::vec((0_u64..100, 0_u64..50), 1..6),
        free in 0_u64..400,
    ) {
        let gang = Gang {
            node: node("n"),
            seats: needs
                .iter()
                .enumerate()
                .map(|(i, (device, held))| {
                    let mut need = appraisal(*device, 0);
                    need.host = Amount { bytes: 0, provenance: Provenance::Derived };
                    need.held_device_bytes = *held;
                    (agent(&format!("a{i}")), instance(&format!("i{i}")), None, Ok(need))
                })
                .collect(),
        };
        let rooms = rooms(Some(room(1, 1)), &[("g", Some(room(10_000, free)))]);
        let decision = judge(Admit::Fits, &assess(&gang.claims(), &rooms));
        let needed: u64 = needs.iter().map(|(device, _)| device).sum();
        let held: u64 = needs
            .iter()
            .filter(|(device, _)| *device > 0)
            .map(|(_, held)| held)
            .sum();
        let fits = needed <= free + held;
        prop_assert_eq!(decision == Decision::Admitted, fits);
        prop_assert_eq!(decision == Decision::Refused, !fits);
    }
}

fn batch(
    facts: crate::telemetry::GpuFacts,
    gpu: crate::telemetry::GpuSample,
) -> crate::telemetry::TelemetryBatch {
    use crate::telemetry::{HostSample, Sample, TelemetryBatch};
    use crate::units::{BootId, ClockReading, MonoNs};
    TelemetryBatch {
        node: node("n"),
        sampler_started: MonoNs(0),
        seq: 1,
        clock: ClockReading {
            boot_id: BootId("boot".into()),
            mono_ns: MonoNs(1),
            wall_unix_ns: 1,
        },
        period_ns: 50_000_000,
        gpus: vec![facts],
        probes: Vec::new(),
        samples: vec![Sample {
            at: MonoNs(1),
            took_ns: 0,
            host: HostSample::default(),
            processes: Vec::new(),
            gpus: vec![gpu],
        }],
        gaps: Vec::new(),
        gpu_errors: Vec::new(),
    }
}
