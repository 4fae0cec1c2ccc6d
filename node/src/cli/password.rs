//! Where a password comes from: a terminal, a file, or standard input.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail};
use zeroize::Zeroizing;

use super::note;

/// Longest password, bytes.
const PASSWORD_MAX: u64 = 1_024;

/// Below this a new password draws a warning (threats.md 4.6).
const PASSWORD_LEN_ADVISED: usize = 12;

/// Which secret is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The password of an account that exists.
    Known,
    /// The password of an account that is about to be made.
    New,
    /// The recovery key of an account that exists.
    Recovery,
}

/// Reads the secret; a new password twice, if from a terminal.
pub fn read(file: Option<&Path>, kind: Kind) -> anyhow::Result<Zeroizing<String>> {
    let password = match file {
        Some(path) => {
            let opened = File::open(path)
                .with_context(|| path.display().to_string())
                .map_err(|error| anyhow::anyhow!("the password file cannot be read: {error:#}"))?;
            if opened.metadata().is_ok_and(|found| found.is_file() && found.mode() & 0o077 != 0) {
                note(format_args!(
                    "warning: the password file {} is open to other users; close it with: \
                     chmod 600 {}",
                    path.display(),
                    path.display()
                ));
            }
            first_line(opened)?
        }
        None if std::io::stdin().is_terminal() => from_terminal(kind)?,
        None => first_line(std::io::stdin())?,
    };
    if password.is_empty() {
        bail!("the password is empty; type one, or name a file that holds it with --password-file");
    }
    if kind == Kind::New && password.chars().count() < PASSWORD_LEN_ADVISED {
        note(format_args!(
            "warning: a password of fewer than {PASSWORD_LEN_ADVISED} characters can be guessed \
             by whoever gets hold of your account's data; four or more random words are better"
        ));
    }
    Ok(password)
}

fn from_terminal(kind: Kind) -> anyhow::Result<Zeroizing<String>> {
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|error| {
            anyhow::anyhow!("the terminal cannot be asked for a password: {error}")
        })
    };
    match kind {
        Kind::Known => return ask("Hypergolix password: "),
        Kind::Recovery => return ask("Recovery key: "),
        Kind::New => {}
    }
    note("There is no account here yet; this creates one.");
    let password = ask("Choose a password: ")?;
    if *ask("The same again: ")? != *password {
        bail!("the passwords differ; nothing was created, start again");
    }
    Ok(password)
}

/// The first line, without its end.
fn first_line(source: impl Read) -> anyhow::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_MAX as usize + 2));
    BufReader::new(source)
        .take(PASSWORD_MAX + 2)
        .read_until(b'\n', &mut line)
        .map_err(|error| anyhow::anyhow!("the password cannot be read: {error}"))?;
    let text = line.strip_suffix(b"\n").unwrap_or(&line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.len() as u64 > PASSWORD_MAX {
        bail!("the password is longer than {PASSWORD_MAX} bytes");
    }
    match std::str::from_utf8(text) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => bail!("the password is not UTF-8 text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password() {
        for text in ["secret", "secret\n", "secret\r\n", "secret\nmore\n"] {
            assert_eq!(*first_line(text.as_bytes()).unwrap(), "secret", "{text:?}");
        }
        assert_eq!(*first_line(&b""[..]).unwrap(), "");
        assert_eq!(*first_line(&b" a b \n"[..]).unwrap(), " a b ");
        assert!(first_line(&b"\xff\xfe"[..]).is_err());
        assert!(first_line(&vec![b'a'; 1_024][..]).is_ok());
        assert!(first_line(&vec![b'a'; 1_025][..]).is_err());
    }
}
