//! A plugin as a WASM component: one configured plugin per instance.

use std::sync::RwLock;

use serde_json::Value;

use crate::{FromOptions, bindings::types as wire, log::Level, options::read_options, wire::Cross};

/// The place in which a component keeps its configured plugin.
#[derive(Debug)]
pub struct Place<P>(RwLock<Option<P>>);

impl<P> Place<P> {
    /// An empty place.
    pub const fn new() -> Self {
        Self(RwLock::new(None))
    }
}

impl<P> Default for Place<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// A plugin that [`export!`](crate::export) gave a place in its component.
pub trait Held: FromOptions {
    /// The component's only place.
    fn place() -> &'static Place<Self>;
}

/// The exports of a component with the plugin `P`.
#[derive(Debug)]
pub struct Component<P>(std::marker::PhantomData<P>);

/// What the component says of itself.
pub fn describe<P: FromOptions>() -> wire::Description {
    let info = P::describe();
    wire::Description {
        kind: info.kind.cross(),
        name: info.name,
        version: info.version,
        summary: info.summary,
        options_schema: crate::options::schema::<P::Options>().to_string(),
    }
}

/// Makes the plugin and puts it into its place.
///
/// # Errors
/// The first option that is refused.
pub fn configure<P: Held>(options: &str) -> Result<(), wire::OptionError> {
    // A panic ends in a trap, which carries no words: the log line before it does.
    std::panic::set_hook(Box::new(|panic| crate::log::log(Level::Error, &panic.to_string())));
    let made = make::<P>(options).map_err(Cross::cross)?;
    let mut place = P::place().0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    *place = Some(made);
    Ok(())
}

/// A plugin from options as text.
///
/// # Errors
/// When the text is no JSON, or an option is refused.
pub fn make<P: FromOptions>(options: &str) -> Result<P, metareward_api::OptionError> {
    let value: Value = serde_json::from_str(options)
        .map_err(|error| metareward_api::OptionError::new(format!("the options are no JSON: {error}")))?;
    P::from_options(read_options(&value)?)
}

/// Answers with the plugin in its place.
///
/// # Errors
/// When the component was not configured, or the plugin's own.
pub fn held<P: Held, T>(answer: impl FnOnce(&P) -> Result<T, wire::PluginError>) -> Result<T, wire::PluginError> {
    let place = P::place().0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    match place.as_ref() {
        Some(plugin) => answer(plugin),
        None => Err(wire::PluginError { message: "called before it was configured".to_owned(), item: None }),
    }
}
