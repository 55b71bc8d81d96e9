//! Workers that say what agents take, telemetry that says what is free, and a coordinator that
//! decides: what ends up in the control log.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::time::Duration;

use bytes::Bytes;
use chimera_domain::control::{ControlRecord, Invalid, InvalidReason, LegVerdict};
use chimera_domain::ids::{ExperimentId, InstanceId, NodeId, WorkerId};
use chimera_domain::memory::Amount;
use chimera_domain::memory::admission::{Admission, Appraisal, Decision};
use chimera_domain::options::EngineKind;
use chimera_domain::session::{CoordinatorMessage, Hello, WorkerMessage};
use chimera_domain::telemetry::{GpuFacts, GpuSample, GpuUuid, HostSample, Sample, TelemetryBatch};
use chimera_runtime::bus::Bus;
use chimera_runtime::clock;
use chimera_testkit::nats::TestNats;
use chimera_wire::api::{SpecDocument, SpecFormat, Submission};
use chimera_wire::control_client::ControlClient;
use chimera_wire::subject::{Filter, StreamName, Subject};
use chimera_wire::worker_sessions_client::WorkerSessionsClient;
use chimera_wire::{codec, pb, telemetry};
use coordinator::{Config, Coordinator};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

const GIB: u64 = 1 << 30;
/// Longest wait for an experiment of legs that end while they warm.
const PATIENCE: Duration = Duration::from_secs(60);

/// A coordinator with its bus, and workers that refuse whatever they are told to warm.
struct Stage {
    bus: Bus,
    url: String,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    _nats: TestNats,
}

impl Stage {
    async fn open(test: &str) -> Option<Self> {
        let nats = TestNats::start_or_skip(test).await?;
        let bus = nats.connect(test).await.unwrap();
        let mut config = Config::local("test".to_owned());
        config.listen = "127.0.0.1:0".parse().unwrap();
        let coordinator = Coordinator::bind(config, &bus).await.unwrap();
        let url = format!("http://{}", coordinator.address());
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let stop = shutdown.clone();
        tasks.spawn(async move { coordinator.serve(stop).await.unwrap() });
        Some(Self {
            bus,
            url,
            shutdown,
            tasks,
            _nats: nats,
        })
    }

