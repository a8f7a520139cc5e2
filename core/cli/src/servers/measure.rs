//! The engine of this process beside servers: prompts as token ids, and what servers are held against.

use std::path::Path;

use metareward_api::{EngineError, Message};
use metareward_remote::{Measure, Measured, ReadPrompt, Said};
use metareward_torch::{CausalLm, Completed, Prompting, TemplateDate, TextTokenizer, TorchError, config::ModelConfig};
use tch::{Kind, Tensor};

use crate::engine;

/// Tokenizer and chat template of a model folder.
#[derive(Default)]
pub struct FolderReader(Option<Prompting>);

impl FolderReader {
    fn prompting(&self) -> Result<&Prompting, EngineError> {
        self.0.as_ref().ok_or_else(|| EngineError::Machine("no model is loaded".to_owned()))
    }
}

impl ReadPrompt for FolderReader {
    fn load(&mut self, folder: &Path) -> Result<(), EngineError> {
        let config = ModelConfig::read(folder)?;
        self.0 = Some(Prompting::read(folder, &config, TemplateDate::default())?);
        Ok(())
    }

    fn tokens(&self, messages: &[Message]) -> Result<Vec<u32>, EngineError> {
        let ids = self.prompting()?.prompt(messages)?.ids;
        let tokens = ids.into_iter().map(u32::try_from).collect::<Result<_, _>>();
        tokens.map_err(|_| EngineError::Machine("a token has no 32-bit number".to_owned()))
    }

    fn answer(&self, text: &str) -> Result<(String, u32), EngineError> {
        let (text, ids) = as_written(self.prompting()?.tokenizer(), text)?;
        Ok((text.to_owned(), u32::try_from(ids.len()).unwrap_or(u32::MAX)))
    }
}

/// An answer as the engine of this process writes it, and its tokens. Some tokenizers put a blank before the first word and
/// take it away again; a server that reads an answer after its prompt leaves it there.
fn as_written<'t>(tokenizer: &TextTokenizer, text: &'t str) -> Result<(&'t str, Vec<i64>), TorchError> {
    if let Some(stripped) = text.strip_prefix(' ') {
        let ids = tokenizer.encode(stripped)?;
        if let Some(first) = ids.first() {
            // What the tokens say where something stands before them.
            let after: Vec<i64> = [*first].iter().chain(&ids).copied().collect();
            let (alone, both) = (tokenizer.decode(&[*first])?, tokenizer.decode(&after)?);
            if both.strip_prefix(&alone) == Some(text) && tokenizer.decode(&ids)? == stripped {
                return Ok((stripped, ids));
            }
        }
    }
    Ok((text, tokenizer.encode(text)?))
}

/// Log-probabilities as this process computes them.
pub struct EngineMeasure {
    settings: engine::Settings,
}

impl EngineMeasure {
    /// With the device and number format of a config.
    pub fn new(settings: engine::Settings) -> Self {
        Self { settings }
    }
}

impl Measure for EngineMeasure {
    fn measure(&mut self, folder: &Path, said: &[Said<'_>]) -> Result<Vec<Vec<Measured>>, EngineError> {
        let device = self.settings.device.resolve()?;
        let precision = self.settings.precision(folder).map_err(|error| EngineError::Machine(error.sentence))?;
        let model = CausalLm::load(folder, device, precision)?;
        let prompting = Prompting::read(folder, model.config(), TemplateDate::default())?;
        let measured = said.iter().map(|said| tokens(&model, &prompting, said));
        Ok(measured.collect::<Result<_, TorchError>>()?)
    }
}

/// The tokens of one text, without the one that ends the turn.
fn tokens(model: &CausalLm, prompting: &Prompting, said: &Said<'_>) -> Result<Vec<Measured>, TorchError> {
    let (text, _) = as_written(prompting.tokenizer(), said.text)?;
    let Completed { prompt, mut completion } = prompting.complete(said.messages, text)?;
    completion.pop();
    if said.text.is_empty() || completion.is_empty() {
        return Ok(Vec::new());
    }
    let count = completion.len() as i64;
    tch::no_grad(|| {
        let ids: Vec<i64> = prompt.iter().chain(&completion).copied().collect();
        let read = Tensor::f_from_slice(&ids[..ids.len() - 1])?.f_unsqueeze(0)?.f_to_device(model.device())?;
        let hidden = model.forward_hidden(&read)?.f_squeeze_dim(0)?;
        let answer = hidden.f_narrow(0, prompt.len() as i64 - 1, count)?;
        let logits = answer.f_linear(model.lm_head()?, None::<&Tensor>)?;
        let logprobs = logits.f_to_kind(Kind::Float)?.f_log_softmax(-1, Kind::Double)?;
        let targets = Tensor::f_from_slice(&completion)?.f_to_device(model.device())?.f_unsqueeze(1)?;
        let chosen = Vec::<f64>::try_from(&logprobs.f_gather(1, &targets, false)?.f_squeeze_dim(1)?)?;
        let best = Vec::<f64>::try_from(&logprobs.f_amax([1_i64].as_slice(), false)?)?;
        let numbers = chosen.into_iter().zip(best).zip(&completion);
        let token = |id: &i64| prompting.tokenizer().token_text(*id);
        Ok(numbers.map(|((logprob, best), id)| Measured { token: token(id), logprob, best }).collect())
    })
}
