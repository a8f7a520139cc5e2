//! A plugin whose every answer is verified.

mod meta_judge;
mod optimizer;
mod ranker;
mod rubric;
mod sampler;
mod selector;
mod task;

use metareward_api::{Message, Plugin, PluginError, PluginInfo, Role};

/// A plugin of kind `P` that answers as `P` does, after its answer was checked.
///
/// Everything that a plugin gets wrong becomes a [`PluginError`] that names plugin and call, and the item where there
/// is one.
pub struct Checked<P: ?Sized> {
    info: PluginInfo,
    inner: Box<P>,
}

impl<P: ?Sized> Checked<P> {
    /// Wraps `inner`; `info` is what its errors and [`Plugin::info`] say.
    pub fn new(info: PluginInfo, inner: Box<P>) -> Self {
        Self { info, inner }
    }

    /// The beginning of this plugin's errors in `call`.
    fn call(&self, call: &'static str) -> Call<'_> {
        Call { info: &self.info, name: call }
    }
}

impl<P: ?Sized + Send + Sync> Plugin for Checked<P> {
    fn info(&self) -> PluginInfo {
        self.info.clone()
    }
}

/// One call of one plugin: says whose and which in every error.
#[derive(Clone, Copy)]
struct Call<'a> {
    info: &'a PluginInfo,
    name: &'static str,
}

impl Call<'_> {
    /// Passes an answer on; an error of the plugin's own gets its name in front.
    fn answer<T>(self, answer: Result<T, PluginError>) -> Result<T, PluginError> {
        answer.map_err(|error| PluginError {
            message: format!("{} {} failed in {}: {}", self.info.kind, self.info.name, self.name, error.message),
            item: error.item,
        })
    }

    fn wrong(self, what: &str) -> PluginError {
        let Self { info, name } = self;
        // What is wrong may be as long as the plugin likes.
        let what = crate::log::clean(what);
        PluginError::new(format!("{} {} answered wrongly in {name}: {what}", info.kind, info.name))
    }

    fn wrong_at(self, item: usize, what: &str) -> PluginError {
        PluginError { item: Some(item), ..self.wrong(what) }
    }

    /// One answer per item asked for.
    fn length(self, found: usize, expected: usize) -> Result<(), PluginError> {
        if found == expected {
            return Ok(());
        }
        Err(self.wrong(&format!("{found} answers to {expected} items")))
    }

    /// Conversations in which the model can speak next.
    fn conversations(self, conversations: &[Vec<Message>], expected: usize) -> Result<(), PluginError> {
        self.length(conversations.len(), expected)?;
        for (item, messages) in conversations.iter().enumerate() {
            match messages.last() {
                None => return Err(self.wrong_at(item, "a conversation without messages")),
                Some(last) if last.role != Role::User => {
                    let role = last.role.as_str();
                    return Err(self.wrong_at(item, &format!("the last message is the {role}'s, not the user's")));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
