//! One `metrics.json` and where it lies.

use serde_json::{Map, Value};

use super::failed;
use super::faults::Fault;
use super::fields::{Fields, Sign, join};
use crate::ids::{AgentId, Role};
use crate::quality::{self, Quality};
use crate::report::{AgentOptions, Tr110Agent, Tr110Run};

/// Largest file that is read. TR110's have 4 kB; ours hold every request of a run beside its figures.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// Most agents of a run.
const MAX_AGENTS: usize = 64;
/// What a run's folder calls the report of all agents.
const COMBINED: &str = "combined";
/// Longest text that is kept of a file.
pub(super) const MAX_TEXT: usize = 200;
/// Largest difference that two writings of one figure may have, as a part of it.
pub(super) const SAME: f64 = 1e-6;
/// Longest piece of a faulty line that an error repeats.
const SHOWN: usize = 80;

/// What the path of a file says: `phase_P_test_TTT/run_R/metrics.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunPath {
    /// Number of the test as TR110 numbers it: 1 to 18, 100 to 108, 200 to 202.
    pub test: u32,
    /// Number of the run within the test, from 1.
    pub run: u32,
    /// Number of the phase.
    pub phase: u32,
}

impl RunPath {
    /// Phase and test of a folder's name. `None`: it is no folder of a test.
    ///
    /// ```
    /// use chimera_domain::tr110::RunPath;
    /// assert_eq!(RunPath::of_test("phase_3_test_202"), Some((3, 202)));
    /// assert_eq!(RunPath::of_test("phase_3_test_x"), None);
    /// ```
    #[must_use]
    pub fn of_test(folder: &str) -> Option<(u32, u32)> {
        let (phase, test) = folder.strip_prefix("phase_")?.split_once("_test_")?;
        Some((digits(phase)?, digits(test)?))
    }

    /// Number of a run's folder. `None`: it is no folder of a run.
    #[must_use]
    pub fn of_run(folder: &str) -> Option<u32> {
        digits(folder.strip_prefix("run_")?)
    }
}

/// A number written in digits alone: no sign, no space, no more than `u32` holds.
fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    text.parse().ok()
}

/// An agent as a file states it.
#[derive(Debug, Clone, PartialEq)]
pub struct StatedAgent {
    /// Name of its object (`collector`).
    pub id: AgentId,
    /// The same as a role.
    pub role: Role,
    /// `agent_type` (`baseline`, `chimera_optimized`).
    pub kind: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Its configuration. `None`: absent or `null`, which is not the same as empty.
    pub options: Option<AgentOptions>,
    /// Whether the file describes what the optimiser expected of it.
    pub optimised: bool,
    /// Address of its engine.
    pub url: Option<String>,
    /// Its duration while together, seconds.
    pub duration_s: Option<f64>,
    /// Output tokens of all its requests.
    pub tokens: Option<u32>,
    /// What else is stated of it.
    pub stated: Tr110Agent,
    /// What its text is worth. `None`: no text lies beside the file.
    pub quality: Option<Quality>,
}

/// One run as its file states it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFile {
    /// Path of the file, relative to the folder that is imported.
    pub file: String,
    /// What the path says.
    pub path: RunPath,
    /// Number of the run that the file states.
    pub run_number: Option<u32>,
    /// Scenario, where Chimera wrote the file.
    pub scenario: Option<String>,
    /// Label, where Chimera wrote the file.
    pub label: Option<String>,
    /// The agents; the first is TR110's `baseline_*`, the second its `chimera_*`.
    pub agents: Vec<StatedAgent>,
    /// Wall time together, seconds.
    pub wall_s: Option<f64>,
    /// Sum of solo durations, where Chimera wrote the file.
    pub solo_total_s: Option<f64>,
    /// Concurrency gain, where Chimera wrote the file.
    pub gain: Option<f64>,
    /// What else is stated of the run.
    pub stated: Tr110Run,
    /// Why it cannot be averaged with others, in words. `None`: nothing speaks against it.
    pub failed: Option<String>,
    /// Whether Chimera wrote the file.
    pub ours: bool,
}

