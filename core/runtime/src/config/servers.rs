//! The keys of a config that name servers: who plays a role, who generates, and how they are asked.

use serde::{Deserialize, Serialize};

use super::{Reference, Schedule};

/// `[roles]`: who does what in an iteration (schedules). Each is `"data-model"`, the model that is being trained;
/// `"initial"`, the model of the first iteration; a model folder, relative to the experiment; or a server from outside, as in
/// `"openai:https://host/v1#model"`, several of them with commas between. In measuring, every model does its own work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolesSection {
    /// Who answers. Default `"data-model"`.
    pub actor: Schedule<Reference>,
    /// Who judges the answers. Default `"data-model"`.
    pub judge: Schedule<Reference>,
    /// Who compares judgments. Default `"data-model"`.
    pub meta_judge: Schedule<Reference>,
    /// How servers named here are asked. Their key is in the variable METAREWARD_JUDGE_KEY unless `key_variable` or
    /// `key_file` say otherwise.
    pub asking: AskingSection,
}

impl Default for RolesSection {
    fn default() -> Self {
        let own = || Schedule::from(Reference::DataModel);
        let asking = AskingSection { key_variable: "METAREWARD_JUDGE_KEY".into(), ..AskingSection::default() };
        Self { actor: own(), judge: own(), meta_judge: own(), asking }
    }
}

/// `[engine.asking]` and `[roles.asking]`: how servers are asked. Limits are for each server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AskingSection {
    /// Requests at a server at a time. Default 8.
    pub in_flight: u32,
    /// Most requests per minute; 0 does not limit. Default 0.
    pub requests_per_minute: u32,
    /// Most tokens per minute, prompts and answers together; 0 does not limit. Default 0.
    pub tokens_per_minute: u32,
    /// How often a request is sent again after a try that went wrong. Default 4.
    pub retries: u32,
    /// Seconds until an answer must be there. Default 600.
    pub timeout_seconds: f64,
    /// Seconds for which all servers may be away or busy before the run stops. Default 120.
    pub patience_seconds: f64,
    /// The environment variable with the servers' key. Default METAREWARD_ENGINE_KEY for `[engine.asking]`.
    pub key_variable: String,
    /// A file with the servers' key, relative to the experiment, instead of the variable.
    pub key_file: Option<String>,
}

impl Default for AskingSection {
    fn default() -> Self {
        Self {
            in_flight: 8,
            requests_per_minute: 0,
            tokens_per_minute: 0,
            retries: 4,
            timeout_seconds: 600.0,
            patience_seconds: 120.0,
            key_variable: "METAREWARD_ENGINE_KEY".into(),
            key_file: None,
        }
    }
}

/// `[engine.servers]`: the servers that generate, where `engine.generator` is `"servers"`. Words in braces are filled in:
/// `{model}`, the folder of the model to be served; `{host}` and `{port}` of the server's address; `{number}`, its place
/// from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServersSection {
    /// Addresses: `vllm:URL`, `sglang:URL`, `llama-cpp:URL` or, for any other with OpenAI's interface, `openai:URL`.
    pub addresses: Vec<String>,
    /// The name of the model that they are asked for. `"{model}"` where a server loads whatever folder it is asked for.
    /// Default: the one model that each has.
    pub model: Option<String>,
    /// The name under which the model answers, where that is another one.
    pub answers_as: Option<String>,
    /// A command that starts a server with a model, run by the shell on this machine; one for all servers, or a list with one
    /// for each. It is ended when the next model comes, and at the end of the run. One that ends at once, with success, has
    /// started a server elsewhere.
    pub restart: Option<Schedule<String>>,
    /// Or requests that make a server load a model: each a path beside `/v1` and a JSON text, as in
    /// `'/update_weights_from_disk {"model_path": "{model}"}'` for SGLang.
    pub reload: Vec<String>,
    /// Seconds until a server that was started must be ready. Default 900.
    pub ready_seconds: f64,
    /// What servers prove that they have the right weights by: `"engine"`, log-probabilities that this process computes of
    /// the model's folder; `"servers"`, each other; `"off"`, nothing. Default `"engine"`.
    pub proof: String,
    /// How far apart log-probabilities may be, in the mean over tokens. Default 0.05, which allows for bf16.
    pub tolerance: f64,
    /// `"keep"` leaves servers running while a model is trained, `"stop"` stops those that were started here: for a trainer
    /// on the same GPUs. Default `"keep"`.
    pub while_training: String,
}

impl Default for ServersSection {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            model: None,
            answers_as: None,
            restart: None,
            reload: Vec::new(),
            ready_seconds: 900.0,
            proof: "engine".into(),
            tolerance: 0.05,
            while_training: "keep".into(),
        }
    }
}
