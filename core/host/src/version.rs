//! Which versions of the contract this host speaks.

use metareward_api::{API_VERSION, Kind};

use crate::LoadError;

/// Refuses a plugin that was made for a contract that this host does not speak. Before 1.0 a minor version breaks;
/// a patch never does.
pub(crate) fn check(found: &str) -> Result<(), LoadError> {
    let breaking = |version: &str| -> Option<(u64, u64)> {
        let mut parts = version.split('.').map(|part| part.parse::<u64>().ok());
        let (major, minor) = (parts.next()??, parts.next()??);
        Some((major, if major == 0 { minor } else { 0 }))
    };
    if breaking(found).is_some() && breaking(found) == breaking(API_VERSION) {
        return Ok(());
    }
    Err(LoadError::ApiVersion { found: found.to_owned(), spoken: spoken() })
}

/// The versions that this host speaks, for people.
pub fn spoken() -> String {
    match API_VERSION.rsplit_once('.') {
        Some((line, _)) => format!("{line}.x"),
        None => API_VERSION.to_owned(),
    }
}

/// The kind with this name.
pub(crate) fn kind(name: &str) -> Option<Kind> {
    KINDS.into_iter().find(|kind| kind.to_string() == name)
}

/// All kinds, in the order in which a run meets them.
pub const KINDS: [Kind; 7] =
    [Kind::Task, Kind::Sampler, Kind::Rubric, Kind::MetaJudge, Kind::Ranker, Kind::Selector, Kind::Optimizer];
