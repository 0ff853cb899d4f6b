//! The directory: its lock, the names of its files, and how far its records are settled.
//!
//! ```text
//! lock                                          locked while a store is open
//! settled                                       the number up to which all is settled, with its checksum
//! FIRST-SEAL.open                               a segment that is written to
//! FIRST-LAST-SEAL.spool                         one that is not any more
//! ```
//!
//! FIRST and LAST are the numbers of its records, in decimal. SEAL is a random number that its records repeat, so that
//! nothing a payload contains can be taken for a record.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{SpoolError, SpoolErrorKind};

/// Linux's for a read-only file system; other systems have the same.
const EROFS: i32 = 30;

/// No number is larger, so that a few can be added to each.
const LAST: u64 = u64::MAX / 2;

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    lock: File,
}

/// A segment's file, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) path: PathBuf,
    pub(super) first: u64,
    /// None while it is written to, or where the writer ended without a word.
    pub(super) last: Option<u64>,
    pub(super) seal: u64,
}

impl Directory {
    /// Makes it if need be, and locks it.
    pub(super) fn open(path: &Path) -> Result<Directory, SpoolError> {
        let refuse = |kind, problem: String| SpoolError::new(kind, path, problem);
        match fs::create_dir(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let problem = "is in a directory that is not there: make that one first";
                return Err(refuse(SpoolErrorKind::NotADirectory, problem.into()));
            }
            Err(error) => return Err(failed(path, "cannot be made", &error)),
        }
        if !path.is_dir() {
            let problem = "is not one: give a directory that is for this logger alone";
            return Err(refuse(SpoolErrorKind::NotADirectory, problem.into()));
        }
        let options = || OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let lock = options().open(path.join("lock")).map_err(|error| failed(path, "cannot be written to", &error))?;
        match fs4::FileExt::try_lock(&lock) {
            Ok(()) => Ok(Directory { path: path.to_owned(), lock }),
            Err(fs4::TryLockError::WouldBlock) => {
                let problem = "is in use by another process, or by another logger of this one: give each its own";
                Err(refuse(SpoolErrorKind::Locked, problem.into()))
            }
            Err(fs4::TryLockError::Error(error)) => Err(failed(path, "cannot be locked", &error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the files in it can still be found by the next process.
    pub(super) fn is_there(&self) -> io::Result<bool> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Ok(self.lock.metadata()?.nlink() > 0)
        }
        #[cfg(not(unix))]
        {
            // What is open cannot be deleted there.
            Ok(true)
        }
    }

    /// The segments, oldest first, without what an interrupted creation has left.
    pub(super) fn segments(&self) -> io::Result<Vec<Named>> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if let Some(named) = read_name(name) {
                segments.push(Named { path, ..named });
            } else if name.strip_suffix("..tmp").is_some_and(|name| read_name(&format!("{name}.open")).is_some()) {
                fs::remove_file(&path)?;
            }
        }
        segments.sort_by_key(|segment| (segment.first, segment.last));
        Ok(segments)
    }

    pub(super) fn new_segment(&self, first: u64) -> Named {
        let seal = random();
        Named { path: self.path.join(format!("{first:020}-{seal:016x}.open")), first, last: None, seal }
    }

    /// Says in its name that a segment is complete.
    pub(super) fn seal(&self, segment: &Named, last: u64) -> io::Result<Named> {
        let Named { first, seal, .. } = *segment;
        let path = self.path.join(format!("{first:020}-{last:020}-{seal:016x}.spool"));
        fs::rename(&segment.path, &path)?;
        Ok(Named { path, first, last: Some(last), seal })
    }

    /// Makes names outlive the machine.
    pub(super) fn sync(&self) -> io::Result<()> {
        // Elsewhere a directory cannot be opened, and need not be synced.
        if cfg!(unix) { File::open(&self.path)?.sync_all() } else { Ok(()) }
    }

    /// Up to where all is settled, as far as it was noted.
    pub(super) fn settled(&self) -> io::Result<u64> {
        let mut bytes = Vec::new();
        match File::open(self.path.join("settled")) {
            Ok(file) => file.take(64).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let noted = bytes.split_first_chunk::<8>().filter(|(number, sum)| *sum == checksum(number));
        let noted = noted.map(|(number, _)| u64::from_le_bytes(*number)).filter(|number| *number <= LAST);
        // What is damaged says nothing: its records are sent once more.
        Ok(noted.unwrap_or(0))
    }

    /// Opens the note.
    pub(super) fn note(&self) -> io::Result<Note> {
        let path = self.path.join("settled");
        Ok(Note(OpenOptions::new().write(true).create(true).truncate(false).open(path)?))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A process that is being forked off has the file open for a moment too, and would keep the lock.
        let _ = fs4::FileExt::unlock(&self.lock);
    }
}

