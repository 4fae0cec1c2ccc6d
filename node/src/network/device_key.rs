//! The device's network key in its file: an Ed25519 key pair in libp2p's protobuf encoding.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use libp2p::identity::{DecodingError, Keypair};
use zeroize::Zeroizing;

/// A key file is shorter than this, bytes.
const FILE_MAX: u64 = 1_024;

/// Why there is no device key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceKeyError {
    /// The file cannot be read or written.
    #[error("the device key {path} cannot be used: {source}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the file.
    #[error("the device key {} may be read by others; set its mode to 0600", .0.display())]
    Open(PathBuf),
    /// The file holds something else.
    #[error("the file {path} holds no device key: {source}", path = path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: DecodingError,
    },
}

/// Reads the device key, or makes one and writes it: whole or not at all, mode 0600, on disk
/// before it is used.
///
/// # Errors
/// [`DeviceKeyError`].
pub fn load_or_create(path: &Path) -> Result<Keypair, DeviceKeyError> {
    let fail = |source| DeviceKeyError::File { path: path.to_owned(), source };
    match read(path) {
        Ok(bytes) => {
            if is_open(path).map_err(fail)? {
                return Err(DeviceKeyError::Open(path.to_owned()));
            }
            Keypair::from_protobuf_encoding(&bytes)
                .map_err(|source| DeviceKeyError::Malformed { path: path.to_owned(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = Keypair::generate_ed25519();
            let bytes = key.to_protobuf_encoding().expect("an Ed25519 key can be encoded");
            create(path, &Zeroizing::new(bytes)).map_err(fail)?;
            Ok(key)
        }
        Err(error) => Err(fail(error)),
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_MAX as usize));
    File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(unix)]
fn is_open(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open(_: &Path) -> io::Result<bool> {
    Ok(false)
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("device.key");
        let made = load_or_create(&path).unwrap();
        let read = load_or_create(&path).unwrap();
        assert_eq!(made.public(), read.public());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_key_is_an_error_and_stays() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("device.key");
        write_new(&path, b"nonsense").unwrap();
        assert!(matches!(load_or_create(&path), Err(DeviceKeyError::Malformed { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"nonsense");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("device.key");
        load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_create(&path), Err(DeviceKeyError::Open(_))));
    }
}
