//! What somebody must know who gives commands over TCP.
//!
//! Owns how a token is read, what is one, and how it is compared. Invariant: no text that this file makes has it in it.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::PipeFlags;
use subtle::ConstantTimeEq;

/// Characters of the shortest and of the longest token.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=1024;
/// Bytes of a file that are read: a token, and the space around it.
const MOST: u64 = 4096;
/// How long nothing may come from a pipe.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// 16 to 1,024 visible ASCII characters that give commands over TCP their right.
#[derive(Clone)]
pub struct AdminToken(Box<str>);

impl fmt::Debug for AdminToken {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken")
    }
}

/// Why something is not a token.
#[derive(Debug)]
pub enum TokenFault {
    /// The file cannot be read.
    Unreadable(io::Error),
    /// There is nothing, or only white space.
    Empty,
    /// It has this many characters, which are too few or too many.
    Length(usize),
    /// It has a character that is not visible ASCII.
    Character,
    /// The file holds more than a token.
    LargeFile,
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = LENGTHS.into_inner();
        match self {
            TokenFault::Unreadable(error) => write!(f, "{error}"),
            TokenFault::Empty => f.write_str("it is empty"),
            TokenFault::Length(count) if *count < least => {
                write!(f, "its {count} characters are too few; a token has {least} to {most}")
            }
            TokenFault::Length(count) => {
                write!(f, "its {count} characters are too many; a token has {least} to {most}")
            }
            TokenFault::Character => f.write_str(
                "it has white space within, a control character or one that is not ASCII, which no token has",
            ),
            TokenFault::LargeFile => write!(f, "it is longer than {MOST} bytes; a token has {least} to {most}"),
        }
    }
}

/// Why there is no token in a file, and the remedy.
#[derive(Debug)]
pub struct TokenFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub fault: TokenFault,
}

impl fmt::Display for TokenFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "no token can be read from {path}: {}; ", self.fault)?;
        match &self.fault {
            TokenFault::Unreadable(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                f.write_str("let this user or its group read it")
            }
            TokenFault::Unreadable(error) if error.kind() != io::ErrorKind::NotFound => {
                f.write_str("write the path of a file with a token")
            }
            _ => write!(f, "make one: (umask 077; head -c 32 /dev/urandom | base64 > {path})"),
        }
    }
}

impl std::error::Error for TokenFileError {}

/// A token, and who may read it.
#[derive(Debug)]
pub struct TokenFile {
    /// What is in the file.
    pub token: AdminToken,
    /// Users that neither own the file nor are in its group may read it.
    pub is_exposed: bool,
}

impl TokenFile {
    /// Reads what is in a file, without the white space around it.
    ///
    /// # Errors
    /// The file cannot be read, or what it holds is not a token.
    pub fn read(path: &Path) -> Result<TokenFile, TokenFileError> {
        let failed = |fault| TokenFileError { path: path.to_owned(), fault };
        let read = read(path);
        let (bytes, is_exposed) = read.map_err(|error| failed(TokenFault::Unreadable(error)))?;
        if bytes.len() as u64 > MOST {
            return Err(failed(TokenFault::LargeFile));
        }
        Ok(TokenFile { token: AdminToken::new(&bytes).map_err(failed)?, is_exposed })
    }
}

/// What is in the file, as far as it matters, and whether others may read it. It may be a pipe, whose writer has to come in time:
/// at the start of the process no signal ends that wait.
fn read(path: &Path) -> io::Result<(Vec<u8>, bool)> {
    let nonblocking = i32::try_from(PipeFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    let is_exposed = file.metadata()?.mode() & 0o004 != 0;
    let (mut bytes, mut room) = (Vec::new(), [0; 1024]);
    while bytes.len() as u64 <= MOST {
        if poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&PATIENCE))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match (&file).read(&mut room)? {
            0 => break,
            count => bytes.extend_from_slice(&room[..count]),
        }
    }
    Ok((bytes, is_exposed))
}

impl AdminToken {
    /// What is in `bytes`, without the white space around it.
    ///
    /// # Errors
    /// It is not a token.
    pub fn new(bytes: &[u8]) -> Result<AdminToken, TokenFault> {
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() {
            return Err(TokenFault::Empty);
        }
        let text = std::str::from_utf8(bytes).ok();
        let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        let text = text.ok_or(TokenFault::Character)?;
        if !LENGTHS.contains(&text.len()) {
            return Err(TokenFault::Length(text.len()));
        }
        Ok(AdminToken(text.into()))
    }

    /// Whether somebody who says this knows the token. How long it takes to find out says at most how long the token is.
    pub fn is(&self, said: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(said).into()
    }

    /// The value of the Authorization field of a request by somebody who knows it (RFC 6750 section 2.1).
    pub fn credentials(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "0123456789abcdef";

    #[test]
    fn a_token_is_16_to_1024_visible_characters() {
        for good in [GOOD, "~!@#$%^&*()_+\"'`{", &"a".repeat(1024)] {
            let token = AdminToken::new(format!(" \t{good}\r\n").as_bytes()).unwrap();
            assert!(token.is(good.as_bytes()));
            assert_eq!(token.credentials(), format!("Bearer {good}"));
            assert!(!format!("{token:?}").contains(good));
        }
        let cases: [(&[u8], &str); 7] = [
            (b"", "it is empty"),
            (b" \r\n", "it is empty"),
            (b"0123456789abcde\n", "its 15 characters are too few; a token has 16 to 1024"),
            (&[b'a'; 1025], "its 1025 characters are too many; a token has 16 to 1024"),
            (b"0123456789 abcdef", "white space within"),
            (b"0123456789\nabcdef", "white space within"),
            ("0123456789abcd\u{e9}".as_bytes(), "not ASCII"),
        ];
        for (bytes, expected) in cases {
            let said = AdminToken::new(bytes).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn only_the_whole_token_is_it() {
        let token = AdminToken::new(GOOD.as_bytes()).unwrap();
        for wrong in
            ["", "0123456789abcde", "0123456789abcdeg", "0123456789abcdef0", "1123456789abcdef"]
        {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let said = || TokenFile::read(&path).unwrap_err().to_string();
        let make =
            format!("make one: (umask 077; head -c 32 /dev/urandom | base64 > {})", path.display());
        assert!(said().ends_with(&make), "{}", said());
        std::fs::write(&path, "secret-is-short").unwrap();
        assert!(said().contains("too few") && said().ends_with(&make), "{}", said());
        assert!(!said().contains("secret"), "{}", said());
        std::fs::write(&path, [b' '; 5000]).unwrap();
        assert!(said().contains("longer than 4096 bytes"), "{}", said());
        let folder = TokenFile::read(folder.path()).unwrap_err().to_string();
        assert!(
            folder.contains("directory") && folder.ends_with("a file with a token"),
            "{folder}"
        );
    }

    #[test]
    fn a_file_that_others_may_read_is_exposed() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, format!("{GOOD}\n")).unwrap();
        for (mode, is_exposed) in [(0o600, false), (0o640, false), (0o644, true)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let read = TokenFile::read(file.path()).unwrap();
            assert_eq!((read.is_exposed, read.token.is(GOOD.as_bytes())), (is_exposed, true));
        }
    }

    #[test]
    fn a_token_comes_through_a_pipe_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        if made.is_ok_and(|status| status.success()) {
            let there = path.clone();
            let writer = std::thread::spawn(move || std::fs::write(there, GOOD));
            assert!(TokenFile::read(&path).unwrap().token.is(GOOD.as_bytes()));
            writer.join().unwrap().unwrap();
        }
    }
}
