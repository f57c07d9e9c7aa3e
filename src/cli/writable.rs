//! Whether a file can be written, asked before the work whose outcome it is for.
//!
//! Given a path; given back what the operating system has against it. A file that is there stays as it is, and where there
//! is none none is left behind.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

/// Tries to open a file for writing.
pub(super) fn check(path: &Path) -> io::Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).open(path);
    match made {
        Ok(_file) => fs::remove_file(path),
        // A link to a file that is not there yet counts as there.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            opened.map(|_file| ())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_nothing_is_left_behind() {
        let folder = std::env::temp_dir().join(format!("tonnage-writable-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (new, old) = (folder.join("new.jsonl"), folder.join("old.jsonl"));
        fs::write(&old, "kept\n").unwrap();
        check(&new).unwrap();
        check(&old).unwrap();
        assert!(!new.exists());
        assert_eq!(fs::read_to_string(&old).unwrap(), "kept\n");
        assert!(check(&folder).is_err());
        assert!(check(&folder.join("missing/new.jsonl")).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
