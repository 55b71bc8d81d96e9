//! What `chimera bench` is to measure, checked before anything is started.

use std::path::{Path, PathBuf};

use agent_worker::workload::{self, DataSource};
use anyhow::Context as _;
use chimera_domain::ids::ExperimentId;
use chimera_domain::plan::{self, Plan};
use chimera_domain::spec::{self, FlagSpec, Instances, SpecFormat, ValidSpec};
use chimera_runtime::exit::{UsageError, chain};
use chimera_runtime::{clock, host, version};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::args::BenchArgs;
use crate::engines::{self, Choice, Wanted};
use crate::resume::{self, Saved};
use crate::{output, spec_file};

/// What is to be measured, all of it checked.
pub(crate) struct Job {
    pub(crate) spec: ValidSpec,
    pub(crate) plan: Plan,
    pub(crate) wanted: Wanted,
    pub(crate) choice: Choice,
    pub(crate) data_root: Option<PathBuf>,
    pub(crate) out: PathBuf,
    pub(crate) experiment: ExperimentId,
    /// Size of the bus's store, if it is there already.
    pub(crate) max_file_store: Option<u64>,
}

impl Job {
    /// A new job.
    ///
    /// # Errors
    /// Whatever stands against it.
    pub(crate) async fn new(args: &BenchArgs) -> anyhow::Result<Self> {
        let now = clock::wall_unix_ns();
        let out = match &args.out {
            Some(out) => out.clone(),
            None => Path::new("results").join(timestamp(now)?),
        };
        output::refuse_existing(&out)?;
        let (spec, wanted, choice, data_root) = match &args.spec {
            Some(path) => from_file(path).await?,
            None => from_flags(args).await?,
        };
        check_data(&spec, data_root.as_deref())?;
        let plan = plan::build(&spec).map_err(|e| UsageError(e.to_string()))?;
        // Chosen here, so that whoever goes on with the job finds it in the log, or knows that it
        // was never submitted.
        let experiment = format!("{}-{}", spec.name(), now / 1_000_000_000);
        if let Some(parent) = out.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make the folder {}", parent.display()))?;
        }
        Ok(Self {
            spec,
            plan,
            wanted,
            choice,
            data_root,
            out,
            experiment: ExperimentId::try_new(experiment)?,
            max_file_store: None,
        })
    }

    /// The job that was begun.
    ///
    /// # Errors
    /// When what is needed for it is not as it was.
    pub(crate) async fn again(
        saved: Saved,
        out: &Path,
        given: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let began = format!("{} was begun", out.display());
        let spec = spec::parse(&saved.spec, SpecFormat::Toml).map_err(|error| {
            UsageError(format!(
                "{began} by {}, whose spec this version does not read: {error}",
                saved.software
            ))
        })?;
        if let Some(path) = given {
            let now = settle(spec_file::read(path)?.spec, saved.engine, &saved.model);
            if now.to_toml() != saved.spec {
                return Err(UsageError(format!(
                    "{} has changed since {began}: leave it out to go on with the spec as it was, \
                     or give another --out to measure what it says now",
                    path.display()
                ))
                .into());
            }
        }
        let plan = plan::build(&spec).map_err(|e| UsageError(e.to_string()))?;
        if resume::plan_hash(&plan)? != saved.plan_sha256 {
            return Err(UsageError(format!(
                "{began} by {}, and this {} makes another plan of its spec: go on with that \
                 version, or begin anew with another --out",
                saved.software,
                version::software()
            ))
            .into());
        }
        let choice = engines::choose(&saved.wanted).await?;
        anyhow::ensure!(
            choice.kind == saved.engine && choice.model == saved.model,
            "{began} with {} and the model '{}', and what is here now is {} with '{}': bring the \
             former back, or begin anew with another --out",
            saved.engine.as_str(),
            saved.model,
            choice.kind.as_str(),
            choice.model
        );
        check_data(&spec, saved.data_root.as_deref())?;
        Ok(Self {
            spec,
            plan,
            wanted: saved.wanted,
            choice,
            data_root: saved.data_root,
            out: out.to_owned(),
            experiment: saved.experiment,
            max_file_store: saved.max_file_store,
        })
    }

    /// What must be known to go on with it.
    ///
    /// # Errors
    /// When the plan has no JSON.
    pub(crate) fn saved(&self, max_file_store: Option<u64>) -> anyhow::Result<Saved> {
        Ok(Saved {
            version: Saved::VERSION,
            software: version::software(),
            experiment: self.experiment.clone(),
            spec: self.spec.to_toml(),
            plan_sha256: resume::plan_hash(&self.plan)?,
            wanted: self.wanted.clone(),
            engine: self.choice.kind,
            model: self.choice.model.clone(),
            data_root: self.data_root.clone(),
            max_file_store,
        })
    }
}

