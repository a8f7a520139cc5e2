//! Tasks: distinct prompts with text, no more than asked for, finite points on the oracle's scale.

use std::collections::BTreeSet;

use metareward_api::{Demonstration, JudgeExample, MetaExample, PluginError, Prompt, Scale, Task};

use super::{Call, Checked};

impl Task for Checked<dyn Task> {
    fn prompts(&self, seed: u64, n: u32) -> Result<Vec<Prompt>, PluginError> {
        let call = self.call("prompts");
        let prompts = call.answer(self.inner.prompts(seed, n))?;
        at_most(call, prompts.len(), n)?;
        let mut seen = BTreeSet::new();
        for (item, prompt) in prompts.iter().enumerate() {
            prompt_is_usable(call, item, prompt)?;
            if !seen.insert(&prompt.id) {
                return Err(call.wrong_at(item, &format!("a second prompt named {:?}", prompt.id.0)));
            }
        }
        Ok(prompts)
    }

    fn demonstrations(&self, seed: u64, n: u32) -> Result<Vec<Demonstration>, PluginError> {
        let call = self.call("demonstrations");
        let examples = call.answer(self.inner.demonstrations(seed, n))?;
        at_most(call, examples.len(), n)?;
        for (item, example) in examples.iter().enumerate() {
            prompt_is_usable(call, item, &example.prompt)?;
            filled(call, item, &[("response", &example.response)])?;
        }
        Ok(examples)
    }

    fn judge_examples(&self, seed: u64, n: u32) -> Result<Vec<JudgeExample>, PluginError> {
        let call = self.call("judge_examples");
        let examples = call.answer(self.inner.judge_examples(seed, n))?;
        at_most(call, examples.len(), n)?;
        for (item, example) in examples.iter().enumerate() {
            filled(call, item, &[("prompt", &example.prompt), ("judgment", &example.judgment)])?;
        }
        Ok(examples)
    }

    fn meta_examples(&self, seed: u64, n: u32) -> Result<Vec<MetaExample>, PluginError> {
        let call = self.call("meta_examples");
        let examples = call.answer(self.inner.meta_examples(seed, n))?;
        at_most(call, examples.len(), n)?;
        for (item, example) in examples.iter().enumerate() {
            let MetaExample { prompt, first, second, verdict, .. } = example;
            filled(call, item, &[("prompt", prompt), ("first", first), ("second", second), ("verdict", verdict)])?;
        }
        Ok(examples)
    }

    fn oracle(&self, items: &[(&Prompt, &str)]) -> Result<Option<Vec<f64>>, PluginError> {
        let call = self.call("oracle");
        let Some(points) = call.answer(self.inner.oracle(items))? else { return Ok(None) };
        call.length(points.len(), items.len())?;
        if let Some((item, value)) = points.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(call.wrong_at(item, &format!("{value} points")));
        }
        if let Some(scale) = self.oracle_scale()?
            && let Some((item, value)) = points.iter().enumerate().find(|(_, value)| !scale.contains(**value))
        {
            let Scale { min, max } = scale;
            return Err(call.wrong_at(item, &format!("{value} points, off the scale from {min} to {max}")));
        }
        Ok(Some(points))
    }

    fn oracle_scale(&self) -> Result<Option<Scale>, PluginError> {
        let call = self.call("oracle_scale");
        match call.answer(self.inner.oracle_scale())? {
            Some(Scale { min, max }) if !(min.is_finite() && max.is_finite() && min < max) => {
                Err(call.wrong(&format!("a scale from {min} to {max}")))
            }
            scale => Ok(scale),
        }
    }

    fn perfect_answers(&self, prompts: &[&Prompt]) -> Result<Option<Vec<String>>, PluginError> {
        let call = self.call("perfect_answers");
        let answers = call.answer(self.inner.perfect_answers(prompts))?;
        if let Some(answers) = &answers {
            call.length(answers.len(), prompts.len())?;
        }
        Ok(answers)
    }
}

fn at_most(call: Call<'_>, found: usize, n: u32) -> Result<(), PluginError> {
    if found <= n as usize {
        return Ok(());
    }
    Err(call.wrong(&format!("{found} records where at most {n} were asked for")))
}

fn prompt_is_usable(call: Call<'_>, item: usize, prompt: &Prompt) -> Result<(), PluginError> {
    filled(call, item, &[("id", &prompt.id.0), ("text", &prompt.text)])
}

fn filled(call: Call<'_>, item: usize, fields: &[(&str, &str)]) -> Result<(), PluginError> {
    match fields.iter().find(|(_, text)| text.trim().is_empty()) {
        Some((name, _)) => Err(call.wrong_at(item, &format!("empty {name}"))),
        None => Ok(()),
    }
}
