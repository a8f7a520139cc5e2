//! Model outputs as AlpacaEval reads them: a JSON list of instruction, output and generator.

use std::{collections::BTreeMap, io::Write, path::Path};

use metareward_api::{Prompt, PromptId};
use metareward_runtime::{Place, RunReader, Stage};
use serde::Serialize;

use super::{
    Exported,
    file::{Draft, failed},
};
use crate::ReportError;

#[derive(Serialize)]
struct Output<'a> {
    instruction: &'a str,
    output: &'a str,
    generator: &'a str,
}

/// A file per model that was measured: its first answer to each held-out prompt. Of one iteration, the model it made.
pub(super) fn export(run: &RunReader, to: &Path, iteration: Option<u32>) -> Result<Exported, ReportError> {
    let record = run.record();
    let mut names = vec!["seed".to_owned(), record.base_model.clone()];
    names.dedup();
    names.extend((1..=record.config.iterations).map(|iteration| format!("M{iteration}")));
    names.retain(|name| iteration.is_none_or(|wanted| *name == format!("M{wanted}")));
    let mut prompts: BTreeMap<PromptId, Prompt> = BTreeMap::new();
    for prompt in run.prompts(&Place::Evaluation("held-out".into()))? {
        let prompt = prompt?;
        prompts.insert(prompt.id.clone(), prompt);
    }
    let mut exported = Exported::default();
    if prompts.values().any(|prompt| prompt.system.is_some()) {
        exported.remarks.push("prompts with a system message: AlpacaEval knows none, so it is left out".into());
    }
    for name in names {
        let place = Place::Evaluation(name.clone());
        if run.stage(&place, Stage::Responses)?.is_none() {
            continue;
        }
        let path = to.join(format!("{name}.json"));
        let generator = format!("{}-{}-{name}", record.name, record.seed);
        let mut file = Draft::create(&path)?;
        let mut count = 0;
        for response in run.responses(&place)? {
            let response = response?;
            let Some(prompt) = prompts.get(&response.prompt).filter(|_| response.draw == 0) else { continue };
            let output = Output { instruction: &prompt.text, output: &response.text, generator: &generator };
            let json = serde_json::to_string(&output).map_err(|error| failed(&path, error))?;
            let before = if count == 0 { "[\n" } else { ",\n" };
            write!(file, "{before}{json}").map_err(|error| failed(&path, error))?;
            count += 1;
        }
        write!(file, "{}", if count == 0 { "[]\n" } else { "\n]\n" }).map_err(|error| failed(&path, error))?;
        file.finish()?;
        exported.files.push((path, count));
    }
    Ok(exported)
}