fn check_data(spec: &ValidSpec, data_root: Option<&Path>) -> anyhow::Result<()> {
    let checked = DataSource::resolve(data_root, spec.workload().data.as_deref())
        .and_then(|source| workload::validate_data(&source));
    checked.map_err(|e| UsageError(format!("the agents' data: {}", chain(&e))))?;
    Ok(())
}

type Found = (ValidSpec, Wanted, Choice, Option<PathBuf>);

/// Data folders of a spec lie beside it.
async fn from_file(path: &Path) -> anyhow::Result<Found> {
    let spec = spec_file::read(path)?.spec;
    let instances = match spec.backend().instances() {
        Instances::Spawn => Vec::new(),
        Instances::Attach(urls) => urls.clone(),
    };
    let wanted = Wanted {
        engine: spec.backend().kind(),
        instances,
        model: (!spec.model().is_auto()).then(|| spec.model().name().to_owned()),
    };
    let choice = engines::choose(&wanted).await?;
    let root = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    // Whole: whoever goes on with it may stand in another folder.
    let root = root
        .canonicalize()
        .with_context(|| format!("cannot find the folder {}", root.display()))?;
    let spec = settle(spec, choice.kind, &choice.model);
    Ok((spec, wanted, choice, Some(root)))
}

/// What a spec may leave open.
fn settle(spec: ValidSpec, engine: chimera_domain::options::EngineKind, model: &str) -> ValidSpec {
    let spec = spec.with_engine(engine);
    if spec.model().is_auto() {
        spec.with_model(model)
    } else {
        spec
    }
}

async fn from_flags(args: &BenchArgs) -> anyhow::Result<Found> {
    let mut flags = args.flags.spec();
    let data_root = split_data(&mut flags)?;
    // Numbers are judged before a single engine is asked anything.
    FlagSpec {
        model: Some("any".to_owned()),
        ..flags.clone()
    }
    .to_valid()
    .map_err(|e| UsageError(e.to_string()))?;
    let wanted = Wanted {
        engine: flags.engine,
        instances: flags.instances.clone(),
        model: flags.model.clone().map(whole_path),
    };
    let choice = engines::choose(&wanted).await?;
    flags.engine = Some(choice.kind);
    flags.model = Some(choice.model.clone());
    let spec = if args.quick {
        if !flags.instances.is_empty() {
            return Err(UsageError(
                "--quick compares two thread counts, which an attached engine may not change: \
                 leave out --quick or --instance"
                    .to_owned(),
            )
            .into());
        }
        let cores = host::cores().unwrap_or(1);
        spec::quick(cores, choice.kind, &choice.model, &flags)
    } else {
        flags.to_valid()
    };
    let spec = spec.map_err(|e| UsageError(e.to_string()))?;
    Ok((spec, wanted, choice, data_root))
}

/// A model may be a file, and whoever goes on with the job may stand in another folder. What is not
/// there is told by whoever looks for it.
fn whole_path(model: String) -> String {
    if !model.ends_with(".gguf") {
        return model;
    }
    match Path::new(&model).canonicalize() {
        Ok(path) => path.to_str().map_or(model, str::to_owned),
        Err(_) => model,
    }
}

/// `--data` may name any folder; a spec names one below a root, so the folder's parent becomes it.
fn split_data(flags: &mut FlagSpec) -> anyhow::Result<Option<PathBuf>> {
    let Some(data) = &flags.data else {
        return Ok(None);
    };
    let path = Path::new(data)
        .canonicalize()
        .map_err(|e| UsageError(format!("--data: cannot open {data}: {e}")))?;
    let name = path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
    match (path.parent(), name) {
        (Some(parent), Some(name)) if path.is_dir() => {
            let parent = parent.to_owned();
            flags.data = Some(name);
            Ok(Some(parent))
        }
        _ => Err(UsageError(format!("--data: {data} is no folder of CSV files")).into()),
    }
}

/// `20261124-080500`, UTC.
fn timestamp(wall_unix_ns: u64) -> anyhow::Result<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(wall_unix_ns))?;
    Ok(time.format(format_description!(
        "[year][month][day]-[hour][minute][second]"
    ))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_folder_name() {
        assert_eq!(timestamp(0).unwrap(), "19700101-000000");
        assert_eq!(
            timestamp(951_827_696_000_000_000).unwrap(),
            "20000229-123456"
        );
        assert_eq!(
            timestamp(1_795_507_499_000_000_000).unwrap(),
            "20261124-080459"
        );
    }

    #[test]
    fn any_folder_can_be_data() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("csv");
        std::fs::create_dir(&data).unwrap();
        let mut flags = FlagSpec {
            data: Some(data.display().to_string()),
            ..FlagSpec::default()
        };
        let root = split_data(&mut flags).unwrap().unwrap();
        assert_eq!(flags.data.as_deref(), Some("csv"));
        assert_eq!(root, dir.path().canonicalize().unwrap());
        let mut flags = FlagSpec {
            data: Some("/no/such".into()),
            ..FlagSpec::default()
        };
        assert!(split_data(&mut flags).is_err());
    }
}
