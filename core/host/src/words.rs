//! Words of plugins before people read them: without control characters, and no longer than anyone reads.

use metareward_api::{OptionError, PluginError};
use metareward_plugin::wire::Cross;

use crate::{bindings::types as wire, log::clean};

/// A plugin's own error.
pub(crate) fn error(said: wire::PluginError) -> PluginError {
    let said: PluginError = said.cross();
    PluginError { message: clean(&said.message), item: said.item }
}

/// A plugin's own refusal of options.
pub(crate) fn refusal(said: wire::OptionError) -> OptionError {
    let said: OptionError = said.cross();
    OptionError { key: said.key.as_deref().map(clean), message: clean(&said.message) }
}
