//! `compare` and `gate`: whether one result is better than another, and whether it is good enough.

use chimera_domain::compare::compare;
use chimera_domain::gate::{self, Threshold};
use chimera_domain::render;
use chimera_domain::report::Report;
use chimera_domain::spec::{self, SpecFormat};
use chimera_runtime::exit::UsageError;

use crate::args::{CompareArgs, GateArgs, options};
use crate::{output, report, spec_file};

/// `chimera compare`.
pub(crate) fn compare_reports(args: &CompareArgs, json: bool) -> anyhow::Result<()> {
    let (a, b) = (report::read(&args.a)?, report::read(&args.b)?);
    let found = compare(&a, &b, &options(&args.metrics));
    let text = render::comparison_markdown(&found);
    if let Some(out) = &args.out {
        output::write_file(out, text.as_bytes())?;
    }
    if json {
        return output::print_json(&found);
    }
    let text = match &args.out {
        Some(out) => format!("{}\nwritten to {}\n", found.sentence, out.display()),
        None => text,
    };
    output::print(text.as_bytes()).map(|_| ())
}

/// `chimera gate`.
pub(crate) fn gate(args: &GateArgs, json: bool) -> anyhow::Result<()> {
    let result = report::read(&args.report)?;
    let rules = rules(args, &result)?;
    let baseline = args.baseline.as_deref().map(report::read).transpose()?;
    if rules.is_empty() && baseline.is_none() {
        return Err(UsageError(format!(
            "there is nothing to judge {} by: its spec has no [gate] table, so give --rule, --spec, \
             --preset or --baseline",
            args.report.display()
        ))
        .into());
    }
    let found = gate::judge(&result, baseline.as_ref(), &rules, &options(&args.metrics));
    if let Some(path) = &args.junit {
        output::write_file(path, render::gate_junit(&found).as_bytes())?;
    }
    let text = render::gate_markdown(&found);
    if let Some(path) = &args.markdown {
        output::write_file(path, text.as_bytes())?;
    }
    if json {
        output::print_json(&found)?;
    } else {
        output::print(text.as_bytes())?;
    }
    if let Some(preset) = args.preset {
        output::hint(preset.note());
    }
    anyhow::ensure!(found.passed, "{}", found.sentence);
    Ok(())
}

/// The rules asked for; where nothing is, those of the report's own spec.
fn rules(args: &GateArgs, result: &Report) -> anyhow::Result<Vec<Threshold>> {
    let mut rules = args.rules.clone();
    if let Some(preset) = args.preset {
        rules.extend(preset.thresholds());
    }
    if let Some(path) = &args.spec {
        let found = spec_file::read(path)?.spec.gate().to_vec();
        if found.is_empty() {
            return Err(UsageError(format!("{} has no [gate] table", path.display())).into());
        }
        rules.extend(found);
    }
    let asked = !rules.is_empty() || args.spec.is_some() || args.baseline.is_some();
    if let (false, Some(text)) = (asked, &result.spec) {
        let spec = spec::parse(text, SpecFormat::of(text))
            .map_err(|e| UsageError(format!("the report's own spec: {e}")))?;
        rules.extend_from_slice(spec.gate());
    }
    Ok(rules)
}
