//! What a process is called, and whether that makes it an engine or one of ours.

/// Longest name reported, characters.
const MAX_NAME: usize = 64;

/// The programs of this project, and the bus.
const OURS: [&str; 6] = [
    "chimera",
    "coordinator",
    "agent-worker",
    "analyzer",
    "gpu-telemetry",
    "nats-server",
];

/// The name of a process that is one of ours: exactly so called, since some of the names are common
/// words.
pub(super) fn our_name(command: &str, arguments: &str) -> Option<String> {
    let program = arguments.split('\0').next().map(base);
    OURS.into_iter()
        .find(|ours| command == *ours || program == Some(*ours))
        .map(str::to_owned)
}

/// A name as it is reported.
pub(super) fn shortened(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

/// What of a process begins with a name of `names` (lower case).
///
/// `arguments`: its command line, parts ended by zero bytes.
pub(super) fn engine_name(command: &str, arguments: &str, names: &[String]) -> Option<String> {
    let mut parts = arguments.split('\0').filter(|part| !part.is_empty());
    let program = parts.next().map(base);
    let script = program
        .filter(|program| program.starts_with("python"))
        .and_then(|_| script(parts));
    [Some(command), program, script]
        .into_iter()
        .flatten()
        .find(|candidate| {
            let candidate = candidate.to_lowercase();
            names
                .iter()
                .any(|name| candidate.starts_with(name.as_str()))
        })
        .map(shortened)
}

/// What an interpreter runs: the module after `-m`, else the first argument that is no option.
fn script<'a>(mut arguments: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    loop {
        match arguments.next()? {
            "-m" => return arguments.next(),
            // Code on the command line has no name; -W and -X take a value.
            "-c" => return None,
            "-W" | "-X" => {
                arguments.next()?;
            }
            option if option.starts_with('-') => {}
            path => return Some(base(path)),
        }
    }
}

fn base(path: &str) -> &str {
    // `ollama runner --model ...` may stand in one argument where a program rewrote its title.
    let program = path.split_once(' ').map_or(path, |(program, _)| program);
    program.rsplit('/').next().unwrap_or(program)
}