impl RunFile {
    /// Names of the files in which the texts of its agents lie, beside its own, in the agents' order.
    ///
    /// *Shape*: none for a run of ours: around what the model wrote, our files hold tables of the same
    /// data, which would be judged with it.
    #[must_use]
    pub fn text_files(&self) -> Vec<String> {
        let of = |agent: &StatedAgent| format!("{}_report.md", agent.id);
        let agents = self.agents.iter().filter(|_| !self.ours);
        agents.map(of).collect()
    }

    /// Judges the text of an agent, by its place in [`Self::agents`]. What the text was written from is
    /// not known, so its figures are not compared with any data.
    pub fn judge(&mut self, agent: usize, text: &str) {
        if let Some(agent) = self.agents.get_mut(agent) {
            agent.quality = Some(quality::judge(text, None, None));
        }
    }
}

/// Reads one file. `file` names it in errors, `path` is what its place says.
///
/// # Errors
/// Every fault of the file: it is too large, no JSON, no object, or holds fields that cannot be.
pub fn parse(file: &str, path: RunPath, bytes: &[u8]) -> Result<RunFile, Vec<Fault>> {
    let whole = |problem: String| vec![Fault::of_file(file, problem)];
    if bytes.len() > MAX_FILE_BYTES {
        return Err(whole(format!(
            "{} bytes are more than a metrics.json has (at most {MAX_FILE_BYTES})",
            bytes.len()
        )));
    }
    // Programs on Windows may write a mark of the byte order, which is no JSON.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let root: Value =
        serde_json::from_slice(bytes).map_err(|error| whole(no_json(bytes, &error)))?;
    let Value::Object(root) = root else {
        return Err(whole("no JSON object: this is no metrics.json".to_owned()));
    };
    let mut fields = Fields::new(file);
    let run = read(file, path, &root, &mut fields);
    let faults = fields.into_faults();
    match run {
        Some(run) if faults.is_empty() => Ok(run),
        _ => Err(faults),
    }
}

/// What a JSON reader says, with the line: Python writes `NaN`, and the line names the field.
fn no_json(bytes: &[u8], error: &serde_json::Error) -> String {
    let line = bytes
        .split(|byte| *byte == b'\n')
        .nth(error.line().saturating_sub(1))
        .unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    // Of one long line the part before the fault names the field.
    let near: String = line
        .chars()
        .skip(error.column().saturating_sub(SHOWN))
        .take(SHOWN)
        .collect();
    let near = near.trim();
    if near.is_empty() {
        return format!("no JSON: {error}");
    }
    format!("no JSON: {error}, at `{near}`")
}

fn read(
    file: &str,
    path: RunPath,
    root: &Map<String, Value>,
    fields: &mut Fields<'_>,
) -> Option<RunFile> {
    let Some(summary) = fields.object(root, "", "summary") else {
        let problem = match failed::error(root) {
            Some(error) => format!(
                "is missing, and the run states the error '{error}': move its folder away to import the others"
            ),
            None => "is missing: this is no metrics.json of TR110".to_owned(),
        };
        fields.fault("summary", problem);
        return None;
    };
    let ours = fields.object(root, "", "chimera");
    let names = agent_names(root, summary, ours);
    if names.is_empty() || names.len() > MAX_AGENTS {
        let problem = format!("{} agents; 1 to {MAX_AGENTS} can be", names.len());
        fields.fault("", problem);
        return None;
    }
    let mut agents = Vec::with_capacity(names.len());
    for (place, name) in names.into_iter().enumerate() {
        match (
            AgentId::try_new(name.as_str()),
            Role::try_new(name.as_str()),
        ) {
            (Ok(_), Ok(_)) if name == COMBINED => {
                fields.fault(
                    name,
                    "is the name of the run's combined report, not of an agent",
                );
            }
            (Ok(id), Ok(role)) => agents.push(agent((id, role), place, root, summary, fields)),
            (Err(error), _) | (_, Err(error)) => fields.fault(name, error.to_string()),
        }
    }
    let mut number = |name: &str, sign| fields.number(summary, "summary", name, sign);
    let wall_s = number("concurrent_wall_time", Sign::NotNegative);
    let solo_total_s = number("solo_total_time", Sign::NotNegative);
    let gain = number("concurrency_gain", Sign::NotNegative);
    let stated = Tr110Run {
        throughput_delta_tokens_per_s: number("throughput_delta", Sign::Any),
        ttft_delta_ms: number("ttft_delta_ms", Sign::Any),
        sequential_estimated_s: number("sequential_estimated_time", Sign::NotNegative),
        concurrency_speedup: number("concurrency_speedup", Sign::NotNegative),
        gpu_memory_peak_gb: number("gpu_memory_peak", Sign::NotNegative),
        contention: fields.flag(summary, "summary", "resource_contention_detected"),
    };
    if wall_s.is_some_and(|wall| wall <= 0.0) {
        fields.fault("summary.concurrent_wall_time", "0: a run takes time");
    }
    let text = |name: &str, fields: &mut Fields<'_>| {
        ours.and_then(|ours| fields.text(ours, "chimera", name))
            .map(|text| clipped(&text))
    };
    let failed = failed::why(root, summary, &agents, wall_s);
    Some(RunFile {
        failed,
        ours: ours.is_some(),
        file: file.to_owned(),
        path,
        run_number: fields.whole(summary, "summary", "run_number"),
        scenario: text("scenario", fields),
        label: text("label", fields),
        agents,
        wall_s,
        solo_total_s,
        gain,
        stated,
    })
}

