//! A spec in a file, read with a bound and checked whole.

use std::io::Read as _;
use std::path::Path;

use chimera_domain::spec::{self, SpecFormat, ValidSpec};
use chimera_runtime::exit::UsageError;

/// A spec that has nothing wrong with it.
#[derive(Debug)]
pub(crate) struct Checked {
    /// As the person wrote it.
    pub(crate) text: String,
    /// Its notation.
    pub(crate) format: SpecFormat,
    /// What it says.
    pub(crate) spec: ValidSpec,
}

/// Reads a spec; `-` is standard input.
///
/// # Errors
/// When it cannot be read; else everything that is wrong with it. Both are the person's to mend.
pub(crate) fn read(path: &Path) -> anyhow::Result<Checked> {
    let text = text_of(path)?;
    let format = SpecFormat::of(&text);
    let spec = spec::parse(&text, format).map_err(|errors| faults(path, &errors))?;
    Ok(Checked { text, format, spec })
}

/// The text of a spec; `-` is standard input. Longer texts than a spec may have are cut, so that the
/// check refuses them by their length.
pub(crate) fn text_of(path: &Path) -> anyhow::Result<String> {
    let limit = spec::MAX_TEXT_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| UsageError(format!("cannot read the spec {}: {error}", path.display())))?;
    // A cut may fall into a character; the length is the fault to be told then.
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) if error.as_bytes().len() > spec::MAX_TEXT_BYTES => {
            Ok(String::from_utf8_lossy(error.as_bytes()).into_owned())
        }
        Err(_) => Err(UsageError(format!("{} is not UTF-8 text", path.display())).into()),
    }
}

/// Every fault of a spec, as an error that blames the person's input.
fn faults(path: &Path, errors: &spec::SpecErrors) -> UsageError {
    let count = errors.as_slice().len() + errors.unlisted();
    let plural = if count == 1 { "" } else { "s" };
    let mut text = format!("{count} mistake{plural} in {}:", path.display());
    for line in errors.to_string().lines() {
        text.push_str("\n  ");
        text.push_str(line);
    }
    UsageError(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_still_read_far_enough_to_be_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long.toml");
        std::fs::write(&path, "# é\n".repeat(100_000)).unwrap();
        let text = text_of(&path).unwrap();
        let errors = spec::parse(&text, SpecFormat::of(&text)).unwrap_err();
        let told = faults(&path, &errors).to_string();
        assert!(
            told.starts_with("1 mistake in ") && told.contains("262144"),
            "{told}"
        );
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(text_of(&path).unwrap_err().to_string().contains("UTF-8"));
    }
}
