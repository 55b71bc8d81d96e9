//! Prompt templates: `<role>.<step>.md.j2`, a user's over the built-in ones, else the generic pair.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use chimera_domain::ids::Role;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;
use thiserror::Error;

use super::prompt::StepKind;

/// Largest user template, bytes.
pub const MAX_TEMPLATE_BYTES: u64 = 64 << 10;
/// Most templates in a user's folder.
pub const MAX_TEMPLATES: usize = 64;
/// Work that one rendering may take, in the engine's own unit (about one instruction).
const FUEL: u64 = 200_000;
/// How a template's file name ends.
const SUFFIX: &str = ".md.j2";
/// The role whose templates serve every role without its own.
const GENERIC: &str = "generic";

macro_rules! builtin {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../templates/", $name)))),*]
    };
}

/// The templates built in, by name.
const BUILTIN: &[(&str, &str)] = builtin![
    "categories.md.j2",
    "collector.analysis.md.j2",
    "collector.report.md.j2",
    "contrasts.md.j2",
    "critic.analysis.md.j2",
    "critic.report.md.j2",
    "facts.md.j2",
    "generic.analysis.md.j2",
    "generic.report.md.j2",
    "insight.analysis.md.j2",
    "insight.report.md.j2",
    "omitted.md.j2",
    "planner.analysis.md.j2",
    "planner.report.md.j2",
];

/// Why a prompt cannot be made.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// The user's folder cannot be read.
    #[error("the templates folder '{}' cannot be read: {source}; name a readable folder or none", folder.display())]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Over [`MAX_TEMPLATES`].
    #[error("the templates folder '{}' holds more than {MAX_TEMPLATES} templates; remove those not needed", folder.display())]
    TooMany {
        /// Which folder.
        folder: PathBuf,
    },
    /// A file that cannot be read as a template.
    #[error(
        "the template '{name}' cannot be read: {source}; it must be a regular UTF-8 file of at most {MAX_TEMPLATE_BYTES} bytes"
    )]
    Read {
        /// Its file name.
        name: String,
        /// What was wrong.
        #[source]
        source: io::Error,
    },
    /// The template engine does not take the text.
    #[error("the template '{name}' is not valid: {detail}; correct it")]
    Syntax {
        /// Its file name.
        name: String,
        /// What and where.
        detail: String,
    },
    /// The template asks for something that is not there, or for too much work.
    #[error(
        "the template '{name}' cannot be filled: {detail}; it may use what the built-in templates use"
    )]
    Render {
        /// Its file name.
        name: String,
        /// What and where.
        detail: String,
    },
    /// Nothing came out.
    #[error("the template '{name}' gives an empty prompt; write a question into it")]
    Empty {
        /// Its file name.
        name: String,
    },
    /// Not even the bare question fits.
    #[error(
        "the {step} prompt takes about {needed} tokens without any data and the context leaves {budget}; raise num_ctx or lower num_predict"
    )]
    TooLong {
        /// The step.
        step: &'static str,
        /// Tokens of the prompt with every list emptied, estimated.
        needed: u32,
        /// Tokens there are.
        budget: u32,
    },
}

/// A set of prompt templates, compiled.
///
/// An undefined name in a template is an error, never an empty text.
#[derive(Debug)]
pub struct Templates {
    env: Environment<'static>,
}

impl Templates {
    /// The templates built in: `collector`, `insight`, `critic`, `planner` and `generic`.
    ///
    /// # Errors
    /// None in a tested build; the signature is that of the template engine.
    pub fn builtin() -> Result<Self, TemplateError> {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        env.set_fuel(Some(FUEL));
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| syntax("built-in syntax", &error))?;
        env.set_syntax(syntax);
        for (name, text) in BUILTIN {
            env.add_template(name, text)
                .map_err(|error| self::syntax(name, &error))?;
        }
        Ok(Self { env })
    }

    /// The templates built in, with those of a folder (`*.md.j2`, not below it) over them.
    ///
    /// # Errors
    /// When the folder or a template in it cannot be read, or a template is not valid.
    pub fn with_user_folder(folder: &Path) -> Result<Self, TemplateError> {
        let unreadable = |source| TemplateError::Folder {
            folder: folder.to_owned(),
            source,
        };
        let mut templates = Self::builtin()?;
        let mut found = 0;
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if !name.ends_with(SUFFIX) || name.starts_with('.') {
                continue;
            }
            found += 1;
            if found > MAX_TEMPLATES {
                return Err(TemplateError::TooMany {
                    folder: folder.to_owned(),
                });
            }
            let text = read(&path).map_err(|source| TemplateError::Read {
                name: name.to_owned(),
                source,
            })?;
            templates
                .env
                .add_template_owned(name.to_owned(), text)
                .map_err(|error| syntax(name, &error))?;
        }
        Ok(templates)
    }

    /// Name of the template that serves a role's step: its own, else the generic one.
    #[must_use]
    pub fn name(&self, role: &Role, step: StepKind) -> String {
        let own = format!("{role}.{}{SUFFIX}", step.as_str());
        if self.env.get_template(&own).is_ok() {
            own
        } else {
            format!("{GENERIC}.{}{SUFFIX}", step.as_str())
        }
    }

    /// Fills a template, without blanks around the text.
    pub(super) fn render(
        &self,
        name: &str,
        context: impl Serialize,
    ) -> Result<String, TemplateError> {
        let rendered = self
            .env
            .get_template(name)
            .and_then(|template| template.render(minijinja::value::Serde(context)))
            .map_err(|error| TemplateError::Render {
                name: name.to_owned(),
                detail: describe(&error),
            })?;
        let text = rendered.trim();
        if text.is_empty() {
            return Err(TemplateError::Empty {
                name: name.to_owned(),
            });
        }
        Ok(text.to_owned())
    }
}

fn read(path: &Path) -> io::Result<String> {
    // Before it is opened: opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    let read = fs::File::open(path)?
        .take(MAX_TEMPLATE_BYTES + 1)
        .read_to_string(&mut text)?;
    if read as u64 > MAX_TEMPLATE_BYTES {
        return Err(io::Error::other("too large"));
    }
    Ok(text)
}

fn syntax(name: &str, error: &minijinja::Error) -> TemplateError {
    TemplateError::Syntax {
        name: name.to_owned(),
        detail: describe(error),
    }
}

/// The engine's words, with its place and causes, on one line.
fn describe(error: &minijinja::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
