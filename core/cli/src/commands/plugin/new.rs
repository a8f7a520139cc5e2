//! `metareward plugin new`: a folder with a plugin that builds and passes `check` as it is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::templates::{self, Template};
use crate::{
    args::{Language, NewArgs},
    failure::{Code, Failure},
};

/// Where this binary was built from, at that time.
const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Where the crates come from when no checkout is at hand.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// Writes the files and says what to do next; with `--json` one object.
///
/// # Errors
/// A name that is none, a folder that holds something, a checkout without the SDK, or a disk that does not take the
/// files.
pub fn run(args: &NewArgs, json: bool) -> Result<(), Failure> {
    let name = name(args)?;
    let folder = &args.folder;
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(Failure::new(Code::Input, format!("{} is there already and not empty", folder.display()))
            .hint("name a folder that is not there yet"));
    }
    let mut files = templates::files(args.language, args.kind);
    if files.is_empty() {
        let known = templates::kinds(args.language).into_iter().collect::<Vec<_>>().join(", ");
        let language = args.language.folder();
        return Err(Failure::new(Code::Input, format!("there is no template of a {} in {language}", args.kind))
            .hint(format!("in {language} there are: {known}")));
    }
    let mut values = vec![("{{name}}", name.clone())];
    if args.language == Language::Rust {
        let sdk = sdk(args)?;
        values.extend([
            ("{{file}}", name.replace('-', "_")),
            ("{{sdk}}", sdk.dependency("plugins/sdk")),
            ("{{laws}}", sdk.dependency("core/laws")),
            ("{{workspace}}", sdk.workspace(folder)),
        ]);
    } else {
        files.extend(templates::wit());
    }
    for Template { path, text } in &files {
        let text = values.iter().fold((*text).to_owned(), |text, (key, value)| text.replace(key, value));
        write(&folder.join(path), &text)?;
    }
    let mut paths: Vec<String> = files.into_iter().map(|file| file.path).collect();
    paths.sort();
    if json {
        let language = args.language.folder();
        let kind = args.kind;
        println!(
            "{}",
            serde_json::json!({ "folder": folder, "name": name, "kind": kind, "language": language, "files": paths })
        );
        return Ok(());
    }
    println!("a {} named {name} in {}:", args.kind, folder.display());
    for path in &paths {
        println!("  {path}");
    }
    println!("{} says how to build and check it", folder.join("README.md").display());
    Ok(())
}

/// The name given, or the folder's.
fn name(args: &NewArgs) -> Result<String, Failure> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => args.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(inside)
        && name.len() <= 64;
    if good {
        return Ok(name);
    }
    Err(Failure::new(Code::Input, format!("`{name}` cannot be a plugin's name"))
        .hint("give --name with a name of small letters, digits and `-` that begins with a letter, such as my-ranker"))
}

/// Where the crates for plugins written in Rust come from.
enum Sdk {
    /// A checkout of metareward.
    Checkout(PathBuf),
    /// Its repository.
    Repository,
}

fn sdk(args: &NewArgs) -> Result<Sdk, Failure> {
    let has_sdk = |checkout: &Path| checkout.join("plugins/sdk/Cargo.toml").is_file();
    let absolute = |checkout: &Path| {
        fs::canonicalize(checkout)
            .map_err(|error| Failure::new(Code::Input, format!("{}: {error}", checkout.display())))
    };
    match &args.sdk {
        Some(path) => {
            // The SDK's own folder is as good a way to name its checkout.
            let named = [path.clone(), path.join("../..")].into_iter().find(|path| has_sdk(path));
            match named {
                Some(checkout) => Ok(Sdk::Checkout(absolute(&checkout)?)),
                None => {
                    let lacking = format!("there is no plugins/sdk in {}", path.display());
                    Err(Failure::new(Code::Input, lacking).hint("name the folder of a checkout of metareward"))
                }
            }
        }
        None if has_sdk(Path::new(CHECKOUT)) => Ok(Sdk::Checkout(absolute(Path::new(CHECKOUT))?)),
        None => Ok(Sdk::Repository),
    }
}

impl Sdk {
    /// What follows `crate = ` in a `Cargo.toml`.
    fn dependency(&self, crate_folder: &str) -> String {
        match self {
            Sdk::Checkout(checkout) => {
                let path = toml_edit::Value::from(checkout.join(crate_folder).display().to_string());
                format!("{{ path = {path} }}")
            }
            Sdk::Repository => format!("{{ git = \"{REPOSITORY}\" }}"),
        }
    }

    /// A plugin is a workspace of its own, so that it builds wherever it is put; only in the checkout's `plugins` it
    /// belongs to the checkout's.
    fn workspace(&self, folder: &Path) -> String {
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
        let parent = absolute.parent().and_then(|parent| fs::canonicalize(parent).ok());
        match self {
            Sdk::Checkout(checkout) if parent == Some(checkout.join("plugins")) => String::new(),
            _ => "\n[workspace]\n".to_owned(),
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Code::Machine, format!("cannot write {}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}
