//! The WIT types and calls of components, generated from `plugins/wit`. Their conversions to the records of
//! `metareward-api` are those of the SDK.
#![allow(missing_docs, clippy::all)]

/// Records and the log, shared by all worlds.
pub mod records {
    wasmtime::component::bindgen!({
        path: "../../plugins/wit/since-v0.1.0",
        world: "records",
        additional_derives: [Clone, PartialEq, serde::Serialize, serde::Deserialize],
    });
}

pub use records::metareward::plugin::{log, types};

macro_rules! world {
    ($module:ident, $world:literal) => {
        pub mod $module {
            wasmtime::component::bindgen!({
                path: "../../plugins/wit/since-v0.1.0",
                world: $world,
                with: {
                    "metareward:plugin/types@0.1.0": crate::bindings::types,
                    "metareward:plugin/log@0.1.0": crate::bindings::log,
                },
            });
        }
    };
}

world!(sampler, "sampler-plugin");
world!(rubric, "rubric-plugin");
world!(meta_judge, "meta-judge-plugin");
world!(ranker, "ranker-plugin");
world!(selector, "selector-plugin");
world!(optimizer, "optimizer-plugin");
world!(task, "task-plugin");

metareward_plugin::wire_conversions!(crate::bindings::types);