/// Names of the agents, first agent first.
///
/// TR110's are `collector` and `insight`. Where Chimera wrote the file, it states the order itself.
/// Every other object that looks like an agent follows by its name.
fn agent_names(
    root: &Map<String, Value>,
    summary: &Map<String, Value>,
    ours: Option<&Map<String, Value>>,
) -> Vec<String> {
    const MARKS: [&str; 4] = [
        "agent_type",
        "configuration",
        "aggregate_metrics",
        "execution_summary",
    ];
    let mut names: Vec<String> = ours
        .and_then(|ours| ours.get("run")?.get("agents")?.as_array())
        .into_iter()
        .flatten()
        .filter_map(|agent| Some(agent.get("agent")?.as_str()?.to_owned()))
        .take(MAX_AGENTS.saturating_add(1))
        .collect();
    if names.is_empty() {
        let known = ["collector", "insight"];
        let there = |name: &&str| {
            root.contains_key(*name) || root.contains_key(&format!("{name}_execution_time"))
        };
        names.extend(
            known
                .iter()
                .filter(|name| there(name))
                .map(|n| (*n).to_owned()),
        );
    }
    for (name, value) in root {
        let described = MARKS.iter().any(|mark| value.get(mark).is_some());
        let timed = name.strip_suffix("_execution_time");
        let found = match timed {
            Some(timed) => Some(timed),
            None if described && name != "summary" && name != "chimera" => Some(name.as_str()),
            None => None,
        };
        if let Some(found) = found
            && !names.iter().any(|known| known == found)
        {
            names.push(found.to_owned());
        }
    }
    if names.is_empty()
        && (summary.contains_key("baseline_duration") || summary.contains_key("chimera_duration"))
    {
        names = vec!["collector".to_owned(), "insight".to_owned()];
    }
    in_order(names, root, summary)
}

/// Two agents in the order in which the summary counts them: where the names do not say which is
/// first, the durations do, since each stands in the file under the agent's name too.
fn in_order(
    mut names: Vec<String>,
    root: &Map<String, Value>,
    summary: &Map<String, Value>,
) -> Vec<String> {
    let seconds = |object: &Map<String, Value>, field: &str| object.get(field)?.as_f64();
    let by_summary = ["baseline", "chimera"].map(|p| seconds(summary, &format!("{p}_duration")));
    let [Some(first), Some(second)] = by_summary else {
        return names;
    };
    let own = |name: &String| seconds(root, &format!("{name}_execution_time"));
    if let [one, other] = names.as_mut_slice()
        && let (Some(of_one), Some(of_other)) = (own(one), own(other))
    {
        let off = |a: f64, b: f64| (a - first).abs() + (b - second).abs();
        // Only where the other order fits to the digit: else the file disagrees with itself.
        let exact = SAME * (first + second);
        if off(of_one, of_other) > exact && off(of_other, of_one) <= exact {
            std::mem::swap(one, other);
        }
    }
    names
}

