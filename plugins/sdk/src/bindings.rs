//! The WIT types and, on WASM, the imports and exports of each kind's world.
//!
//! Generated from `plugins/wit`; outside WASM the imports are never called.
#![allow(missing_docs, unsafe_code, clippy::all)]

/// Records and the log, shared by all worlds.
pub mod records {
    wit_bindgen::generate!({
        path: "../wit/since-v0.1.0",
        world: "records",
        generate_unused_types: true,
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
    });
}

pub use records::metareward::plugin::{log, types};

macro_rules! world {
    ($module:ident, $world:literal, $export:literal, $path:literal) => {
        pub mod $module {
            wit_bindgen::generate!({
                path: "../wit/since-v0.1.0",
                world: $world,
                with: {
                    "metareward:plugin/types@0.1.0": crate::bindings::types,
                    "metareward:plugin/log@0.1.0": crate::bindings::log,
                },
                pub_export_macro: true,
                export_macro_name: $export,
                default_bindings_module: $path,
            });
        }
    };
}

world!(sampler, "sampler-plugin", "sampler_component", "metareward_plugin::bindings::sampler");
world!(rubric, "rubric-plugin", "rubric_component", "metareward_plugin::bindings::rubric");
world!(meta_judge, "meta-judge-plugin", "meta_judge_component", "metareward_plugin::bindings::meta_judge");
world!(ranker, "ranker-plugin", "ranker_component", "metareward_plugin::bindings::ranker");
world!(selector, "selector-plugin", "selector_component", "metareward_plugin::bindings::selector");
world!(optimizer, "optimizer-plugin", "optimizer_component", "metareward_plugin::bindings::optimizer");
world!(task, "task-plugin", "task_component", "metareward_plugin::bindings::task");