/// Where it is noted up to where all is settled.
#[derive(Debug)]
pub(super) struct Note(File);

impl Note {
    pub(super) fn write(&mut self, settled: u64) -> io::Result<()> {
        let number = settled.to_le_bytes();
        self.0.seek(SeekFrom::Start(0))?;
        self.0.write_all(&[&number[..], &checksum(&number)].concat())
    }
}

fn checksum(number: &[u8; 8]) -> [u8; 4] {
    crc32fast::hash(number).to_le_bytes()
}

/// Of a name, or none of ours.
fn read_name(name: &str) -> Option<Named> {
    let number = |digits: &str| (digits.len() == 20).then(|| digits.parse().ok().filter(|n| *n <= LAST)).flatten();
    let seal = |digits: &str| (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten();
    let (stem, extension) = name.split_once('.')?;
    let parts: Vec<&str> = stem.split('-').collect();
    let path = PathBuf::new();
    match (extension, &parts[..]) {
        ("open", [first, sealed]) => Some(Named { path, first: number(first)?, last: None, seal: seal(sealed)? }),
        ("spool", [first, last, sealed]) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Named { path, first, last: Some(last), seal: seal(sealed)? })
        }
        _ => None,
    }
}

/// std's own source of what nobody can guess.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

fn failed(path: &Path, what: &str, error: &io::Error) -> SpoolError {
    let (kind, hint) = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            (SpoolErrorKind::NotWritable, ": this process needs to read and write there")
        }
        _ if error.raw_os_error() == Some(EROFS) => (SpoolErrorKind::NotWritable, ": give one that can be written to"),
        io::ErrorKind::NotADirectory => (SpoolErrorKind::NotADirectory, ": a part of its path is no directory"),
        _ => (SpoolErrorKind::Io, ""),
    };
    SpoolError::new(kind, path, format!("{what}: {error}{hint}"))
}

/// What an I/O error of an open store says.
pub(super) fn trouble(path: &Path, what: &str, error: impl std::fmt::Display) -> String {
    format!("the spool's directory \"{}\": {what}: {error}", path.display())
}

/// The error of a directory whose files cannot be used.
pub(super) fn unusable(path: &Path, error: &io::Error) -> SpoolError {
    failed(path, "cannot be used", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_others_are_not_ours() {
        let named = read_name("00000000000000000007-00000000000000000009-00000000000000ff.spool").unwrap();
        assert_eq!((named.first, named.last, named.seal), (7, Some(9), 255));
        let named = read_name("00000000000000000007-00000000000000ff.open").unwrap();
        assert_eq!((named.first, named.last, named.seal), (7, None, 255));
        for other in [
            "lock",
            "settled",
            "7-ff.open",
            "00000000000000000007-00000000000000ff.spool",
            "00000000000000000009-00000000000000000007-00000000000000ff.spool",
            "00000000000000000007-00000000000000ff.open.bak",
            "99999999999999999999-00000000000000ff.open",
        ] {
            assert_eq!(read_name(other), None, "{other}");
        }
    }

    #[test]
    fn no_two_segments_have_a_seal() {
        assert_ne!(random(), random());
    }
}
