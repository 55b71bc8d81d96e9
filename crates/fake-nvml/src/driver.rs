//! The fake driver: the script as it stands now, who has initialised, and where each list is.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::script::{
    Answer, ErrorName, Gpu, Process, Processes, Script, Step, Utilisation, Utilisations,
};

/// The environment variable that names the script.
const SCRIPT_VARIABLE: &str = "FAKE_NVML_SCRIPT";
/// The script's name beside the library, where the variable is not set.
const SCRIPT_BESIDE: &str = "fake-nvml.json";
/// Devices that a handle can name, and instances of one.
const MAX_GPUS: usize = 255;
/// Bits of a handle that name the device and its instance; above them is the generation.
const PLACE_BITS: u32 = 16;
/// The bits that name the device.
const DEVICE_MASK: usize = 0xff;

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
    /// How often a list was asked: (place of the device, field).
    asked: HashMap<(usize, String), usize>,
    /// Xid errors of each device that nobody was told yet.
    xids: BTreeMap<usize, VecDeque<u64>>,
    /// Event sets, by number: the devices registered with them, by index.
    sets: BTreeMap<usize, Vec<usize>>,
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
            for (index, gpu) in self.script.gpus.iter().enumerate() {
                self.xids.entry(index).or_default().extend(&gpu.xids);
            }
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

    pub(crate) fn library_version(&self) -> Result<&str, ErrorName> {
        self.ready()?;
        let version = self.script.library_version.as_deref();
        version.ok_or(ErrorName::NotSupported)
    }

    pub(crate) fn cuda_version(&self) -> Result<i32, ErrorName> {
        self.ready()?;
        self.script.cuda_version.ok_or(ErrorName::NotSupported)
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
        Ok(generation.wrapping_shl(PLACE_BITS) | (index + 1))
    }

    /// The handle of an instance of a device in MIG mode.
    pub(crate) fn instance(&self, handle: usize, instance: usize) -> Result<usize, ErrorName> {
        let gpu = self.gpu(handle)?;
        let instances = gpu.mig.as_deref().ok_or(ErrorName::NotSupported)?;
        if instance >= instances.len().min(MAX_GPUS) {
            return Err(ErrorName::NotFound);
        }
        Ok(handle | (instance + 1).wrapping_shl(PLACE_BITS / 2))
    }

    /// The device, or the instance, of a handle; one from before a reset names none.
    pub(crate) fn gpu(&self, handle: usize) -> Result<&Gpu, ErrorName> {
        self.ready()?;
        let index = index_of(handle).ok_or(ErrorName::InvalidArgument)?;
        let generation = usize::try_from(self.generation).unwrap_or(usize::MAX);
        if handle >> PLACE_BITS != generation.wrapping_shl(PLACE_BITS) >> PLACE_BITS {
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
        match ((handle >> (PLACE_BITS / 2)) & DEVICE_MASK).checked_sub(1) {
            None => Ok(gpu),
            Some(instance) => gpu
                .mig
                .as_deref()
                .and_then(|instances| instances.get(instance))
                .ok_or(ErrorName::InvalidArgument),
        }
    }

    /// Whether MIG mode is on.
    pub(crate) fn mig_mode(&mut self, handle: usize) -> Result<bool, ErrorName> {
        if self.gpu(handle)?.mig.is_some() {
            return Ok(true);
        }
        Ok(self.value(handle, "mig_mode")? != 0)
    }

    /// How many instances a device can have.
    pub(crate) fn instances(&self, handle: usize) -> Result<usize, ErrorName> {
        let instances = self.gpu(handle)?.mig.as_deref();
        instances.map(<[Gpu]>::len).ok_or(ErrorName::NotSupported)
    }

    /// The next answer for a field of a device.
    pub(crate) fn value(&mut self, handle: usize, field: &str) -> Result<u64, ErrorName> {
        let place = handle & ((1 << PLACE_BITS) - 1);
        match self
            .gpu(handle)?
            .fields
            .get(field)
            .ok_or(ErrorName::NotSupported)?
        {
            Answer::Always(value) => Ok(*value),
            Answer::Fails { error } => Err(*error),
            Answer::InTurn(steps) => {
                let steps = steps.clone();
                let turn = self.asked.entry((place, field.to_owned())).or_insert(0);
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
        processes(&self.gpu(handle)?.compute)
    }

    pub(crate) fn graphics(&self, handle: usize) -> Result<&[Process], ErrorName> {
        processes(&self.gpu(handle)?.graphics)
    }

    pub(crate) fn mps(&self, handle: usize) -> Result<&[Process], ErrorName> {
        processes(&self.gpu(handle)?.mps)
    }

    /// What processes used in windows that ended after `since`.
    pub(crate) fn utilisation(
        &self,
        handle: usize,
        since: u64,
    ) -> Result<Vec<Utilisation>, ErrorName> {
        let all = match &self.gpu(handle)?.process_utilisation {
            Utilisations::List(list) => list,
            Utilisations::Fails { error } => return Err(*error),
        };
        let newer = |one: &&Utilisation| one.timestamp > since;
        let list: Vec<Utilisation> = all.iter().filter(newer).copied().collect();
        if list.is_empty() {
            return Err(ErrorName::NotFound);
        }
        Ok(list)
    }

    /// A new event set; its number, from 1.
    pub(crate) fn new_set(&mut self) -> Result<usize, ErrorName> {
        self.ready()?;
        let number = self.sets.keys().next_back().map_or(1, |last| last + 1);
        self.sets.insert(number, Vec::new());
        Ok(number)
    }

    pub(crate) fn free_set(&mut self, set: usize) -> Result<(), ErrorName> {
        let known = self.sets.remove(&set).map(|_| ());
        known.ok_or(ErrorName::InvalidArgument)
    }

    pub(crate) fn register(
        &mut self,
        handle: usize,
        events: u64,
        set: usize,
    ) -> Result<(), ErrorName> {
        if events & !self.value(handle, "event_types")? != 0 {
            return Err(ErrorName::NotSupported);
        }
        let index = index_of(handle).ok_or(ErrorName::InvalidArgument)?;
        let devices = self.sets.get_mut(&set).ok_or(ErrorName::InvalidArgument)?;
        devices.push(index);
        Ok(())
    }

    /// The next event of a set: handle of the device, and Xid. Never waits: without one it is a
    /// timeout at once.
    pub(crate) fn next_event(&mut self, set: usize) -> Result<(usize, u64), ErrorName> {
        self.ready()?;
        let devices = self.sets.get(&set).ok_or(ErrorName::InvalidArgument)?;
        for index in devices.clone() {
            let waiting = self.xids.get_mut(&index);
            if let Some(xid) = waiting.and_then(VecDeque::pop_front) {
                return Ok((index + 1, xid));
            }
            if let Some(error) = self.script.gpus.get(index).and_then(|gpu| gpu.state) {
                return Err(error);
            }
        }
        Err(ErrorName::Timeout)
    }
}

/// Position of the device that a handle names.
fn index_of(handle: usize) -> Option<usize> {
    (handle & DEVICE_MASK).checked_sub(1)
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
