//! What the local world keeps on disk, in `FILE.state/`: who the cluster is, which processes belong
//! to it, what they read and write.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kontiki_plan::{Discarded, Identity, IdentityRecord};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ports::Ports;
use super::process::Process;
use crate::world::WorldError;

/// The folder beside the manifest.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// What is known of the nodes. Like a StatefulSet: how many there should be, and what each is now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Nodes {
    /// The run of the machine that processes belong to.
    pub boot_id: String,
    /// How many nodes are kept; `None` before the first.
    pub replicas: Option<u32>,
    /// When `replicas` was first set, or the identity last written: seconds since 1970.
    pub wanted_since: u64,
    /// What is known of each node, by name.
    pub nodes: BTreeMap<String, NodeState>,
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// Its ports, kept for its next process.
    pub ports: Ports,
    /// Its process, if it had one when this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

/// The identity, with a version that grows by one with every write.
#[derive(Debug, Serialize, Deserialize)]
struct IdentityFile {
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<IdentityRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    discarded: Option<Discarded>,
}

/// Names an error after what was being done.
pub fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> WorldError {
    let doing = what.into();
    move |source| WorldError::Local { doing, source }
}

impl Store {
    /// The folder that belongs to `manifest`, made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(manifest: &Path) -> Result<Self, WorldError> {
        let folder = folder(manifest);
        for folder in [folder.join("nodes"), folder.join("logs")] {
            let made = fs::create_dir_all(&folder);
            made.map_err(doing(format!("make the folder {}", folder.display())))?;
        }
        // Nodes get paths from here, and have the same ones after a change of directory.
        let folder = fs::canonicalize(&folder);
        let folder = folder.map_err(doing(format!("find {}", manifest.display())))?;
        Ok(Self { folder })
    }

    /// Takes the folder for this process, until the file is dropped.
    ///
    /// # Errors
    /// Another operator has it.
    pub fn lock(&self) -> Result<File, WorldError> {
        let path = self.folder.join("lock");
        let file = File::create(&path).map_err(doing(format!("open {}", path.display())))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(WorldError::Invalid(format!(
                "another operator runs the cluster in {}: end it first",
                self.folder.display()
            ))),
            Err(TryLockError::Error(error)) => {
                Err(doing(format!("lock {}", path.display()))(error))
            }
        }
    }

    /// The configuration of a node: also what its process is known by.
    pub fn config_file(&self, node: &str) -> PathBuf {
        self.folder.join("nodes").join(format!("{node}.yaml"))
    }

    /// The log of a node.
    pub fn log_file(&self, node: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{node}.log"))
    }

    /// The status of the cluster.
    pub fn status_file(&self) -> PathBuf {
        self.folder.join("status.yaml")
    }

    fn identity_file(&self) -> PathBuf {
        self.folder.join("identity.yaml")
    }

    fn nodes_file(&self) -> PathBuf {
        self.folder.join("nodes.yaml")
    }

    /// What is known of the nodes; nothing in a new folder.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn nodes(&self) -> Result<Nodes, WorldError> {
        Ok(read(&self.nodes_file())?.unwrap_or_default())
    }

    /// Writes what is known of the nodes.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_nodes(&self, nodes: &Nodes) -> Result<(), WorldError> {
        write_yaml(&self.nodes_file(), nodes)
    }

    /// The identity. A file that cannot be read is not an absent one.
    pub fn identity(&self) -> Identity {
        let path = self.identity_file();
        let place = path.display().to_string();
        let file = match read::<IdentityFile>(&path) {
            Ok(None) => return Identity::Absent,
            Ok(Some(file)) => file,
            Err(error) => {
                let reason = crate::controller::chain(&error);
                return Identity::Unreadable { place, reason };
            }
        };
        let version = file.version.to_string();
        match (file.identity, file.discarded) {
            (Some(record), None) => Identity::Recorded { record, version },
            (None, Some(discarded)) => Identity::Discarded { discarded, version },
            _ => Identity::Unreadable {
                place,
                reason: "it must have the key identity or discarded, and not both".to_owned(),
            },
        }
    }

    /// Writes the identity over exactly the version `expects`; `None`: there is none.
    ///
    /// # Errors
    /// There is another version, or it cannot be written.
    pub fn write_identity(
        &self,
        identity: Result<&IdentityRecord, &Discarded>,
        expects: Option<&str>,
    ) -> Result<(), WorldError> {
        let found = match self.identity() {
            Identity::Absent => None,
            Identity::Recorded { version, .. } | Identity::Discarded { version, .. } => {
                Some(version)
            }
            Identity::Unreadable { place, reason } => {
                return Err(WorldError::Invalid(format!("{place}: {reason}")));
            }
        };
        if found.as_deref() != expects {
            let name = |version: Option<&str>| version.unwrap_or("absent").to_owned();
            return Err(WorldError::Moved {
                what: format!("the version of {}", self.identity_file().display()),
                expected: name(expects),
                found: name(found.as_deref()),
            });
        }
        let version = found
            .and_then(|version| version.parse().ok())
            .unwrap_or(0_u64)
            + 1;
        let file = IdentityFile {
            version,
            identity: identity.ok().cloned(),
            discarded: identity.err().cloned(),
        };
        write_yaml(&self.identity_file(), &file)
    }

    /// Forgets the identity: every process of the cluster was ended on purpose.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget_identity(&self) -> Result<(), WorldError> {
        let path = self.identity_file();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(doing(format!("remove {}", path.display()))(error))
            }
            _ => Ok(()),
        }
    }
}

