//! The disk of the simulation: everything from one seed, everything counted.

use std::time::Duration;

use super::faults::{Faults, Settings, Stop};
use super::file::{Fates, File};
use super::folder::{Folder, Node};
use super::{Disk, DiskError, Handle, SECTOR};
use crate::rng::Rng;
use crate::tally::Tally;
use crate::trace::Trace;

const ROOT: Node = 0;

#[derive(Clone, Debug)]
enum Content {
    File(File),
    Folder(Folder),
}

#[derive(Clone, Debug)]
struct Inode {
    content: Content,
    /// The first name that it had, for reports.
    path: String,
    /// A sync of it failed: nothing tells any more what of it is on the medium.
    is_doubtful: bool,
}

/// See the module.
#[derive(Debug)]
pub struct SimulatedDisk {
    /// What goes wrong at the moment.
    pub faults: Faults,
    /// What happened.
    pub tally: Tally,
    /// In order.
    pub trace: Trace,
    settings: Settings,
    rng: Rng,
    nodes: Vec<Inode>,
    /// Counts starts of processes: handles are good for one.
    boot: u64,
    /// Counts changes: files and folders share it, so that it tells what was reordered.
    number: u64,
    operations: u64,
    /// What the operations took so far, in nanoseconds.
    now: u64,
    /// The operation in which the process or the machine ends.
    stop_at: Option<(u64, Stop)>,
    stopped: Option<Stop>,
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new(seed: u64, settings: Settings, print: bool) -> Self {
        let root = Inode {
            content: Content::Folder(Folder::default()),
            path: "/".into(),
            is_doubtful: false,
        };
        Self {
            faults: Faults::default(),
            tally: Tally::default(),
            trace: Trace::new(print),
            settings,
            rng: Rng::new(seed),
            nodes: vec![root],
            boot: 0,
            number: 0,
            operations: 0,
            now: 0,
            stop_at: None,
            stopped: None,
        }
    }