    /// A worker on a host, with the one GPU that its engine sees and what every agent takes there.
    async fn worker(&mut self, name: &str, node: &str, gpu: Option<&str>, takes: Option<u64>) {
        let (outbox, messages) = mpsc::channel(64);
        let hello = Hello {
            worker: WorkerId::try_new(name).unwrap(),
            instance: InstanceId::try_new(format!("i-{name}")).unwrap(),
            url: String::new(),
            engine: EngineKind::Openai,
            node: NodeId::try_new(node).unwrap(),
            clock: clock::reading(),
            software: "test".to_owned(),
            gpu: gpu.map(str::to_owned),
            appraises: takes.is_some(),
        };
        outbox.send(WorkerMessage::Hello(hello)).await.unwrap();
        let requests = ReceiverStream::new(messages).map(Into::into);
        let channel = tonic::transport::Endpoint::from_shared(self.url.clone()).unwrap();
        let channel = channel.connect_lazy();
        let opened = WorkerSessionsClient::new(channel).session(requests).await;
        let mut incoming = opened.unwrap().into_inner();
        let first = incoming.message().await.unwrap().unwrap();
        let first = CoordinatorMessage::try_from(first).unwrap();
        assert!(
            matches!(first, CoordinatorMessage::Welcome { .. }),
            "{first:?}"
        );
        self.tasks.spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(300));
            let mut seq = 0;
            loop {
                let message = tokio::select! {
                    message = incoming.message() => message,
                    _ = beat.tick() => {
                        seq += 1;
                        if outbox.send(WorkerMessage::Heartbeat { seq }).await.is_err() {
                            return;
                        }
                        continue;
                    }
                };
                let Ok(Some(message)) = message else { return };
                let answer = answer(message.try_into().unwrap(), takes);
                if let Some(answer) = answer
                    && outbox.send(answer).await.is_err()
                {
                    return;
                }
            }
        });
    }

    /// Telemetry of a host with GPUs of 12 GiB, by what is free on each.
    async fn telemetry(&self, node: &str, gpus: &[(&str, u64)]) {
        let node = NodeId::try_new(node).unwrap();
        let now = clock::reading();
        let uuid = |name: &str| GpuUuid(name.to_owned());
        let batch = TelemetryBatch {
            node: node.clone(),
            sampler_started: now.mono_ns,
            seq: 1,
            period_ns: 50_000_000,
            gpus: (0..)
                .zip(gpus)
                .map(|(index, (name, _))| GpuFacts {
                    memory_total_bytes: Some(12 * GIB),
                    ..GpuFacts::unknown(uuid(name), index)
                })
                .collect(),
            probes: Vec::new(),
            samples: vec![Sample {
                at: now.mono_ns,
                took_ns: 0,
                host: HostSample {
                    memory_total_bytes: Some(64 * GIB),
                    memory_available_bytes: Some(32 * GIB),
                    ..HostSample::default()
                },
                processes: Vec::new(),
                gpus: gpus
                    .iter()
                    .map(|(name, free)| GpuSample {
                        memory_free_bytes: Some(*free),
                        ..GpuSample::unmeasured(uuid(name))
                    })
                    .collect(),
            }],
            gaps: Vec::new(),
            gpu_errors: Vec::new(),
            clock: now,
        };
        let publisher = self.bus.publisher(PATIENCE, self.shutdown.clone());
        let payload = Bytes::from(telemetry::encode_batch(&batch));
        let id = format!("tel.{node}.{}", batch.clock.mono_ns.0);
        publisher
            .publish(&Subject::Tel(node), &id, payload)
            .await
            .unwrap();
    }

    /// Runs a test of two agents, alone and together, and gives what was decided of its legs.
    async fn run(&self, schedule: &str) -> Decided {
        let text = format!(
            "name = \"x\"\nmodel.name = \"m\"\nbackend.kind = \"openai\"\n\
             [budget]\nconsecutive_failures = 0\n[schedule]\n{schedule}\n\
             [[phase]]\nscenario = \"custom\"\nagents = 2\nruns = 1\n"
        );
        let submission = Submission {
            spec: SpecDocument {
                text,
                format: SpecFormat::Toml,
            },
            experiment: None,
        };
        let mut control = ControlClient::connect(self.url.clone()).await.unwrap();
        let submitted = control
            .submit(pb::SubmitRequest::from(submission))
            .await
            .unwrap();
        let experiment = ExperimentId::try_new(submitted.into_inner().experiment).unwrap();
        let log = self
            .bus
            .follow(StreamName::Ctrl, &Filter::CtrlOf(experiment), 0);
        tokio::time::timeout(PATIENCE, Decided::read(log))
            .await
            .unwrap()
    }
}

fn answer(message: CoordinatorMessage, takes: Option<u64>) -> Option<WorkerMessage> {
    match message {
        CoordinatorMessage::Ping { id } => Some(WorkerMessage::Pong {
            id,
            clock: clock::reading(),
        }),
        CoordinatorMessage::Appraise { id, .. } => {
            let takes = Amount::derived(takes.unwrap_or(0));
            Some(WorkerMessage::Appraisal {
                id,
                appraisal: Ok(Box::new(Appraisal {
                    device: takes,
                    host: Amount::derived(0),
                    host_only: takes,
                    mapped: None,
                    held_device_bytes: 0,
                    held_host_bytes: 0,
                })),
            })
        }
        CoordinatorMessage::Reserve(assignment) => Some(WorkerMessage::LeaseReply {
            leg: assignment.leg_ref,
            agent: assignment.agent.id,
            refused: None,
        }),
        CoordinatorMessage::Warm { leg, agent } => Some(WorkerMessage::NotReady {
            leg,
            agent,
            why: Invalid {
                reason: InvalidReason::NotReady,
                detail: "this worker has no engine".to_owned(),
            },
        }),
        _ => None,
    }
}

/// What the control log of an experiment says.
#[derive(Debug, Default)]
struct Decided {
    admissions: Vec<Admission>,
    /// Agent and worker, of every member that was reserved.
    reserved: Vec<(String, String)>,
    closed: Vec<Invalid>,
}

