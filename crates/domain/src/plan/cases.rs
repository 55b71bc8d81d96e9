//! The tests of a phase before they have agents: every combination of what varies, and its name.

use crate::spec::{Labels, OptionKey, Phase, Placement, Scenario, Setting, ValidSpec};

/// What is known of the options that a phase takes over.
pub(super) enum Taken<'a> {
    /// Nothing yet: a value that they can come to stands for them, and they are called `best`.
    Open(&'a ValidSpec),
    /// These; an option that is absent is left to the engine.
    Chosen(Vec<Setting>),
}

/// One option at one point of the grid.
#[derive(Debug, Clone)]
struct Cell {
    key: OptionKey,
    /// `None`: left to the engine.
    value: Option<Setting>,
    /// `best`, until it is known.
    open: bool,
    /// Whether it tells the test from others of its phase, or from the phase that it stems from.
    named: bool,
}

/// One test of a phase.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) scenario: Scenario,
    pub(super) placement: Placement,
    pub(super) agents: u32,
    pub(super) think_ms: u32,
    point: Vec<Cell>,
    /// What the test has otherwise because its agents share an instance.
    sharing: Vec<Setting>,
}

impl Case {
    /// What the grid sets, in the order written, and what sharing changes of it.
    pub(super) fn settings(&self) -> impl Iterator<Item = Setting> {
        let changed = |key| self.sharing.iter().any(|s| s.key() == key);
        let grid = self.point.iter().filter_map(|cell| cell.value);
        let grid = grid.filter(move |s| !changed(s.key()));
        grid.chain(self.sharing.iter().copied())
    }

    /// What the grid sets an option to. *Undefined when* it leaves it to the engine.
    pub(super) fn setting(&self, key: OptionKey) -> Option<Setting> {
        self.settings().find(|s| s.key() == key)
    }
}

/// The tests of a phase, by rising id: the scenario turns slowest, then topology, number of agents
/// and think time, then the options in the order written.
pub(super) fn cases(number: u32, phase: &Phase, taken: &Taken<'_>) -> Vec<Case> {
    let points = points(number, phase, taken);
    let counts = phase.agent_counts();
    let mut cases = Vec::new();
    for scenario in phase.scenarios() {
        for placement in phase.placements() {
            for agents in &counts {
                for think_ms in phase.think_ms() {
                    cases.extend(points.iter().map(|point| Case {
                        scenario: *scenario,
                        placement: *placement,
                        agents: *agents,
                        think_ms: *think_ms,
                        point: point.clone(),
                        sharing: sharing(phase, *placement, point),
                    }));
                }
            }
        }
    }
    cases
}

fn sharing(phase: &Phase, placement: Placement, point: &[Cell]) -> Vec<Setting> {
    if !placement.is_shared() {
        return Vec::new();
    }
    let changes = phase.shared().iter();
    let value = |key| point.iter().find(|cell| cell.key == key)?.value;
    changes
        .filter_map(|change| change.on(value(change.key())))
        .collect()
}

/// Every combination of the axes' values, the last axis turning fastest.
fn points(number: u32, phase: &Phase, taken: &Taken<'_>) -> Vec<Vec<Cell>> {
    phase.grid().iter().fold(vec![Vec::new()], |points, axis| {
        let key = axis.key();
        let cell = |value, open, named| Cell {
            key,
            value,
            open,
            named,
        };
        let cells: Vec<Cell> = if axis.is_best() {
            vec![match taken {
                Taken::Open(spec) => {
                    cell(spec.candidates(number, key).first().copied(), true, true)
                }
                Taken::Chosen(settings) => {
                    let chosen = settings.iter().copied().find(|s| s.key() == key);
                    cell(chosen, false, true)
                }
            }]
        } else {
            let varies = axis.values().len() > 1;
            let each = axis.values().iter();
            each.map(|value| cell(Some(*value), false, varies))
                .collect()
        };
        let with = |point: Vec<Cell>| {
            cells.clone().into_iter().map(move |cell| {
                let mut point = point.clone();
                point.push(cell);
                point
            })
        };
        points.into_iter().flat_map(with).collect()
    })
}

/// What a person calls the test at this place of its phase.
pub(super) fn label(phase: &Phase, i: usize, case: &Case) -> String {
    let common = match phase.labels() {
        Labels::PerTest(labels) => return labels.get(i).cloned().unwrap_or_default(),
        Labels::Common(label) => Some(label.as_str()),
        Labels::Derived => None,
    };
    let mut differs: Vec<String> = Vec::new();
    if phase.scenarios().len() > 1 {
        differs.push(case.scenario.as_str().to_owned());
    }
    if phase.placements().len() > 1 {
        differs.push(case.placement.label());
    }
    if phase.agent_counts().len() > 1 {
        differs.push(format!("agents={}", case.agents));
    }
    if phase.think_ms().len() > 1 {
        differs.push(format!("think_ms={}", case.think_ms));
    }
    for cell in case.point.iter().filter(|cell| cell.named) {
        let value = match cell.value {
            _ if cell.open => "best".to_owned(),
            Some(value) => value.value_text(),
            None => "unset".to_owned(),
        };
        differs.push(format!("{}={value}", cell.key.as_str()));
    }
    match (common, differs.is_empty()) {
        (Some(label), true) => label.to_owned(),
        (Some(label), false) => format!("{label}: {}", differs.join(" ")),
        (None, true) => case.scenario.as_str().to_owned(),
        (None, false) => differs.join(" "),
    }
}
