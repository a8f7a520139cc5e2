//! The plugins that are linked into the metareward binary.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use meta_judge_pairwise::Pairwise;
use metareward_host::{Constructor, HostError, Registry};
use optimizer_dpo::Dpo;
use ranker_elo::Elo;
use rubric_additive::Additive;
use sampler_nucleus::Nucleus;
use selector_length_control::LengthControl;
use task_tiny_world::TinyWorld;

/// A registry with all of them.
///
/// # Errors
/// When two plugins of a kind have the same name.
pub fn registry() -> Result<Registry, HostError> {
    let mut registry = Registry::new();
    registry.add_sampler(Constructor::built_in(|plugin: Nucleus| Box::new(plugin)))?;
    registry.add_rubric(Constructor::built_in(|plugin: Additive| Box::new(plugin)))?;
    registry.add_meta_judge(Constructor::built_in(|plugin: Pairwise| Box::new(plugin)))?;
    registry.add_ranker(Constructor::built_in(|plugin: Elo| Box::new(plugin)))?;
    registry.add_selector(Constructor::built_in(|plugin: LengthControl| Box::new(plugin)))?;
    registry.add_optimizer(Constructor::built_in(|plugin: Dpo| Box::new(plugin)))?;
    registry.add_task(Constructor::built_in(|plugin: TinyWorld| Box::new(plugin)))?;
    Ok(registry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use metareward_api::Kind;
    use serde_json::{Value, json};

    const ALL: [(Kind, &str); 7] = [
        (Kind::Sampler, "nucleus"),
        (Kind::Rubric, "additive"),
        (Kind::MetaJudge, "pairwise"),
        (Kind::Ranker, "elo"),
        (Kind::Selector, "length-control"),
        (Kind::Optimizer, "dpo"),
        (Kind::Task, "tiny-world"),
    ];

    #[test]
    fn every_kind_has_its_default_plugin_and_its_defaults_work() {
        let registry = registry().unwrap();
        for (kind, name) in ALL {
            assert_eq!(registry.names(kind), [name]);
            let defaults = registry.default_options(kind, name).unwrap();
            // Options round-trip: given explicitly, the defaults resolve to themselves.
            let record = registry.record(kind, name, &defaults).unwrap();
            assert_eq!(record.options, defaults, "{kind}");
            assert_eq!(record.info.kind, kind);
            assert_eq!(registry.record(kind, name, &Value::Null).unwrap(), record);
        }
    }

    #[test]
    fn made_plugins_say_who_they_are() {
        let registry = registry().unwrap();
        let none = Value::Null;
        let infos = [
            registry.sampler("nucleus", &none).unwrap().info(),
            registry.rubric("additive", &none).unwrap().info(),
            registry.meta_judge("pairwise", &none).unwrap().info(),
            registry.ranker("elo", &none).unwrap().info(),
            registry.selector("length-control", &none).unwrap().info(),
            registry.optimizer("dpo", &none).unwrap().info(),
            registry.task("tiny-world", &none).unwrap().info(),
        ];
        for (info, (kind, name)) in infos.iter().zip(ALL) {
            assert_eq!((info.kind, info.name.as_str()), (kind, name));
        }
    }

    #[test]
    fn what_is_misspelt_is_named_with_a_suggestion() {
        let registry = registry().unwrap();
        let unknown = registry.ranker("ello", &Value::Null).err().unwrap();
        assert_eq!(unknown.to_string(), "unknown ranker `ello`; did you mean `elo`? known: `elo`");
        let option = registry.ranker("elo", &json!({"regularisation": 0.1})).err().unwrap();
        assert_eq!(
            option.to_string(),
            "ranker `elo`: option `regularisation`: unknown option; did you mean `regularization`? known options: \
             `base`, `regularization`, `scale`"
        );
        let option = registry.selector("length-control", &json!({"rho": 1.4})).err().unwrap();
        assert_eq!(
            option.to_string(),
            "selector `length-control`: option `rho`: expected a number from 0 to 1, found 1.4"
        );
        let template = json!({"template": "{{prompt}} {{respnse}}"});
        let option = registry.record(Kind::Rubric, "additive", &template).err().unwrap();
        assert!(
            option.to_string().starts_with("rubric `additive`: option `template`: unknown placeholder `{{respnse}}`")
        );
    }

    #[test]
    fn a_name_is_taken_once() {
        let mut registry = registry().unwrap();
        let again = registry.add_ranker(Constructor::built_in(|plugin: Elo| Box::new(plugin))).unwrap_err();
        assert_eq!(again.to_string(), "two plugins of kind ranker are named `elo`; rename one");
    }

    #[test]
    fn a_record_holds_what_ran() {
        let options = json!({"rho": 0.32, "max_chosen_length": 1000});
        let record = registry().unwrap().record(Kind::Selector, "length-control", &options).unwrap();
        assert_eq!(
            serde_json::to_value(record).unwrap(),
            json!({
                "info": {
                    "kind": "selector",
                    "name": "length-control",
                    "version": "0.1.0",
                    "summary": "shortest of the best, longest of the worst",
                },
                "form": "built-in",
                "api_version": "0.1.0",
                "options": {
                    "rho": 0.32,
                    "max_chosen_length": 1000,
                    "unit": "characters",
                    "prefer": "length",
                    "ties": "score",
                    "tolerance": 1e-9,
                },
            })
        );
    }
}
