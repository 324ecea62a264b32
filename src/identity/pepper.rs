//! The server's own secret, and what is made with it: API keys, tickets, and marks that nobody else can make.
//!
//! What is handed out is random and long, so one HMAC-SHA256 (RFC 2104) is enough to keep it by: there is nothing to
//! guess that a slow hash would have to protect.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Five bits a letter; no two look alike (after Douglas Crockford's Base32).
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// How long what a key is found by is, in letters: 60 bits.
pub const PREFIX: usize = 12;
/// How long its secret is: 260 bits.
const SECRET: usize = 52;

/// The shortest pepper, in bytes.
const LEAST: usize = 32;
/// The longest that is read.
const MOST: u64 = 4 << 10;

/// What API keys begin with.
pub const KEY: &str = "tg_";
/// What tickets begin with.
pub const TICKET: &str = "tgt_";

/// The server's own secret. It does not print.
#[derive(Clone)]
pub struct Pepper(hmac::Key);

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

/// What a mark is made for: one made for one purpose is none for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To know an API key again.
    Key,
    /// To know a ticket again.
    Ticket,
    /// To know a visitor again.
    Visitor,
    /// To know one again who has no token, and asks under the same key of idempotency.
    Retry,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Key => b"key\0",
            Self::Ticket => b"ticket\0",
            Self::Visitor => b"visitor\0",
            Self::Retry => b"retry\0",
        }
    }
}

/// An API key as it is handed out, once.
#[derive(Clone)]
pub struct NewKey {
    /// The whole of it: `tg_`, what it is found by, `_`, and the secret.
    pub text: String,
    /// What it is found by.
    pub prefix: String,
}

impl Pepper {
    /// Reads the pepper at `path`; where there is no file, makes one that nobody else on the machine may read.
    ///
    /// # Errors
    /// When it can be neither read nor made, or is too short to be a secret.
    pub fn open(path: &Path) -> io::Result<Self> {
        match Self::make(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
        let bytes = bytes.trim_ascii();
        if bytes.len() < LEAST {
            return Err(io::Error::other(format!("holds {} bytes; a pepper has at least {LEAST}", bytes.len())));
        }
        Ok(Self::new(bytes))
    }

    /// A pepper of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Makes the file, whole or not at all: another process may be about to do the same.
    fn make(path: &Path) -> io::Result<()> {
        if path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", random(8)?));
        let draft = Path::new(&name);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(draft)?;
        let written = file.write_all(format!("{}\n", random(SECRET)?).as_bytes()).and_then(|()| file.sync_all());
        let linked = written.and_then(|()| std::fs::hard_link(draft, path));
        std::fs::remove_file(draft)?;
        linked
    }

    /// A mark of `what`, made for one purpose.
    pub fn mark(&self, purpose: Purpose, what: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(purpose.label());
        context.update(what);
        context.sign().as_ref().to_vec()
    }

    /// Whether `mark` is the mark of `what`; it takes as long whether or not it is.
    pub fn knows(&self, purpose: Purpose, what: &[u8], mark: &[u8]) -> bool {
        hmac::verify(&self.0, &[purpose.label(), what].concat(), mark).is_ok()
    }

    /// A text that bears its own mark.
    pub fn sign(&self, purpose: Purpose, what: &[u8]) -> String {
        format!("{}.{}", URL_SAFE_NO_PAD.encode(what), URL_SAFE_NO_PAD.encode(self.mark(purpose, what)))
    }

    /// What such a text says, if it was made here for that purpose.
    pub fn read(&self, purpose: Purpose, text: &str) -> Option<Vec<u8>> {
        let (what, mark) = text.split_once('.')?;
        let (what, mark) = (URL_SAFE_NO_PAD.decode(what).ok()?, URL_SAFE_NO_PAD.decode(mark).ok()?);
        self.knows(purpose, &what, &mark).then_some(what)
    }
}

/// A new API key.
///
/// # Errors
/// When the system has no randomness to give.
pub fn new_key() -> io::Result<NewKey> {
    let prefix = random(PREFIX)?;
    Ok(NewKey { text: format!("{KEY}{prefix}_{}", random(SECRET)?), prefix })
}

/// A new ticket.
///
/// # Errors
/// When the system has no randomness to give.
pub fn new_ticket() -> io::Result<String> {
    Ok(format!("{TICKET}{}", random(SECRET)?))
}

/// What an API key is found by; `None` for what cannot be one.
pub fn prefix(text: &str) -> Option<&str> {
    let (prefix, secret) = text.strip_prefix(KEY)?.split_once('_')?;
    let ours = |text: &str, length| text.len() == length && text.bytes().all(|byte| LETTERS.contains(&byte));
    (ours(prefix, PREFIX) && ours(secret, SECRET)).then_some(prefix)
}

/// So many letters at random.
fn random(letters: usize) -> io::Result<String> {
    let mut bytes = vec![0; letters];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("the system has no randomness to give"))?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_pepper_is_made_once_and_read_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("pepper");
        let made = Pepper::open(&path).unwrap();
        let mark = made.mark(Purpose::Key, b"x");
        assert!(Pepper::open(&path).unwrap().knows(Purpose::Key, b"x", &mark));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1, "no draft is left");
        std::fs::write(&path, "short\n").unwrap();
        assert!(Pepper::open(&path).unwrap_err().to_string().contains("at least 32"));
        assert!(Pepper::open(&home.path().join("none/pepper")).is_err());
    }

    #[test]
    fn a_mark_is_of_one_thing_for_one_purpose_with_one_pepper() {
        let (ours, others) = (Pepper::new(&[1; 32]), Pepper::new(&[2; 32]));
        let mark = ours.mark(Purpose::Key, b"x");
        assert!(ours.knows(Purpose::Key, b"x", &mark));
        assert!(!ours.knows(Purpose::Ticket, b"x", &mark));
        assert!(!ours.knows(Purpose::Key, b"y", &mark));
        assert!(!others.knows(Purpose::Key, b"x", &mark));
        assert!(!ours.knows(Purpose::Key, b"x", &mark[..31]));
        let text = ours.sign(Purpose::Visitor, b"{}");
        assert_eq!(ours.read(Purpose::Visitor, &text).as_deref(), Some(&b"{}"[..]));
        assert_eq!(others.read(Purpose::Visitor, &text), None);
        assert_eq!(ours.read(Purpose::Visitor, &text.replace('.', "")), None);
    }

    #[test]
    fn a_key_is_found_by_its_prefix() {
        let key = new_key().unwrap();
        assert_eq!(prefix(&key.text), Some(key.prefix.as_str()));
        assert_ne!(key.text, new_key().unwrap().text);
        for no in ["", "tg_", "tg_x_y", &key.text[1..], &key.text[..key.text.len() - 1], &format!("{}0", key.text)] {
            assert_eq!(prefix(no), None, "{no}");
        }
    }
}
