//! What durable storage stands on: a disk that loses, reorders, tears, fails and rots.
//!
//! [`Disk`] is the seam; [`SimulatedDisk`] is a model of the worst that a file system may do and still
//! keep its word. [`log`] is a small log of the tests' own over it, and [`trial`] runs that log through
//! seeded faults: it shows that a log *can* be right on this disk, and with its [`log::Defect`]s that
//! the disk catches those that are wrong.
//!
//! # What the disk promises
//!
//! 1. What a process wrote it reads back, until the power goes; a process that dies leaves the page
//!    cache as it was.
//! 2. What was written before [`Disk::sync`] or with [`Disk::write_synced`] succeeded is on the medium.
//!    Of what was not, each sector of [`SECTOR`] bytes, and the length, is there in one of the versions
//!    that it had since, each for itself: any write may be lost, arrive in part, or before an earlier one.
//!    A sector is written whole, unless [`Settings::torn_sectors`].
//! 3. Names are of a folder: what was created, renamed or removed is on the medium once
//!    [`Disk::sync_folder`] succeeded, whatever was synced of the file itself (etcd #6368). Before, each of
//!    these is there or not, in no order. A rename is never half there.
//! 4. A failed `sync` leaves unsynced sectors old or new and takes all for clean: the next one succeeds
//!    and writes nothing (fsyncgate; cockroach #37102). A failed `sync_folder` leaves its changes as
//!    they were: a file system that cannot write its journal becomes read-only, and forgets no change.
//! 5. A failed write, also for lack of space, has written a beginning: whole sectors, perhaps none.
//!
//! # Caveats
//!
//! The seam is here and not in the node: nothing of the node writes files yet. It moves there together
//! with the storage that implements it over real files.

mod faults;
mod file;
mod folder;
pub mod log;
mod simulated;
pub mod trial;

use std::fmt;

pub use faults::{Faults, Settings, Stop};
pub use simulated::SimulatedDisk;

/// Bytes that reach the medium together, or not at all.
pub const SECTOR: usize = 512;

/// An open file. Only good in the process that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    node: usize,
    boot: u64,
}

/// What a log needs of a file system. Paths are names joined by `/`; the root is the empty path.
pub trait Disk {
    /// Makes an empty folder.
    fn create_folder(&mut self, path: &str) -> Result<(), DiskError>;

    /// The names in a folder, in order.
    fn list(&mut self, folder: &str) -> Result<Vec<String>, DiskError>;

    /// Waits until all changes of names in this folder are on the medium.
    fn sync_folder(&mut self, folder: &str) -> Result<(), DiskError>;

    /// Makes an empty file and opens it.
    fn create(&mut self, path: &str) -> Result<Handle, DiskError>;

    /// Opens a file.
    fn open(&mut self, path: &str) -> Result<Handle, DiskError>;

    /// Gives a file another name in the same folder, in place of whatever had it.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes the name of a file.
    fn remove(&mut self, path: &str) -> Result<(), DiskError>;

    /// Bytes in a file.
    fn len(&mut self, file: Handle) -> Result<u64, DiskError>;

    /// Fills `into` from `offset` on. An error fills nothing that may be believed.
    fn read(&mut self, file: Handle, offset: u64, into: &mut [u8]) -> Result<(), DiskError>;

    /// Writes into the page cache.
    fn write(&mut self, file: Handle, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Writes these bytes, and no others, through to the medium: `pwritev2` with `RWF_DSYNC`.
    fn write_synced(&mut self, file: Handle, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Waits until all that was written to this file is on the medium.
    fn sync(&mut self, file: Handle) -> Result<(), DiskError>;
}

/// Why an operation failed. Of a write or a sync that failed the outcome is *unknown*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// There is no such name.
    NotFound(String),
    /// There is one already.
    Exists(String),
    /// A folder was named where a file is wanted, or the other way round.
    WrongKind(String),
    /// There are not so many bytes in the file.
    PastEnd {
        /// The file.
        path: String,
        /// Where the reader wanted to go.
        end: u64,
        /// Where the file ends.
        len: u64,
    },
    /// The disk is full (`ENOSPC`).
    NoSpace,
    /// The device failed (`EIO`).
    Io {
        /// The operation.
        what: &'static str,
        /// The file or folder.
        path: String,
    },
    /// The process or the machine has ended.
    Stopped,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(path) => write!(f, "{path}: not there"),
            Self::Exists(path) => write!(f, "{path}: already there"),
            Self::WrongKind(path) => {
                write!(f, "{path}: a file for a folder, or a folder for a file")
            }
            Self::PastEnd { path, end, len } => write!(f, "{path}: {end} is past its end, {len}"),
            Self::NoSpace => write!(f, "no space left on the disk"),
            Self::Io { what, path } => write!(f, "{path}: error of the device in {what}"),
            Self::Stopped => write!(f, "the process has ended"),
        }
    }
}

impl std::error::Error for DiskError {}