impl Decided {
    async fn read(
        mut log: impl futures::Stream<
            Item = Result<chimera_runtime::bus::StoredMessage, chimera_runtime::bus::ReadError>,
        > + Unpin,
    ) -> Self {
        let mut decided = Self::default();
        while let Some(message) = log.next().await {
            let message = message.unwrap();
            let Ok(Subject::Ctrl { experiment, run }) = message.subject.parse() else {
                continue;
            };
            let event =
                codec::decode_control_event(&experiment, run.as_ref(), &message.payload).unwrap();
            match event.record {
                ControlRecord::Admission { admission } => decided.admissions.push(admission),
                ControlRecord::Reserved { members, .. } => decided.reserved.extend(
                    members
                        .iter()
                        .map(|m| (m.agent.to_string(), m.worker.to_string())),
                ),
                ControlRecord::Closed {
                    verdict: LegVerdict::Invalid(why),
                } => decided.closed.push(why),
                ControlRecord::ExperimentClosed { .. } => break,
                _ => {}
            }
        }
        decided
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_seated_on_the_gpus_where_they_fit_and_stay_there() {
    let Some(mut stage) = Stage::open("admission-placed").await else {
        return;
    };
    for (worker, gpu) in [("w1", "g"), ("w2", "g"), ("w3", "h")] {
        stage.worker(worker, "n", Some(gpu), Some(6 * GIB)).await;
    }
    stage
        .telemetry("n", &[("g", 10 * GIB), ("h", 10 * GIB)])
        .await;
    let decided = stage.run("admit = \"fits\"").await;
    assert_eq!(decided.admissions.len(), 3, "{decided:#?}");
    for (number, admission) in decided.admissions.iter().enumerate() {
        assert_eq!(admission.decision, Decision::Admitted, "{admission:#?}");
        // By name both would be on g; a test that has begun is not moved again.
        assert_eq!(admission.moved, number == 0);
        let workers: Vec<&str> = admission.seats.values().map(WorkerId::as_str).collect();
        assert_eq!(workers, ["w1", "w3"]);
    }
    // Two legs alone and one together.
    assert_eq!(decided.reserved.len(), 4, "{:?}", decided.reserved);
    let agents: std::collections::BTreeSet<_> = decided.reserved.iter().collect();
    assert_eq!(agents.len(), 2, "each agent on one worker: {agents:?}");
    stage.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_with_its_figures_unless_asked_for() {
    let Some(mut stage) = Stage::open("admission-refused").await else {
        return;
    };
    for worker in ["w1", "w2"] {
        stage.worker(worker, "n", None, Some(6 * GIB)).await;
    }
    stage.telemetry("n", &[("g", 10 * GIB)]).await;
    let decided = stage.run("wait_s = 0").await;
    let refused: Vec<&Invalid> = decided
        .closed
        .iter()
        .filter(|why| why.reason == InvalidReason::NoRoom)
        .collect();
    let [refused] = refused.as_slice() else {
        panic!("alone each fits: {decided:#?}");
    };
    let needed = (12 * GIB).to_string();
    assert!(
        refused.detail.contains(&needed) && refused.detail.contains("GPU g"),
        "{}",
        refused.detail
    );
    assert_eq!(decided.reserved.len(), 2, "only the solo legs");
    stage.telemetry("n", &[("g", 10 * GIB)]).await;
    let warned = stage.run("admit = \"warn\"").await;
    let made: Vec<Decision> = warned.admissions.iter().map(|a| a.decision).collect();
    let overridden = made.iter().filter(|d| **d == Decision::Overridden).count();
    assert_eq!((overridden, warned.reserved.len()), (1, 4), "{made:?}");
    let unasked = stage.run("admit = \"always\"").await;
    assert_eq!((unasked.admissions.len(), unasked.reserved.len()), (0, 4));
    stage.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_is_admitted_and_the_record_says_why() {
    let Some(mut stage) = Stage::open("admission-unknown").await else {
        return;
    };
    stage.worker("w1", "dark", None, Some(6 * GIB)).await;
    stage.worker("w2", "dark", None, None).await;
    let decided = stage.run("").await;
    assert_eq!(decided.reserved.len(), 4, "{decided:#?}");
    let words: Vec<String> = decided.admissions.iter().map(Admission::in_words).collect();
    for (admission, words) in decided.admissions.iter().zip(&words) {
        assert_eq!(admission.decision, Decision::Unchecked, "{words}");
        assert!(words.contains("no telemetry of dark"), "{words}");
    }
    stage.shutdown.cancel();
}
