//! Where a password comes from: a terminal, a file, or standard input.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail};
use hypergolix_engine::account::{AccountError, PASSWORD_LEN_MIN};
use rustix::io::retry_on_intr;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

use super::note;

/// Longest password, bytes.
const PASSWORD_MAX: u64 = 1_024;

/// Longest line that a terminal gives, bytes (termios(3)).
const TERMINAL_LINE_MAX: usize = 4_096;

const EMPTY: &str =
    "the password is empty; type one, or name a file that holds it with --password-file";

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
    /// The password that takes the place of another.
    Replacement,
}

impl Kind {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recovery => "recovery key",
            Self::Known | Self::New | Self::Replacement => "password",
        }
    }

    /// Whether it is being chosen.
    fn is_chosen(self) -> bool {
        matches!(self, Self::New | Self::Replacement)
    }
}

/// Reads the secret that opens the account, and the password that is to replace it. From one standard
/// input they are its first two lines.
pub fn read_two(
    file: Option<&Path>,
    kind: Kind,
    new_file: Option<&Path>,
) -> anyhow::Result<(Zeroizing<String>, Zeroizing<String>)> {
    let piped = file.is_none() && new_file.is_none() && !std::io::stdin().is_terminal();
    if !piped {
        return Ok((read(file, kind)?, read(new_file, Kind::Replacement)?));
    }
    let mut lines = BufReader::new(std::io::stdin());
    let present = checked(line_of(&mut lines)?, kind)?;
    let new = checked(line_of(&mut lines)?, Kind::Replacement)?;
    Ok((present, new))
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
    checked(password, kind)
}

fn checked(password: Zeroizing<String>, kind: Kind) -> anyhow::Result<Zeroizing<String>> {
    if kind.is_chosen() {
        check_new(&password)?;
    }
    if password.is_empty() {
        bail!(EMPTY);
    }
    if kind.is_chosen() && password.chars().count() < PASSWORD_LEN_ADVISED {
        note(format_args!(
            "warning: a password of fewer than {PASSWORD_LEN_ADVISED} characters can be guessed \
             by whoever gets hold of your account's data; four or more random words are better"
        ));
    }
    Ok(password)
}

fn from_terminal(kind: Kind) -> anyhow::Result<Zeroizing<String>> {
    match kind {
        Kind::Known => return ask("Hypergolix password: "),
        Kind::Recovery => return ask("Recovery key: "),
        Kind::New => note("There is no account here yet; this creates one."),
        Kind::Replacement => {}
    }
    let password = ask("Choose a password: ")?;
    check_new(&password)?;
    if *ask("The same again: ")? != *password {
        bail!("the passwords differ; nothing was done, start again");
    }
    Ok(password)
}

/// Says no before a second prompt or a warning does.
fn check_new(password: &str) -> anyhow::Result<()> {
    if password.is_empty() {
        bail!(EMPTY);
    }
    if password.chars().count() < PASSWORD_LEN_MIN {
        bail!("{}; nothing was done, start again", AccountError::PasswordTooShort);
    }
    Ok(())
}

/// Asks the terminal and shows nothing of the answer. An interrupt is read like any other key, so
/// that the terminal shows again what is typed when we end.
fn ask(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    let terminal = std::io::stdin();
    let failed = |error| anyhow::anyhow!("the terminal cannot be asked for a password: {error}");
    let hidden = Hidden::new().map_err(failed)?;
    let _ = write!(std::io::stderr(), "{prompt}");
    let mut line = Zeroizing::new([0; TERMINAL_LINE_MAX]);
    // A terminal gives one line at a time.
    let len = retry_on_intr(|| rustix::io::read(&terminal, &mut line[..]))
        .map_err(|error| failed(error.into()))?;
    let line = &line[..len];
    if !line.ends_with(b"\n") {
        note("");
    }
    match line.last() {
        None => bail!("no password was given"),
        Some(last) if hidden.interrupts.contains(last) => bail!("interrupted"),
        Some(_) => first_line(line),
    }
}

/// A terminal that shows nothing but the end of a line, until this is dropped.
struct Hidden {
    before: Termios,
    /// The keys that usually send a signal, and here end a line.
    interrupts: [u8; 2],
}

impl Hidden {
    fn new() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let interrupts = [SpecialCodeIndex::VINTR, SpecialCodeIndex::VQUIT]
            .map(|index| before.special_codes[index]);
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        hidden.local_modes.insert(LocalModes::ECHONL | LocalModes::ICANON);
        [
            hidden.special_codes[SpecialCodeIndex::VEOL],
            hidden.special_codes[SpecialCodeIndex::VEOL2],
        ] = interrupts;
        tcsetattr(std::io::stdin(), OptionalActions::Now, &hidden)?;
        Ok(Self { before, interrupts })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// The first line, without its end.
fn first_line(source: impl Read) -> anyhow::Result<Zeroizing<String>> {
    line_of(&mut BufReader::new(source))
}

fn line_of(source: &mut impl BufRead) -> anyhow::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_MAX as usize + 2));
    source
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
