//! Plugins that are not those a run folder was made with.

use std::{fmt, fs, path::Path};

use metareward_api::Kind;
use metareward_host::{Form, PluginRecord};
use serde::{Deserialize, Serialize};

use crate::{PluginUse, RunError};

/// Which code a plugin is, options apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginIdentity {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where its code comes from.
    pub form: Form,
    /// Hash of its file; `None` for what is linked in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl From<&PluginRecord> for PluginIdentity {
    fn from(record: &PluginRecord) -> Self {
        Self {
            name: record.info.name.clone(),
            version: record.info.version.clone(),
            form: record.form,
            sha256: record.sha256.clone(),
        }
    }
}

impl fmt::Display for PluginIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, form, sha256 } = self;
        match sha256 {
            None => write!(f, "`{name}` {version} ({form})"),
            Some(sha256) => write!(f, "`{name}` {version} ({form}, sha256 {sha256})"),
        }
    }
}

/// A section of the config whose plugin is other code than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginChange {
    /// The section, for example `selector.actor`.
    pub section: String,
    /// The plugin's kind.
    pub kind: Kind,
    /// What ran before.
    pub before: PluginIdentity,
    /// What runs from now on.
    pub after: PluginIdentity,
}

impl fmt::Display for PluginChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { section, kind, before, after } = self;
        write!(f, "{kind} of [{section}] was {before} and is now {after}")
    }
}

/// A change that was accepted, and when: times are those of events.jsonl.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AcceptedChange {
    /// Seconds since 1970.
    pub time: f64,
    /// The change.
    pub change: PluginChange,
}

/// The part of run.json that a resume looks at.
#[derive(Default, Deserialize)]
struct Earlier {
    #[serde(default)]
    plugins: Vec<PluginUse>,
    #[serde(default)]
    plugin_changes: Vec<AcceptedChange>,
}

/// What run.json in a folder says that matters to changed plugins: the changes accepted so far, and those that `now`
/// brings. None of both where there is no run.json.
pub(crate) fn since(folder: &Path, now: &[PluginUse]) -> Result<(Vec<AcceptedChange>, Vec<PluginChange>), RunError> {
    let path = folder.join("run.json");
    if !path.exists() {
        return Ok((Vec::new(), Vec::new()));
    }
    let text = fs::read_to_string(&path).map_err(|error| RunError::io(&path, &error))?;
    let earlier: Earlier = serde_json::from_str(&text).map_err(|error| RunError::NotARun {
        folder: folder.to_owned(),
        message: format!("its run.json cannot be read: {error}"),
    })?;
    Ok((earlier.plugin_changes, between(&earlier.plugins, now)))
}

/// The sections whose plugin is other code. A section that only one of the two knows does not count.
fn between(before: &[PluginUse], now: &[PluginUse]) -> Vec<PluginChange> {
    let change = |now: &PluginUse| {
        let before = before.iter().find(|before| before.section == now.section)?;
        // A plugin is the same in all iterations; only its options are not.
        let (before, after) = (before.iterations.first()?, now.iterations.first()?);
        let (kind, section) = (after.info.kind, now.section.clone());
        let (before, after) = (PluginIdentity::from(before), PluginIdentity::from(after));
        (before != after).then_some(PluginChange { section, kind, before, after })
    };
    now.iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use metareward_api::PluginInfo;
    use serde_json::{Value, json};

    use super::*;

    fn used(section: &str, version: &str, sha256: Option<&str>, options: Value) -> PluginUse {
        let info =
            PluginInfo { kind: Kind::Ranker, name: "mine".into(), version: version.into(), summary: String::new() };
        let form = if sha256.is_some() { Form::Component } else { Form::BuiltIn };
        let sha256 = sha256.map(str::to_owned);
        let record = PluginRecord { info, form, sha256, api_version: "0.1.0".into(), options };
        PluginUse { section: section.into(), iterations: vec![record.clone(), record] }
    }

    #[test]
    fn code_counts_and_options_do_not() {
        let before = [used("ranker", "1.0.0", Some("aa"), json!({"k": 1}))];
        assert_eq!(between(&before, &[used("ranker", "1.0.0", Some("aa"), json!({"k": 2}))]), []);
        assert_eq!(between(&before, &[used("other", "2.0.0", Some("bb"), Value::Null)]), []);
        let changed = between(&before, &[used("ranker", "1.0.0", Some("bb"), json!({"k": 1}))]);
        let said: Vec<String> = changed.iter().map(ToString::to_string).collect();
        let expected = "ranker of [ranker] was `mine` 1.0.0 (component, sha256 aa) and is now `mine` 1.0.0 (component, \
                        sha256 bb)";
        assert_eq!(said, [expected]);
        let built_in = between(&before, &[used("ranker", "1.0.0", None, json!({"k": 1}))]);
        assert!(built_in[0].to_string().ends_with("and is now `mine` 1.0.0 (built in)"), "{}", built_in[0]);
    }
}
