//! The fake driver: the script as it stands now, who has initialised, and where each list is.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::script::{Answer, ErrorName, Gpu, Process, Processes, Script, Step};

/// The environment variable that names the script.
const SCRIPT_VARIABLE: &str = "FAKE_NVML_SCRIPT";
/// The script's name beside the library, where the variable is not set.
const SCRIPT_BESIDE: &str = "fake-nvml.json";
/// Devices that a handle can name.
const MAX_GPUS: usize = 255;

/// Everything this copy of the library knows.
#[derive(Default)]
pub(crate) struct Driver {
    path: Option<PathBuf>,
    seen: Option<FileId>,
    script: Script,
    /// Nested initialisations, as in the real library.
    users: u32,
    /// The script's generation when the first user came.
    generation: u64,
    /// How often a list was asked: (device, field).
    asked: HashMap<(usize, String), usize>,
}

/// Tells one content of a file from the next, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

/// Runs `call` on the driver, its script read again if the file has changed.
pub(crate) fn with<T>(
    call: impl FnOnce(&mut Driver) -> Result<T, ErrorName>,
) -> Result<T, ErrorName> {
    let mut guard: MutexGuard<'_, Option<Driver>> =
        DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
    let driver = guard.get_or_insert_with(Driver::default);
    driver.refresh()?;
    call(driver)
}

impl Driver {
    /// A script that cannot be read is an error of the driver, not an empty one: a test that forgot
    /// it should see that.
    fn refresh(&mut self) -> Result<(), ErrorName> {
        if self.path.is_none() {
            self.path = find_script();
        }
        let path = self.path.as_deref().ok_or(ErrorName::Unknown)?;
        let metadata = fs::metadata(path).map_err(|_| ErrorName::Unknown)?;
        let id = FileId::from(&metadata);
        if self.seen != Some(id) {
            let text = fs::read_to_string(path).map_err(|_| ErrorName::Unknown)?;
            self.script = serde_json::from_str(&text).map_err(|error| {
                eprintln!("fake-nvml: {}: {error}", path.display());
                ErrorName::Unknown
            })?;
            self.seen = Some(id);
            self.asked.clear();
        }
        Ok(())
    }

    pub(crate) fn init(&mut self) -> Result<(), ErrorName> {
        if let Some(error) = self.script.init {
            return Err(error);
        }
        if self.users == 0 {
            self.generation = self.script.generation;
        }
        self.users = self.users.saturating_add(1);
        Ok(())
    }

    pub(crate) fn shutdown(&mut self) -> Result<(), ErrorName> {
        self.users = self.users.checked_sub(1).ok_or(ErrorName::Uninitialized)?;
        Ok(())
    }

    fn ready(&self) -> Result<(), ErrorName> {
        if self.users == 0 || self.generation != self.script.generation {
            return Err(ErrorName::Uninitialized);
        }
        Ok(())
    }

    pub(crate) fn driver_version(&self) -> Result<&str, ErrorName> {
        self.ready()?;
        self.script
            .driver_version
            .as_deref()
            .ok_or(ErrorName::NotSupported)
    }

    pub(crate) fn count(&self) -> Result<usize, ErrorName> {
        self.ready()?;
        Ok(self.script.gpus.len().min(MAX_GPUS))
    }

    /// A handle that is no address: the device's number, and under which generation it was given.
    pub(crate) fn handle(&self, index: usize) -> Result<usize, ErrorName> {
        if index >= self.count()? {
            return Err(ErrorName::InvalidArgument);
        }
        let gpu = self
            .script
            .gpus
            .get(index)
            .ok_or(ErrorName::InvalidArgument)?;
        if let Some(error) = gpu.state {
            return Err(error);
        }
        let generation = usize::try_from(self.generation).unwrap_or(usize::MAX);
        Ok(generation.wrapping_shl(8) | (index + 1))
    }

    /// The device of a handle; one from before a reset names none.
    pub(crate) fn gpu(&self, handle: usize) -> Result<(usize, &Gpu), ErrorName> {
        self.ready()?;
        let index = (handle & 0xff)
            .checked_sub(1)
            .ok_or(ErrorName::InvalidArgument)?;
        let generation = usize::try_from(self.generation).unwrap_or(usize::MAX);
        if handle >> 8 != generation.wrapping_shl(8) >> 8 {
            return Err(ErrorName::InvalidArgument);
        }
        let gpu = self
            .script
            .gpus
            .get(index)
            .ok_or(ErrorName::InvalidArgument)?;
        match gpu.state {
            Some(error) => Err(error),
            None => Ok((index, gpu)),
        }
    }

    /// The next answer for a field of a device.
    pub(crate) fn value(&mut self, handle: usize, field: &str) -> Result<u64, ErrorName> {
        let (index, gpu) = self.gpu(handle)?;
        match gpu.fields.get(field).ok_or(ErrorName::NotSupported)? {
            Answer::Always(value) => Ok(*value),
            Answer::Fails { error } => Err(*error),
            Answer::InTurn(steps) => {
                let steps = steps.clone();
                let turn = self.asked.entry((index, field.to_owned())).or_insert(0);
                let step = steps
                    .get(*turn)
                    .or(steps.last())
                    .ok_or(ErrorName::NotSupported)?;
                *turn = turn.saturating_add(1);
                match step {
                    Step::Value(value) => Ok(*value),
                    Step::Fails { error } => Err(*error),
                }
            }
        }
    }

    pub(crate) fn compute(&self, handle: usize) -> Result<&[Process], ErrorName> {
        processes(&self.gpu(handle)?.1.compute)
    }

    pub(crate) fn graphics(&self, handle: usize) -> Result<&[Process], ErrorName> {
        processes(&self.gpu(handle)?.1.graphics)
    }
}

fn processes(answer: &Processes) -> Result<&[Process], ErrorName> {
    match answer {
        Processes::List(list) => Ok(list),
        Processes::Fails { error } => Err(*error),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a library loaded by foreign code has no other configuration; it may not link the runtime"
)]
fn find_script() -> Option<PathBuf> {
    if let Ok(path) = std::env::var(SCRIPT_VARIABLE) {
        return Some(PathBuf::from(path));
    }
    Some(own_path()?.parent()?.join(SCRIPT_BESIDE))
}

/// The file this library was loaded from: the mapping that holds one of its own functions.
fn own_path() -> Option<PathBuf> {
    let inside = own_path as fn() -> Option<PathBuf> as usize;
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        // start-end permissions offset device inode path
        let (start, rest) = line.split_once('-')?;
        let (end, _) = rest.split_once(' ')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        let path = line.get(line.find('/')?..)?;
        (start..end)
            .contains(&inside)
            .then(|| Path::new(path).to_path_buf())
    })
}
