//! What can go wrong during set-up, each with what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why set-up could not go on. Messages are lowercase fragments: what happened, where, what to do.
#[derive(Debug)]
pub enum Error {
    /// A file or folder could not be read or written.
    Io {
        /// What was being done, as in "write".
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program could not be started.
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended with an error.
    Failed {
        /// The program and what it was to do.
        what: String,
        /// Its exit code; `None` if a signal ended it.
        code: Option<i32>,
    },
    /// No Python with pip, which is needed to fetch wheels.
    NoPip {
        /// What was tried and how it failed.
        tried: Vec<String>,
    },
    /// There are no wheels for this system.
    NoWheels {
        /// What the system is.
        system: String,
    },
    /// The package registry could not be reached.
    NoNetwork {
        /// The last lines of pip.
        said: String,
    },
    /// pip failed for another reason.
    Pip {
        /// The last lines of pip.
        said: String,
    },
    /// Not enough free space.
    Disk {
        /// The folder.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A libtorch that was asked for by name cannot be used.
    Unusable {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// An argument that set-up does not know.
    Usage(String),
}

impl Error {
    /// The exit code of a process that ends with this error: 2 for a wrong argument or folder, 4 for the machine, and
    /// a failed program's own code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) | Error::Unusable { .. } => 2,
            Error::Failed { code: Some(code), .. } => u8::try_from(*code).unwrap_or(1),
            Error::Failed { code: None, .. } => 1,
            _ => 4,
        }
    }

    /// Wraps what the system said about `path`.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_path_buf();
        move |source| Error::Io { doing, path, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { doing, path, source } => write!(f, "failed to {doing} {}: {source}", path.display()),
            Error::Start { program, source } => write!(f, "failed to start {program}: {source}"),
            Error::Failed { what, code: Some(code) } => write!(f, "{what} failed with exit code {code}"),
            Error::Failed { what, code: None } => write!(f, "{what} was ended by a signal"),
            Error::NoPip { tried } => {
                write!(f, "no libtorch 2.11 on this machine, and no Python with pip to fetch it with")?;
                for line in tried {
                    write!(f, "\n  {line}")?;
                }
                write!(
                    f,
                    "\n  install Python 3 and pip (Debian, Ubuntu: `apt install python3-pip`; Fedora: `dnf install \
                     python3-pip`), or export LIBTORCH as the folder of a libtorch 2.11 that holds include/ and lib/"
                )
            }
            Error::NoWheels { system } => write!(
                f,
                "there are no libtorch wheels for {system}: they need Linux on x86_64 with glibc 2.28 or newer; unpack \
                 or build libtorch 2.11 and export LIBTORCH as its folder, the one that holds include/ and lib/"
            ),
            Error::NoNetwork { said } => write!(
                f,
                "pip could not reach its package registry: check the network and proxy settings (`python3 -m pip \
                 config list`), or export LIBTORCH as the folder of a libtorch 2.11\n{said}"
            ),
            Error::Pip { said } => write!(f, "libtorch could not be fetched with pip\n{said}"),
            Error::Disk { path, needed, free } => write!(
                f,
                "not enough disk space at {}: {} needed, {} free",
                path.display(),
                crate::machine::gibibytes(*needed),
                crate::machine::gibibytes(*free)
            ),
            Error::Unusable { path, why } => write!(f, "{} is no libtorch 2.11: {why}", path.display()),
            Error::Usage(what) => write!(f, "{what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } | Error::Start { source, .. } => Some(source),
            _ => None,
        }
    }
}