fn agent(
    (id, role): (AgentId, Role),
    place: usize,
    root: &Map<String, Value>,
    summary: &Map<String, Value>,
    fields: &mut Fields<'_>,
) -> StatedAgent {
    let name = id.to_string();
    let empty = Map::new();
    let own = fields.object(root, "", &name).unwrap_or(&empty);
    let metrics_path = join(&name, "aggregate_metrics");
    let metrics = fields
        .object(own, &name, "aggregate_metrics")
        .unwrap_or(&empty);
    // TR110 calls the first agent baseline and the second chimera, whatever they are.
    let prefix = ["baseline", "chimera"].get(place);
    let mut both = |suffix: &str, fallback: &str| {
        let of_summary = prefix.and_then(|prefix| {
            fields.number(
                summary,
                "summary",
                &format!("{prefix}_{suffix}"),
                Sign::NotNegative,
            )
        });
        // Read in any case, so that its faults are told too.
        let of_agent = fields.number(metrics, &metrics_path, fallback, Sign::NotNegative);
        of_summary.or(of_agent)
    };
    let ttft_ms = both("ttft_ms", "average_ttft_ms");
    let tokens_per_s = both("throughput", "average_tokens_per_second");
    let of_summary = prefix.and_then(|prefix| {
        let field = format!("{prefix}_duration");
        fields.number(summary, "summary", &field, Sign::NotNegative)
    });
    let timed = format!("{name}_execution_time");
    let duration_s = of_summary.or(fields.number(root, "", &timed, Sign::NotNegative));
    let mut of_metrics =
        |field: &str| fields.number(metrics, &metrics_path, field, Sign::NotNegative);
    let requests_ms = of_metrics("total_duration_ms");
    let ttft_p95_ms = of_metrics("p95_ttft_ms");
    let tokens_per_s_p95 = of_metrics("p95_tokens_per_second");
    let requests = fields.whole(metrics, &metrics_path, "total_requests");
    let tokens = fields.whole(metrics, &metrics_path, "total_tokens_generated");
    let completed = fields
        .text(own, &name, "execution_summary")
        .map(|text| !text.to_ascii_lowercase().contains("not completed"));
    let url = fields.text(summary, "summary", &format!("{name}_ollama_url"));
    StatedAgent {
        kind: fields
            .text(own, &name, "agent_type")
            .map(|text| clipped(&text)),
        model: fields.text(own, &name, "model").map(|text| clipped(&text)),
        options: options(own, &name, fields),
        optimised: own.get("chimera_config").is_some_and(Value::is_object),
        url: url.map(|text| clipped(&text)),
        duration_s,
        tokens,
        stated: Tr110Agent {
            requests,
            requests_ms,
            ttft_ms,
            ttft_p95_ms,
            tokens_per_s,
            tokens_per_s_p95,
            completed,
        },
        id,
        role,
        quality: None,
    }
}

/// The configuration of an agent. `None` where it is absent or `null`.
fn options(own: &Map<String, Value>, name: &str, fields: &mut Fields<'_>) -> Option<AgentOptions> {
    let found = fields.object(own, name, "configuration")?;
    let path = join(name, "configuration");
    let mut whole = |option: &str| fields.whole(found, &path, option);
    let (num_ctx, num_batch) = (whole("num_ctx"), whole("num_batch"));
    let (num_thread, top_k) = (whole("num_thread"), whole("top_k"));
    // Ollama reads a negative number of layers, tokens or seed as "choose yourself".
    let mut own_choice = |option: &str| {
        let chosen = found.get(option).and_then(Value::as_f64) == Some(-1.0);
        if chosen {
            return None;
        }
        fields.whole(found, &path, option)
    };
    let (num_gpu, num_predict) = (own_choice("num_gpu"), own_choice("num_predict"));
    // Seeds may be as large as the engine takes them.
    let seed = match found.get("seed").and_then(Value::as_u64) {
        Some(seed) => Some(seed),
        None => own_choice("seed").map(u64::from),
    };
    let mut number = |option: &str| fields.number(found, &path, option, Sign::NotNegative);
    let (temperature, top_p) = (number("temperature"), number("top_p"));
    let repeat_penalty = number("repeat_penalty");
    let keep_alive = match found.get("keep_alive") {
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => fields.text(found, &path, "keep_alive"),
    };
    Some(AgentOptions {
        num_gpu,
        num_ctx,
        num_batch,
        num_predict,
        num_thread,
        temperature,
        top_p,
        top_k,
        repeat_penalty,
        seed,
        keep_alive,
    })
}

fn clipped(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_TEXT)
        .collect()
}
