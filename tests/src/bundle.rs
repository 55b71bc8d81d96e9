//! An experiment's folder: copies of it, and damage to the copies.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Files of records, in which the order and the number of copies of a line mean nothing.
pub const RECORDS: [&str; 2] = ["records/control.ndjson", "records/events.ndjson"];

/// Copies a folder with everything in it.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in
        std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?
    {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot copy to {}", target.display()))?;
        }
    }
    Ok(())
}

/// Every file below a folder, by path relative to it.
///
/// # Errors
/// When a folder cannot be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    fn walk(folder: &Path, base: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                walk(&path, base, found)?;
            } else {
                found.push(path.strip_prefix(base)?.to_owned());
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found)
        .with_context(|| format!("cannot read {}", folder.display()))?;
    found.sort();
    Ok(found)
}

/// Turns over one bit in the middle of a file.
///
/// # Errors
/// When the file is empty or cannot be written.
pub fn flip_bit(file: &Path) -> Result<()> {
    let mut bytes =
        std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let middle = bytes.len() / 2;
    match bytes.get_mut(middle) {
        Some(byte) => *byte ^= 1,
        None => bail!("{} is empty", file.display()),
    }
    std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

/// Shuffles the lines of a file and writes about a third of them twice; the same for the same seed.
///
/// # Errors
/// When the file cannot be read or written.
pub fn shuffle_and_duplicate(file: &Path, seed: u64) -> Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut random = Random(seed);
    let mut lines: Vec<&str> = text.lines().collect();
    let copies: Vec<&str> = lines
        .iter()
        .filter(|_| random.below(3) == 0)
        .copied()
        .collect();
    lines.extend(copies);
    for i in (1..lines.len()).rev() {
        lines.swap(i, random.below(i + 1));
    }
    let mut shuffled = lines.join("\n");
    shuffled.push('\n');
    std::fs::write(file, shuffled).with_context(|| format!("cannot write {}", file.display()))
}

/// `SplitMix64`: enough to shuffle lines.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        usize::try_from(z % limit.max(1) as u64).unwrap_or(0)
    }
}