    /// A line of the trace.
    pub fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.line(self.now, self.operations, what);
    }

    /// What all operations took.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    /// The process or the machine ends within so many more operations: in the middle of that one.
    pub fn stop_within(&mut self, operations: u64, stop: Stop) {
        self.stop_at = Some((self.operations + operations, stop));
    }

    /// Begins a process after one that ended: as `stop_within` said, or by itself.
    pub fn restart(&mut self) {
        self.stop_at = None;
        match self.stopped.take().unwrap_or(Stop::Crash) {
            Stop::Crash => {
                self.boot += 1;
                self.note(format_args!("crash"));
                self.tally.add("disk: crash");
            }
            Stop::PowerCut => self.cut_power(),
        }
    }

    /// The machine loses power, and starts again: what was not synced is left in one of the ways that
    /// it may be.
    pub fn cut_power(&mut self) {
        self.boot += 1;
        self.stopped = None;
        self.tally.add("disk: power cut");
        // Power that goes long after a write, at once, or in between.
        let arrival = [0, 1000, 100, 500, 900][self.rng.index(5)];
        let (mut files, mut folders) = (Fates::default(), Fates::default());
        for inode in &mut self.nodes {
            match &mut inode.content {
                Content::File(file) => {
                    let is_tearing = self.settings.torn_sectors;
                    if file.lose_power(&mut self.rng, arrival, is_tearing, &mut files) {
                        self.tally.add("disk: torn sector");
                    }
                    inode.is_doubtful = false;
                }
                Content::Folder(folder) => {
                    folder.lose_power(&mut self.rng, arrival, &mut folders);
                }
            }
        }
        let (lost, names) = (files.lost.len() as u64, folders.lost.len() as u64);
        self.tally.add_many("disk: write lost", lost);
        self.tally.add_many("disk: change of a name lost", names);
        let torn = files.is_torn();
        self.tally.add_many("disk: write torn", u64::from(torn));
        let is_reordered = folders.is_reordered();
        self.tally
            .add_many("disk: changes of names reordered", u64::from(is_reordered));
        files.lost.append(&mut folders.lost);
        files.arrived.append(&mut folders.arrived);
        let is_reordered = files.is_reordered();
        self.tally
            .add_many("disk: writes reordered", u64::from(is_reordered));
        self.note(format_args!(
            "power cut at {arrival}: {lost} sectors lost, {names} names"
        ));
    }

    /// A bit of some file changes by itself, in a sector that is not being written. Answers the file.
    pub fn flip_bit(&mut self) -> Option<String> {
        let mut sectors = Vec::new();
        self.each_file(ROOT, &mut |node, file| {
            sectors.extend(
                file.clean_sectors()
                    .into_iter()
                    .map(|sector| (node, sector)),
            );
        });
        let (node, sector) = self.rng.pick(&sectors)?;
        let bit = self.rng.index(SECTOR * 8);
        let inode = &mut self.nodes[node];
        let Content::File(file) = &mut inode.content else {
            unreachable!("only files were looked at")
        };
        file.flip(sector, bit);
        let path = inode.path.clone();
        self.tally.add("disk: bit flipped");
        self.note(format_args!(
            "bit {bit} of sector {sector} of {path} flipped"
        ));
        Some(path)
    }

    /// Looks at every file that has a name.
    fn each_file(&self, folder: Node, look: &mut impl FnMut(Node, &File)) {
        let Content::Folder(names) = &self.nodes[folder].content else {
            return;
        };
        for (_, node) in names.nodes() {
            match &self.nodes[node].content {
                Content::File(file) => look(node, file),
                Content::Folder(_) => self.each_file(node, look),
            }
        }
    }

    fn used(&self) -> u64 {
        let mut used = 0;
        self.each_file(ROOT, &mut |_, file| used += file.len());
        used
    }

    // --- operations ---------------------------------------------------------------------------

    /// Every operation begins here: time passes, and the end may come. `true` if this is the one in
    /// whose middle it does.
    fn begin(&mut self) -> Result<bool, DiskError> {
        if self.stopped.is_some() {
            return Err(DiskError::Stopped);
        }
        self.operations += 1;
        let (mut low, mut high) = (Duration::from_micros(20), Duration::from_micros(200));
        if self.rng.chance(self.faults.slow) {
            self.tally.add("disk: slow operation");
            (low, high) = (Duration::from_millis(50), Duration::from_secs(5));
        }
        self.now += self.rng.duration(low, high);
        if let Some((at, stop)) = self.stop_at
            && self.operations >= at
        {
            self.stop_at = None;
            self.stopped = Some(stop);
        }
        Ok(self.stopped.is_some())
    }

    fn end<T>(&mut self, is_last: bool, what: &str, value: T) -> Result<T, DiskError> {
        self.note(format_args!(
            "{what}{}",
            if is_last { ", the last" } else { "" }
        ));
        if is_last {
            return Err(DiskError::Stopped);
        }
        Ok(value)
    }

    fn fail(&mut self, what: &'static str, tally: &'static str, node: Node) -> DiskError {
        self.tally.add(tally);
        let path = self.nodes[node].path.clone();
        self.note(format_args!("{what} of {path} fails"));
        DiskError::Io { what, path }
    }

    fn find(&self, path: &str) -> Result<Node, DiskError> {
        let mut node = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Content::Folder(folder) = &self.nodes[node].content else {
                return Err(DiskError::WrongKind(path.into()));
            };
            node = folder
                .get(name)
                .ok_or_else(|| DiskError::NotFound(path.into()))?;
        }
        Ok(node)
    }

    fn folder(&mut self, path: &str) -> Result<(Node, &mut Folder), DiskError> {
        let node = self.find(path)?;
        match &mut self.nodes[node].content {
            Content::Folder(folder) => Ok((node, folder)),
            Content::File(_) => Err(DiskError::WrongKind(path.into())),
        }
    }

    fn file(&mut self, handle: Handle) -> &mut File {
        assert_eq!(handle.boot, self.boot, "a handle of a process that ended");
        match &mut self.nodes[handle.node].content {
            Content::File(file) => file,
            Content::Folder(_) => unreachable!("only files have handles"),
        }
    }

    fn make(&mut self, path: &str, content: Content) -> Result<Node, DiskError> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let node = self.nodes.len();
        self.number += 1;
        let number = self.number;
        let (_, folder) = self.folder(folder)?;
        if folder.get(name).is_some() {
            return Err(DiskError::Exists(path.into()));
        }
        folder.link(number, name, node);
        self.nodes.push(Inode {
            content,
            path: path.into(),
            is_doubtful: false,
        });
        Ok(node)
    }

    /// Writes all, or fails after a beginning.
    fn put(&mut self, file: Handle, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let room = match self.settings.capacity {
            u64::MAX => u64::MAX, // and nothing to count
            capacity => capacity.saturating_sub(self.used()),
        };
        let grows = (offset + bytes.len() as u64).saturating_sub(self.file(file).len());
        let is_failing = self.rng.chance(self.faults.write);
        let mut written = bytes.len();
        if grows > room || is_failing {
            let fitting = self
                .file(file)
                .len()
                .saturating_add(room)
                .saturating_sub(offset) as usize;
            written = self.rng.index(bytes.len() + 1).min(fitting);
            if !self.settings.torn_sectors {
                let end = (offset as usize + written) / SECTOR * SECTOR;
                written = end.saturating_sub(offset as usize);
            }
        }
        self.number += 1;
        let number = self.number;
        if written > 0 {
            self.file(file).write(number, offset, &bytes[..written]);
        }
        if is_failing {
            return Err(self.fail("write", "disk: error of a write", file.node));
        }
        if grows > room {
            self.tally.add("disk: no space");
            self.note(format_args!("no space for {grows} more bytes"));
            return Err(DiskError::NoSpace);
        }
        Ok(())
    }
}

impl Disk for SimulatedDisk {
    fn create_folder(&mut self, path: &str) -> Result<(), DiskError> {
        let is_last = self.begin()?;
        self.make(path, Content::Folder(Folder::default()))?;
        self.end(is_last, &format!("create folder {path}"), ())
    }

