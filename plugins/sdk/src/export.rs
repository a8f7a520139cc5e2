//! One macro that makes a crate a component and a dynamic library.

/// Exports a plugin of a kind: `metareward_plugin::export!(ranker: Elo);` once per crate.
///
/// Built for WASM the crate is a component of the kind's world; built as `cdylib` it is a dynamic library with a
/// [`Table`](crate::library::Table); linked as a Rust library it is what it was before. Kinds: `sampler`, `rubric`,
/// `meta_judge`, `ranker`, `selector`, `optimizer`, `task`.
#[macro_export]
macro_rules! export {
    (sampler: $plugin:ty) => { $crate::export!(@ sampler, "sampler", sampler_component, $plugin); };
    (rubric: $plugin:ty) => { $crate::export!(@ rubric, "rubric", rubric_component, $plugin); };
    (meta_judge: $plugin:ty) => { $crate::export!(@ meta_judge, "meta-judge", meta_judge_component, $plugin); };
    (ranker: $plugin:ty) => { $crate::export!(@ ranker, "ranker", ranker_component, $plugin); };
    (selector: $plugin:ty) => { $crate::export!(@ selector, "selector", selector_component, $plugin); };
    (optimizer: $plugin:ty) => { $crate::export!(@ optimizer, "optimizer", optimizer_component, $plugin); };
    (task: $plugin:ty) => { $crate::export!(@ task, "task", task_component, $plugin); };
    (@ $module:ident, $kind:literal, $component:ident, $plugin:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            impl $crate::component::Held for $plugin {
                fn place() -> &'static $crate::component::Place<Self> {
                    static PLACE: $crate::component::Place<$plugin> = $crate::component::Place::new();
                    &PLACE
                }
            }

            type Exports = $crate::component::Component<$plugin>;
            $crate::bindings::$module::$component!(Exports);
        };

        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            // SAFETY: the names hold the package's name, which is unique in a build, so no other symbol has them.
            #[unsafe(export_name = concat!("metareward_plugin_", env!("CARGO_PKG_NAME")))]
            static TABLE: $crate::library::Table =
                $crate::library::table::<$crate::calls::$module::Numbered<$plugin>>();

            const STAMP: &str = concat!(
                "metareward-plugin-stamp:0.1.0:",
                $kind,
                ":",
                env!("CARGO_PKG_NAME"),
                ":",
                env!("CARGO_PKG_VERSION"),
                ";"
            );

            // SAFETY: as above.
            #[unsafe(export_name = concat!("metareward_stamp_", env!("CARGO_PKG_NAME")))]
            static STAMPED: [u8; STAMP.len()] = *$crate::library::fixed::<{ STAMP.len() }>(STAMP);
        };
    };
}

#[cfg(test)]
mod tests {
    use metareward_api::API_VERSION;

    /// The macro needs the version as a literal, and WIT has it in the package's name: all must be the same.
    #[test]
    fn one_version_of_the_contract_stands_everywhere() {
        assert!(include_str!("export.rs").contains(&format!("\"metareward-plugin-stamp:{API_VERSION}:\"")));
        let types = include_str!("../../wit/since-v0.1.0/types.wit");
        assert!(types.contains(&format!("package metareward:plugin@{API_VERSION};")));
        let bindings = include_str!("bindings.rs");
        assert_eq!(
            bindings.matches("metareward:plugin/").count(),
            bindings.matches(&format!("@{API_VERSION}\"")).count()
        );
    }
}
