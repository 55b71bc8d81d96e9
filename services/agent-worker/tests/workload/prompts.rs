//! Aggregates to prompts, by the built-in templates and a user's.

use std::path::Path;

use agent_worker::workload::prompt::{
    EXCERPT_TOKENS, EXCERPT_WORDS, MAX_PROMPT_TOKENS, NonceSource, excerpt,
};
use agent_worker::workload::tokens::estimate;
use agent_worker::workload::{
    Agent, Aggregates, Nonce, PromptBudget, STEPS, StepKind, TemplateError, Templates,
};
use chimera_domain::ids::{AgentId, Role, RunId};
use chimera_domain::options::EngineOptions;

use crate::{folder, read, shipped};

const ROLES: [&str; 5] = ["collector", "insight", "critic", "planner", "auditor"];

fn nonces(attempt: u32) -> NonceSource {
    NonceSource {
        plan_seed: 42,
        run: RunId::try_new("t1-r1-together").unwrap(),
        attempt,
        agent: AgentId::try_new("collector").unwrap(),
    }
}

fn budget(num_ctx: u32, num_predict: u32) -> PromptBudget {
    PromptBudget::for_options(&EngineOptions {
        num_ctx,
        num_predict,
        ..EngineOptions::default()
    })
}

fn agent<'a>(
    role: &str,
    templates: &'a Templates,
    data: &Aggregates,
    b: PromptBudget,
) -> Agent<'a> {
    Agent::new(Role::try_new(role).unwrap(), templates, data, nonces(1), b)
}

