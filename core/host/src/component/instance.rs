//! The calls of one instance, by kind.

use wasmtime::{Store, component::Instance};

use super::sandbox::Sandbox;
use crate::bindings::{self, types as wire};

/// An instance and the store that it lives in.
pub(crate) struct Guest<G> {
    pub store: Store<Sandbox>,
    pub calls: G,
}

/// The calls that all kinds have.
pub(crate) trait Kinded: Send + Sync + Sized + 'static {
    /// The kind's calls of an instance.
    fn of(store: &mut Store<Sandbox>, instance: &Instance) -> wasmtime::Result<Self>;

    /// What the plugin says of itself.
    fn describe(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<wire::Description>;

    /// Gives the plugin its options.
    fn configure(&self, store: &mut Store<Sandbox>, options: &str) -> wasmtime::Result<Result<(), wire::OptionError>>;
}

macro_rules! kinded {
    ($($module:ident $world:ident $interface:ident)*) => {
        $(
            impl Kinded for bindings::$module::$world {
                fn of(store: &mut Store<Sandbox>, instance: &Instance) -> wasmtime::Result<Self> {
                    Self::new(store, instance)
                }

                fn describe(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<wire::Description> {
                    self.$interface().call_describe(store)
                }

                fn configure(
                    &self,
                    store: &mut Store<Sandbox>,
                    options: &str,
                ) -> wasmtime::Result<Result<(), wire::OptionError>> {
                    self.$interface().call_configure(store, options)
                }
            }
        )*
    };
}

kinded! {
    sampler SamplerPlugin metareward_plugin_sampler
    rubric RubricPlugin metareward_plugin_rubric
    meta_judge MetaJudgePlugin metareward_plugin_meta_judge
    ranker RankerPlugin metareward_plugin_ranker
    selector SelectorPlugin metareward_plugin_selector
    optimizer OptimizerPlugin metareward_plugin_optimizer
    task TaskPlugin metareward_plugin_task
}
