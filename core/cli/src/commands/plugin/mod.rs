//! `metareward plugin`: what there is, what it is, whether it obeys the laws, which bytes a config means, and a beginning.

mod check;
mod info;
mod list;
mod new;
mod pin;
mod templates;

use crate::{
    args::{PluginArgs, PluginCommand},
    failure::Failure,
};

/// Does what was asked for. Returns whether all is well: `check` says no where a law is broken.
///
/// # Errors
/// Whatever is wrong with what was typed, or with the files that it names.
pub fn run(args: &PluginArgs, json: bool) -> Result<bool, Failure> {
    match &args.command {
        PluginCommand::List(args) => list::run(args, json).map(|()| true),
        PluginCommand::Info(args) => info::run(args, json).map(|()| true),
        PluginCommand::Check(args) => check::run(args, json),
        PluginCommand::Pin(args) => pin::run(args, json).map(|()| true),
        PluginCommand::New(args) => new::run(args, json).map(|()| true),
    }
}