/// What a model might have written, longer than the quote.
fn answer() -> String {
    (1..=EXCERPT_WORDS + 20)
        .map(|i| format!("word{}", i % 10))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn golden_prompts() {
    let templates = Templates::builtin().unwrap();
    let data = shipped();
    for role in ROLES {
        let agent = agent(role, &templates, &data, budget(2048, 128));
        for step in STEPS {
            let previous = (step == StepKind::Report).then(answer);
            let prompt = agent.prompt(step, previous.as_deref()).unwrap();
            assert_eq!(prompt.note, None, "{role}");
            println!(
                "{role} {}: {} characters, at most {} tokens",
                step.as_str(),
                prompt.content.chars().count(),
                prompt.estimated_tokens
            );
            insta::assert_snapshot!(format!("{role}.{}", step.as_str()), prompt.content);
        }
    }
}

#[test]
fn legs_differ_in_the_nonce_alone() {
    let templates = Templates::builtin().unwrap();
    let data = shipped();
    let role = || Role::try_new("insight").unwrap();
    let solo = NonceSource {
        run: RunId::try_new("t1-r1-solo-insight").unwrap(),
        ..nonces(1)
    };
    let alone = Agent::new(role(), &templates, &data, solo, budget(2048, 128));
    let together = Agent::new(role(), &templates, &data, nonces(1), budget(2048, 128));
    for step in STEPS {
        let a = alone.prompt(step, Some("the same")).unwrap();
        let b = together.prompt(step, Some("the same")).unwrap();
        assert_ne!(a.content, b.content);
        assert_eq!(a.estimated_tokens, b.estimated_tokens);
        let head = "[session 00000000]\n".len();
        assert!(a.content.starts_with("[session "));
        assert_eq!(&a.content[head..], &b.content[head..]);
    }
}

#[test]
fn nonces_are_eight_digits_and_all_parts_count() {
    let run = |id: &str| RunId::try_new(id).unwrap();
    let who = |id: &str| AgentId::try_new(id).unwrap();
    let base = Nonce::derive(42, &run("r"), 1, &who("a"), StepKind::Analysis);
    // Pinned: a change would make old runs impossible to replay.
    insta::assert_snapshot!(base, @"49930599");
    let others = [
        Nonce::derive(43, &run("r"), 1, &who("a"), StepKind::Analysis),
        Nonce::derive(42, &run("ra"), 1, &who("a"), StepKind::Analysis),
        Nonce::derive(42, &run("r"), 2, &who("a"), StepKind::Analysis),
        Nonce::derive(42, &run("r"), 1, &who("b"), StepKind::Analysis),
        Nonce::derive(42, &run("r"), 1, &who("a"), StepKind::Report),
    ];
    for other in others {
        assert_ne!(other, base);
        assert!(other.as_str().len() == 8 && other.as_str().bytes().all(|b| b.is_ascii_digit()));
    }
}

#[test]
fn a_small_context_costs_rows_and_the_prompt_says_so() {
    let templates = Templates::builtin().unwrap();
    let data = shipped();
    let mut shorter = usize::MAX;
    for num_ctx in [640, 560, 512, 480, 440] {
        let agent = agent("collector", &templates, &data, budget(num_ctx, 128));
        let prompt = agent.prompt(StepKind::Analysis, None).unwrap();
        assert!(
            prompt.estimated_tokens <= budget(num_ctx, 128).tokens(),
            "{num_ctx}"
        );
        assert!(prompt.content.len() <= shorter);
        shorter = prompt.content.len();
        assert_eq!(
            prompt.note.is_some(),
            prompt.content.contains("left out to fit"),
            "{num_ctx}"
        );
    }
    let agent = agent("collector", &templates, &data, budget(440, 128));
    let prompt = agent.prompt(StepKind::Analysis, None).unwrap();
    insta::assert_snapshot!(
        "trimmed",
        format!("{}\n\nnote: {}", prompt.content, prompt.note.unwrap())
    );
}

#[test]
fn a_context_too_small_for_the_question_is_an_error_with_a_remedy() {
    let templates = Templates::builtin().unwrap();
    let agent = agent("collector", &templates, &shipped(), budget(160, 128));
    let error = agent.prompt(StepKind::Analysis, None).unwrap_err();
    assert!(
        matches!(error, TemplateError::TooLong { budget: 16, .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("raise num_ctx or lower num_predict")
    );
    assert_eq!(budget(100, 128).tokens(), 0);
    assert_eq!(budget(1 << 20, 128).tokens(), MAX_PROMPT_TOKENS);
}

#[test]
fn many_columns_are_cut_to_the_bound() {
    let names: Vec<String> = (0..120).map(|i| format!("metric_{i}_ms")).collect();
    let cells: Vec<String> = (0..120).map(|i| format!("{i}.25")).collect();
    let text = format!("{}\n{}\n", names.join(","), cells.join(","));
    let dir = folder(&[("a.csv", text.as_bytes())]);
    let templates = Templates::builtin().unwrap();
    let agent = agent(
        "collector",
        &templates,
        &read(dir.path()).unwrap(),
        budget(32_768, 128),
    );
    let prompt = agent.prompt(StepKind::Analysis, None).unwrap();
    assert!(prompt.estimated_tokens <= MAX_PROMPT_TOKENS);
    assert!(prompt.note.unwrap().contains("columns"));
}

#[test]
fn nothing_is_left_out_of_a_list_that_is_not_shown() {
    let names: Vec<String> = (0..60).map(|i| format!("word_{i}")).collect();
    let words = vec!["w"; 60].join(",");
    let text = format!("{},x\n{words},1\n", names.join(","));
    let dir = folder(&[("a.csv", text.as_bytes())]);
    let data = read(dir.path()).unwrap();
    let templates = Templates::builtin().unwrap();
    let note = |role: &str| {
        let agent = agent(role, &templates, &data, budget(32_768, 128));
        agent.prompt(StepKind::Analysis, None).unwrap().note
    };
    // The insight role shows no text columns; the collector has no room for all of them.
    assert_eq!(note("insight"), None);
    assert!(note("collector").unwrap().contains("text columns"));
}

#[test]
fn the_quote_is_bounded_in_words_and_tokens() {
    assert_eq!(excerpt("  a\n\nb  c "), "a b c");
    assert_eq!(
        excerpt(&answer()).split(' ').count(),
        EXCERPT_WORDS.min(excerpt(&answer()).split(' ').count())
    );
    assert_eq!(
        excerpt(&"the ".repeat(500)).split(' ').count(),
        EXCERPT_WORDS
    );
    assert!(estimate(&excerpt(&"0123456789 ".repeat(500))) <= EXCERPT_TOKENS);
    assert_eq!(excerpt(&"9".repeat(10_000)), "");
}

#[test]
fn what_the_model_wrote_changes_no_other_line() {
    let templates = Templates::builtin().unwrap();
    let data = shipped();
    let agent = agent("collector", &templates, &data, budget(700, 128));
    let lines = |previous: &str| -> Vec<String> {
        let prompt = agent.prompt(StepKind::Report, Some(previous)).unwrap();
        let tokens = prompt.estimated_tokens;
        assert!(
            tokens <= budget(700, 128).tokens(),
            "{tokens}: {}",
            prompt.content
        );
        prompt
            .content
            .lines()
            .filter(|l| !l.starts_with("Your analysis"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(lines("short"), lines(&answer()));
}

#[test]
fn a_users_template_wins_and_may_include_ours() {
    let dir = folder(&[
        (
            "collector.analysis.md.j2",
            b"Mine, {{ role }}.\n{% include \"facts.md.j2\" %}",
        ),
        ("auditor.report.md.j2", b"Audit of {{ rows }} rows."),
        ("notes.txt", b"{{ not a template"),
    ]);
    let templates = Templates::with_user_folder(dir.path()).unwrap();
    let data = shipped();
    let of = |role: &str, step| {
        agent(role, &templates, &data, budget(2048, 128))
            .prompt(step, None)
            .unwrap()
            .content
    };
    assert!(of("collector", StepKind::Analysis).contains("Mine, collector.\nData: 264 rows"));
    assert!(of("collector", StepKind::Report).contains("collection report"));
    assert!(of("auditor", StepKind::Report).ends_with("Audit of 264 rows."));
    assert!(of("auditor", StepKind::Analysis).contains("You are the auditor"));
}

#[test]
fn a_users_bad_template_is_named() {
    let load = |text: &[u8]| {
        let dir = folder(&[("x.analysis.md.j2", text)]);
        match Templates::with_user_folder(dir.path()) {
            Err(error) => error.to_string(),
            Ok(templates) => agent("x", &templates, &shipped(), budget(2048, 128))
                .prompt(StepKind::Analysis, None)
                .unwrap_err()
                .to_string(),
        }
    };
    for (text, message) in [
        (&b"{% if %}"[..], "'x.analysis.md.j2' is not valid"),
        (b"{{ typo }}", "'x.analysis.md.j2' cannot be filled"),
        (b"{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}", "cannot be filled"),
        (b"  \n ", "gives an empty prompt"),
        (b"\xff", "cannot be read"),
    ] {
        let error = load(text);
        assert!(error.contains(message), "{error}");
    }
    let large = vec![b'a'; (64 << 10) + 1];
    assert!(load(&large).contains("too large"));
    let missing = Templates::with_user_folder(Path::new("/nonexistent")).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("name a readable folder or none"),
        "{missing}"
    );
}