/// `FILE.state`.
pub fn folder(manifest: &Path) -> PathBuf {
    let mut name = manifest.as_os_str().to_owned();
    name.push(".state");
    PathBuf::from(name)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, WorldError> {
    let what = format!("read {}", path.display());
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(doing(what)(error)),
    };
    let value = serde_yaml::from_str(&text);
    value
        .map(Some)
        .map_err(|error| doing(what)(io::Error::new(io::ErrorKind::InvalidData, error)))
}

/// Writes `value` so that a reader, and a reader after a crash, sees the old text or the new.
///
/// # Errors
/// It cannot be written.
pub fn write_yaml(path: &Path, value: &impl Serialize) -> Result<(), WorldError> {
    let what = format!("write {}", path.display());
    let text = serde_yaml::to_string(value);
    let text = text.map_err(|error| WorldError::Invalid(format!("{what}: {error}")))?;
    write_text(path, &text).map_err(doing(what))
}

/// As [`write_yaml`].
///
/// # Errors
/// It cannot be written.
pub fn write_text(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use kontiki_plan::ClusterId;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("demo.yaml")).unwrap();
        (folder, store)
    }

    fn record(cluster: u64) -> IdentityRecord {
        IdentityRecord {
            cluster: ClusterId(cluster),
            voters: BTreeMap::new(),
            initialized: false,
            previous: None,
            lost: None,
        }
    }

    #[test]
    fn an_identity_is_written_over_the_version_that_was_seen_and_no_other() {
        let (_folder, store) = store();
        assert_eq!(store.identity(), Identity::Absent);
        store.write_identity(Ok(&record(1)), None).unwrap();
        assert!(
            store.write_identity(Ok(&record(2)), None).is_err(),
            "there is one already"
        );
        store.write_identity(Ok(&record(2)), Some("1")).unwrap();
        assert!(
            store.write_identity(Ok(&record(3)), Some("1")).is_err(),
            "version 1 is gone"
        );
        let version = "2".to_owned();
        assert_eq!(
            store.identity(),
            Identity::Recorded {
                record: record(2),
                version
            }
        );
    }

    #[test]
    fn an_identity_that_cannot_be_read_is_not_absent_and_is_not_overwritten() {
        let (_folder, store) = store();
        fs::write(store.identity_file(), "version: [").unwrap();
        assert!(matches!(store.identity(), Identity::Unreadable { .. }));
        assert!(store.write_identity(Ok(&record(1)), None).is_err());
    }

    #[test]
    fn one_operator_at_a_time() {
        let (_folder, store) = store();
        let lock = store.lock().unwrap();
        let error = store.lock().unwrap_err().to_string();
        assert!(error.contains("another operator"), "{error}");
        drop(lock);
        store.lock().unwrap();
    }
}
