//! `metareward plugin list`: what is built in and what is found as a file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use metareward_api::API_VERSION;
use metareward_host::{FoundFile, HostError, KINDS, Meaning, Registry, Settings, Source, look_at};
use metareward_runtime::Layers;
use serde::Serialize;

use crate::{
    args::ListArgs,
    experiment,
    failure::{Code, Failure},
    plugins,
};

/// Where files are looked for without being asked.
const USUAL: &str = "plugins";

/// A plugin that can be used.
#[derive(Serialize)]
struct Entry {
    kind: String,
    name: String,
    version: String,
    form: String,
    api_version: String,
    file: Option<PathBuf>,
    sha256: Option<String>,
}

/// A file that cannot.
#[derive(Serialize)]
struct Unusable {
    file: PathBuf,
    reason: String,
}

/// Prints one line per plugin; with `--json` one object with `plugins` and `unusable`.
///
/// # Errors
/// When a folder that was named cannot be read, or an experiment's config is wrong.
pub fn run(args: &ListArgs, json: bool) -> Result<(), Failure> {
    let (settings, files) = files(args)?;
    let registry = plugins::registry(settings.clone())?;
    let mut entries = built_in(&registry, args);
    let mut unusable = Vec::new();
    for file in files {
        match look_at(&file, &settings) {
            Ok(found) => {
                if args.kind.is_none_or(|kind| kind == found.kind) {
                    entries.push(entry(found));
                }
            }
            Err(error) => unusable.push(Unusable { file, reason: reason(error) }),
        }
    }
    if json {
        println!("{}", serde_json::json!({ "plugins": entries, "unusable": unusable }));
        return Ok(());
    }
    println!("{:<11} {:<20} {:<10} {:<10} {:<7} {:<12}  file", "kind", "name", "form", "version", "api", "sha256");
    for entry in &entries {
        let Entry { kind, name, version, form, api_version, file, sha256 } = entry;
        // Twelve digits tell files apart for a person.
        let short = sha256.as_deref().and_then(|hash| hash.get(..12)).unwrap_or("–");
        let file = file.as_deref().map_or_else(|| "–".to_owned(), |file| file.display().to_string());
        println!("{kind:<11} {name:<20} {form:<10} {version:<10} {api_version:<7} {short:<12}  {file}");
    }
    if !unusable.is_empty() {
        println!("\ncannot be used:");
        for Unusable { file, reason } in &unusable {
            println!("  {}: {reason}", file.display());
        }
    }
    Ok(())
}

fn built_in(registry: &Registry, args: &ListArgs) -> Vec<Entry> {
    let kinds = KINDS.into_iter().filter(|kind| args.kind.is_none_or(|wanted| wanted == *kind));
    let infos = kinds.flat_map(|kind| registry.infos(kind));
    let entry = |info: metareward_api::PluginInfo| Entry {
        kind: info.kind.to_string(),
        name: info.name,
        version: info.version,
        form: metareward_host::Form::BuiltIn.to_string(),
        api_version: API_VERSION.to_owned(),
        file: None,
        sha256: None,
    };
    infos.map(entry).collect()
}

fn entry(found: FoundFile) -> Entry {
    let FoundFile { file, form, kind, name, version, api_version, sha256 } = found;
    let (kind, form) = (kind.to_string(), form.to_string());
    Entry { kind, name, version, form, api_version, file: Some(file), sha256: Some(sha256) }
}

/// Why not, without the file that the line begins with.
fn reason(error: HostError) -> String {
    match error {
        HostError::Load { error, .. } => error.to_string(),
        other => other.to_string(),
    }
}

/// The host's settings, and all plugin files in the folders, sorted, each once.
fn files(args: &ListArgs) -> Result<(Settings, Vec<PathBuf>), Failure> {
    let mut settings = Settings::default();
    let mut files = Vec::new();
    if Path::new(USUAL).is_dir() {
        look_in(Path::new(USUAL), &mut files)?;
    }
    if let Some(path) = &args.experiment {
        let file = experiment::file(path)?;
        let loaded = Layers::file(file).load().map_err(experiment::failure)?;
        settings = loaded.plugin_settings();
        for folder in &loaded.config.plugins.folders {
            look_in(&loaded.folder.join(folder), &mut files)?;
        }
    }
    for path in &args.folders {
        if path.is_dir() {
            look_in(path, &mut files)?;
        } else {
            // What is named is looked at, whatever its ending; that it is not there is a reason like another.
            files.push(path.clone());
        }
    }
    files.sort();
    files.dedup();
    Ok((settings, files))
}

/// Plugin files in a folder and in the folders in it: a plugin often lies in a folder of its own.
fn look_in(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Code::Input, format!("cannot list {}: {error}", folder.display()));
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_plugin(&path) {
            files.push(path);
        } else if path.is_dir() {
            // One that may not be read is no reason to show nothing of the others.
            let inner = fs::read_dir(&path).into_iter().flatten().filter_map(Result::ok);
            files.extend(inner.map(|entry| entry.path()).filter(|path| is_plugin(path)));
        }
    }
    Ok(())
}

fn is_plugin(path: &Path) -> bool {
    let meaning = Source::named(path.to_string_lossy()).meaning();
    matches!(meaning, Meaning::Component | Meaning::Library) && path.is_file()
}