    fn list(&mut self, folder: &str) -> Result<Vec<String>, DiskError> {
        let is_last = self.begin()?;
        let (node, found) = self.folder(folder)?;
        let names = found.names();
        if self.rng.chance(self.faults.read) {
            return Err(self.fail("list", "disk: error of a read", node));
        }
        self.end(is_last, &format!("list {folder}"), names)
    }

    fn sync_folder(&mut self, folder: &str) -> Result<(), DiskError> {
        let is_last = self.begin()?;
        let (node, _) = self.folder(folder)?;
        if self.rng.chance(self.faults.sync) {
            return Err(self.fail("sync", "disk: error of a sync of a folder", node));
        }
        if !is_last {
            self.folder(folder)?.1.sync();
        }
        self.end(is_last, &format!("sync folder {folder}"), ())
    }

    fn create(&mut self, path: &str) -> Result<Handle, DiskError> {
        let is_last = self.begin()?;
        let node = self.make(path, Content::File(File::empty()))?;
        let boot = self.boot;
        self.end(is_last, &format!("create {path}"), Handle { node, boot })
    }

    fn open(&mut self, path: &str) -> Result<Handle, DiskError> {
        let is_last = self.begin()?;
        let node = self.find(path)?;
        if matches!(self.nodes[node].content, Content::Folder(_)) {
            return Err(DiskError::WrongKind(path.into()));
        }
        let boot = self.boot;
        self.end(is_last, &format!("open {path}"), Handle { node, boot })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let is_last = self.begin()?;
        let node = self.find(from)?;
        let (folder, old) = from.rsplit_once('/').unwrap_or(("", from));
        let (other, new) = to.rsplit_once('/').unwrap_or(("", to));
        assert_eq!(folder, other, "renames stay within a folder");
        self.number += 1;
        let number = self.number;
        self.folder(folder)?.1.rename(number, old, new, node);
        self.nodes[node].path = to.into();
        self.end(is_last, &format!("rename {from} to {to}"), ())
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        let is_last = self.begin()?;
        self.find(path)?;
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.number += 1;
        let number = self.number;
        self.folder(folder)?.1.remove(number, name);
        self.end(is_last, &format!("remove {path}"), ())
    }

    fn len(&mut self, file: Handle) -> Result<u64, DiskError> {
        let is_last = self.begin()?;
        let len = self.file(file).len();
        self.end(is_last, "length", len)
    }

    fn read(&mut self, file: Handle, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let is_last = self.begin()?;
        let (end, len) = (offset + into.len() as u64, self.file(file).len());
        if end > len {
            let path = self.nodes[file.node].path.clone();
            return Err(DiskError::PastEnd { path, end, len });
        }
        if self.rng.chance(self.faults.read) {
            return Err(self.fail("read", "disk: error of a read", file.node));
        }
        self.file(file).read(offset, into);
        let (path, bytes) = (self.nodes[file.node].path.clone(), into.len());
        self.end(is_last, &format!("read {bytes} at {offset} of {path}"), ())
    }

    fn write(&mut self, file: Handle, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let is_last = self.begin()?;
        self.put(file, offset, bytes)?;
        let (path, bytes) = (self.nodes[file.node].path.clone(), bytes.len());
        self.end(is_last, &format!("write {bytes} at {offset} of {path}"), ())
    }

    fn write_synced(&mut self, file: Handle, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let is_last = self.begin()?;
        self.put(file, offset, bytes)?;
        if !is_last {
            self.sync_part(file, Some((offset, bytes.len())))?;
        }
        let (path, bytes) = (self.nodes[file.node].path.clone(), bytes.len());
        let what = format!("write synced {bytes} at {offset} of {path}");
        self.end(is_last, &what, ())
    }

    fn sync(&mut self, file: Handle) -> Result<(), DiskError> {
        let is_last = self.begin()?;
        if !is_last {
            self.sync_part(file, None)?;
        }
        let path = self.nodes[file.node].path.clone();
        self.end(is_last, &format!("sync {path}"), ())
    }
}

impl SimulatedDisk {
    /// All of a file, or some bytes; or it fails.
    fn sync_part(&mut self, file: Handle, part: Option<(u64, usize)>) -> Result<(), DiskError> {
        self.file(file); // checks the handle
        let inode = &mut self.nodes[file.node];
        let Content::File(content) = &mut inode.content else {
            unreachable!("only files have handles")
        };
        if self.rng.chance(self.faults.sync) {
            content.fail_to_sync(&mut self.rng);
            inode.is_doubtful = true;
            return Err(self.fail("sync", "disk: error of a sync", file.node));
        }
        if inode.is_doubtful && !content.is_dirty() {
            self.tally.add("disk: sync after a failed one, of nothing");
        }
        match part {
            Some((offset, bytes)) => content.sync_range(offset, bytes),
            None => content.sync(),
        }
        Ok(())
    }
}
