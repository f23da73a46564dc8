//! Files that are read again when they change.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::time::sleep;

/// How often it is looked whether one has changed.
const LOOK: Duration = Duration::from_secs(2);

/// Files, and how they looked last. Looking is all that is the same on every file system, also where a file is
/// a link that is made to point elsewhere, as Kubernetes does with secrets.
#[derive(Debug)]
pub(crate) struct WatchedFiles {
    paths: Vec<PathBuf>,
    seen: Vec<Seen>,
}

/// What tells one version of a file from the next; `None` if it is not there. On Unix also who may read it, and
/// which file it is: what replaces it may be as old and as long.
type Seen = Option<(SystemTime, u64, [i64; 3])>;

impl WatchedFiles {
    /// Those at `paths`, as they look now: to be called before they are read.
    pub(crate) fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: Vec<_> = paths.into_iter().collect();
        let seen = look(&paths);
        Self { paths, seen }
    }

    /// Waits until one of them looks different. While one is not there, nothing has changed: it is about to be
    /// replaced.
    pub(crate) async fn changed(&mut self) {
        loop {
            sleep(LOOK).await;
            let now = look(&self.paths);
            if now != self.seen && now.iter().all(Option::is_some) {
                self.seen = now;
                return;
            }
        }
    }
}

fn look(paths: &[PathBuf]) -> Vec<Seen> {
    paths.iter().map(|path| seen(path)).collect()
}

fn seen(path: &Path) -> Seen {
    let data = fs::metadata(path).ok()?;
    #[cfg(unix)]
    let more = {
        use std::os::unix::fs::MetadataExt;
        [data.ino().cast_signed(), data.ctime(), data.ctime_nsec()]
    };
    #[cfg(not(unix))]
    let more = [0; 3];
    Some((data.modified().ok()?, data.len(), more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_has_changed_when_another_is_there_and_not_while_none_is() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        fs::write(&one, "1").unwrap();
        fs::write(&other, "1").unwrap();
        let mut files = WatchedFiles::new([one.clone(), other]);
        let mut changed = Box::pin(files.changed());
        let waited = tokio::time::timeout(3 * LOOK, changed.as_mut());
        assert!(waited.await.is_err(), "nothing has changed");
        fs::remove_file(&one).unwrap();
        let waited = tokio::time::timeout(3 * LOOK, changed.as_mut());
        assert!(waited.await.is_err(), "it is not there");
        fs::write(&one, "another").unwrap();
        changed.await;
    }
}
