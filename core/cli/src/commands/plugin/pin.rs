//! `metareward plugin pin`: writes the hashes of plugin files into the config that names them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use metareward_host::{Settings, look_at};
use serde::Serialize;
use toml_edit::{DocumentMut, Item, TableLike, Value, value};

use crate::{
    args::PinArgs,
    experiment,
    failure::{Code, Failure},
    plugins,
};

/// One plugin file that the config names.
#[derive(Serialize)]
struct Pin {
    /// The section, for example `selector.actor`.
    section: String,
    /// The file as the config names it.
    plugin: String,
    /// Kind, name and version, as the file says.
    is: String,
    /// The hash that stood there.
    before: Option<String>,
    /// The hash of the file.
    sha256: String,
}

/// Writes the hashes and prints what changed; with `--json` one object. Comments and layout stay as they are.
///
/// # Errors
/// When the config cannot be read, is not TOML, or names a file that is no plugin; nothing is written then.
pub fn run(args: &PinArgs, json: bool) -> Result<(), Failure> {
    let file = experiment::file(&args.experiment)?;
    let failed = |error: &dyn std::fmt::Display| Failure::new(Code::Input, format!("{}: {error}", file.display()));
    let text = fs::read_to_string(&file).map_err(|error| failed(&error))?;
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| failed(&error))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let places = Places { experiment: folder.to_path_buf(), folders: folders(&document) };
    let mut pins = Vec::new();
    pin_all(document.as_table_mut(), false, "", &places, &mut pins)?;
    let changed = pins.iter().any(|pin| pin.before.as_ref() != Some(&pin.sha256));
    if changed {
        replace(&file, &document.to_string())?;
    }
    if json {
        println!("{}", serde_json::json!({ "file": file, "changed": changed, "pins": pins }));
        return Ok(());
    }
    for Pin { section, plugin, is, before, sha256 } in &pins {
        match before {
            None => println!("{section}: {plugin} ({is}) has sha256 {sha256}"),
            Some(before) if before == sha256 => println!("{section}: {plugin} ({is}) is unchanged"),
            Some(before) => println!("{section}: {plugin} ({is}) changed from sha256 {before}\n  to {sha256}"),
        }
    }
    match (pins.is_empty(), changed) {
        (true, _) => println!("{} names no plugin file: there is nothing to pin", file.display()),
        (false, true) => println!("written to {}", file.display()),
        (false, false) => println!("{} is as it was", file.display()),
    }
    Ok(())
}

/// Where plugin files are looked for.
struct Places {
    experiment: PathBuf,
    folders: Vec<PathBuf>,
}

impl Places {
    /// The file that the config means: beside the experiment, else in the first of `plugins.folders` that has it.
    fn file(&self, plugin: &str) -> PathBuf {
        let beside = self.experiment.join(plugin);
        if beside.exists() {
            return beside;
        }
        let mut others = self.folders.iter().map(|folder| self.experiment.join(folder).join(plugin));
        others.find(|path| path.exists()).unwrap_or(beside)
    }
}

/// `plugins.folders` as the file has it.
fn folders(document: &DocumentMut) -> Vec<PathBuf> {
    let list = document.get("plugins").and_then(|plugins| plugins.get("folders")).and_then(Item::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(PathBuf::from).collect()
}

/// Goes through all sections, and pins those that name a plugin file.
fn pin_all(
    table: &mut dyn TableLike,
    inline: bool,
    section: &str,
    places: &Places,
    pins: &mut Vec<Pin>,
) -> Result<(), Failure> {
    let plugin = table.get("plugin").and_then(Item::as_str).filter(|plugin| plugins::is_file(plugin));
    if let Some(plugin) = plugin.map(str::to_owned) {
        pins.push(pin(table, section, plugin, places)?);
        if inline {
            // On one line there is no layout of one's own, and a key in the middle would leave blanks behind.
            table.fmt();
        }
    }
    let names: Vec<String> = table.iter().map(|(name, _)| name.to_owned()).collect();
    // Options are the plugin's own, whatever they are called.
    for name in names.into_iter().filter(|name| name != "options") {
        let below = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
        let Some(item) = table.get_mut(&name) else { continue };
        let inline = item.is_inline_table();
        if let Some(inner) = item.as_table_like_mut() {
            pin_all(inner, inline, &below, places, pins)?;
        }
    }
    Ok(())
}

fn pin(table: &mut dyn TableLike, section: &str, plugin: String, places: &Places) -> Result<Pin, Failure> {
    let found = look_at(&places.file(&plugin), &Settings::default()).map_err(|error| {
        Failure::new(Code::Input, format!("`{section}`: {error}"))
            .hint("nothing was written; mend the file or its path")
    })?;
    let before = table.get("sha256").and_then(Item::as_str).map(str::to_owned);
    if before.as_ref() != Some(&found.sha256) {
        match table.get_mut("sha256").and_then(Item::as_value_mut) {
            Some(old) => {
                let decor = old.decor().clone();
                *old = Value::from(found.sha256.as_str());
                *old.decor_mut() = decor;
            }
            None => insert_after_plugin(table, &found.sha256),
        }
    }
    let is = format!("{} {} {}, {}", found.kind, found.name, found.version, found.form);
    Ok(Pin { section: section.to_owned(), plugin, is, before, sha256: found.sha256 })
}

/// A new key stands right behind the `plugin` that it belongs to.
fn insert_after_plugin(table: &mut dyn TableLike, sha256: &str) {
    let mut order: Vec<String> = table.iter().map(|(name, _)| name.to_owned()).collect();
    let place = order.iter().position(|name| name == "plugin").map_or(order.len(), |at| at + 1);
    order.insert(place, "sha256".to_owned());
    table.insert("sha256", value(sha256));
    // All entries are taken out and put back in their order, each with the comments and blanks around it.
    let mut entries = Vec::new();
    for name in &order {
        let key = table.key(name).cloned();
        if let (Some(key), Some(item)) = (key, table.remove(name)) {
            entries.push((key, item));
        }
    }
    for (key, item) in entries {
        match table.entry_format(&key) {
            toml_edit::Entry::Vacant(vacant) => {
                vacant.insert(item);
            }
            toml_edit::Entry::Occupied(mut occupied) => {
                occupied.insert(item);
            }
        }
    }
}

/// Puts the new text in the file's place in one step: a config is never half written.
fn replace(file: &Path, text: &str) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Code::Machine, format!("cannot write {}: {error}", file.display()));
    // Through a link, to the file itself.
    let file = fs::canonicalize(file).map_err(failed)?;
    let new = file.with_extension("toml.new");
    fs::write(&new, text).map_err(failed)?;
    let permissions = fs::metadata(&file).map_err(failed)?.permissions();
    fs::set_permissions(&new, permissions).map_err(failed)?;
    fs::rename(&new, &file).map_err(failed)
}
