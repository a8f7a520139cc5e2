//! A model named by the user: a folder, or an id on the Hugging Face hub.

use std::path::{Path, PathBuf};

use hf_hub::{Repo, RepoType, api::sync::ApiBuilder};

use crate::failure::{Code, Failure};

/// A model folder on this machine and where it came from.
#[derive(Clone, Debug)]
pub struct Located {
    /// The folder.
    pub folder: PathBuf,
    /// The commit of the hub that it holds, for a fetched model.
    pub revision: Option<String>,
}

/// Files of a repository that a model folder consists of; other weights (`*.bin`, `original/`) are not fetched.
fn wanted(file: &str) -> bool {
    !file.contains('/') && (file.ends_with(".safetensors") || file.ends_with(".json") || file.ends_with(".jinja"))
}

/// The folder of `name`: itself when it is one, else fetched from the hub into the user's cache.
///
/// # Errors
/// When `name` is neither a folder nor fetched.
pub fn locate(name: &str, revision: Option<&str>) -> Result<Located, Failure> {
    let folder = Path::new(name);
    if folder.is_dir() {
        return Ok(Located { folder: folder.to_path_buf(), revision: None });
    }
    // An id is `owner/name`; anything else was meant as a path.
    let id = name.split('/').count() == 2 && !name.starts_with(['.', '/', '~']);
    if !id {
        return Err(Failure::new(Code::Input, format!("no model folder at {name}"))
            .hint("give a folder with config.json and model.safetensors, or an id such as owner/name"));
    }
    fetch(name, revision)
}

fn fetch(id: &str, revision: Option<&str>) -> Result<Located, Failure> {
    let failed = |error: hf_hub::api::sync::ApiError| {
        Failure::new(Code::Input, format!("{id} is no folder here and cannot be fetched from the hub: {error}"))
            .hint("check the name and the network; gated models need HF_TOKEN or a login")
    };
    let api = ApiBuilder::from_env().build().map_err(failed)?;
    let named = Repo::with_revision(id.to_owned(), RepoType::Model, revision.unwrap_or("main").to_owned());
    let info = api.repo(named).info().map_err(failed)?;
    // From here on the commit, not the branch: all files belong together.
    let repo = api.repo(Repo::with_revision(id.to_owned(), RepoType::Model, info.sha.clone()));
    let mut folder = None;
    for file in info.siblings.iter().map(|sibling| sibling.rfilename.as_str()).filter(|file| wanted(file)) {
        let path = repo.get(file).map_err(failed)?;
        folder = path.parent().map(Path::to_path_buf).or(folder);
    }
    match folder {
        Some(folder) => Ok(Located { folder, revision: Some(info.sha) }),
        None => Err(Failure::new(Code::Input, format!("{id} holds no safetensors and no config.json"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_and_settings_are_fetched_and_other_formats_are_not() {
        for file in ["model-00001-of-00002.safetensors", "config.json", "chat_template.jinja", "tokenizer.json"] {
            assert!(wanted(file), "{file}");
        }
        for file in ["pytorch_model.bin", "original/consolidated.safetensors", "README.md", "onnx/config.json"] {
            assert!(!wanted(file), "{file}");
        }
    }

    #[test]
    fn a_path_that_is_not_there_is_never_asked_of_the_hub() {
        for name in ["./missing", "/missing/folder", "missing", "a/b/c"] {
            let failure = locate(name, None).expect_err(name);
            assert!(failure.sentence.contains("no model folder at"), "{failure}");
        }
    }
}
