//! How a plugin that is linked in is made.

use metareward_api::{OptionError, PluginInfo};
use metareward_plugin::{FromOptions, default_options, read_options, resolve_options, schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a plugin's code comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Linked into the binary.
    BuiltIn,
    /// A WASM component.
    Component,
    /// A dynamic library.
    Library,
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Form::BuiltIn => "built in",
            Form::Component => "component",
            Form::Library => "library",
        })
    }
}

/// A plugin of kind `P` or why its options were refused.
pub type Made<P> = Result<Box<P>, OptionError>;

/// Makes a plugin of kind `P` from its options.
type Make<P> = dyn Fn(&Value) -> Made<P> + Send + Sync;

/// Makes one plugin of kind `P` (`dyn Ranker`, `dyn Rubric` …) from options.
pub struct Constructor<P: ?Sized> {
    pub(crate) info: PluginInfo,
    pub(crate) make: Box<Make<P>>,
    pub(crate) resolve: fn(&Value) -> Result<Value, OptionError>,
    pub(crate) schema: fn() -> Value,
}

impl<P: ?Sized + 'static> Constructor<P> {
    /// The constructor of a plugin that is linked in. `erase` boxes it: `|plugin| Box::new(plugin)`.
    pub fn built_in<T: FromOptions>(erase: fn(T) -> Box<P>) -> Self {
        Self {
            info: T::describe(),
            make: Box::new(move |options| T::from_options(read_options(options)?).map(erase)),
            resolve: resolve::<T>,
            schema: schema::<T::Options>,
        }
    }
}

/// `null` asks for the defaults unchecked: an option that a user must give has none that passes.
fn resolve<T: FromOptions>(options: &Value) -> Result<Value, OptionError> {
    match options {
        Value::Null => default_options::<T::Options>().map(Value::Object),
        given => resolve_options::<T::Options>(given),
    }
}
