//! The plugins that are linked into the metareward binary.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use meta_judge_pairwise::Pairwise;
use metareward_host::{Constructor, HostError, Registry, Settings};
use optimizer_cdpo::Cdpo;
use optimizer_dpo::Dpo;
use optimizer_ipo::Ipo;
use optimizer_length_normalised::LengthNormalised;
use optimizer_orpo::Orpo;
use optimizer_simpo::Simpo;
use optimizer_sppo::Sppo;
use ranker_bradley_terry::BradleyTerryRanker;
use ranker_copeland::Copeland;
use ranker_elo::Elo;
use ranker_elo_online::EloOnline;
use ranker_newman::Newman;
use ranker_win_rate::WinRate;
use rubric_additive::Additive;
use rubric_holistic_10::Holistic10;
use rubric_pairwise_win_rate::PairwiseWinRate;
use sampler_min_p::MinP;
use sampler_nucleus::Nucleus;
use sampler_temperature_ladder::TemperatureLadder;
use sampler_top_n_sigma::TopNSigma;
use selector_best_worst::BestWorst;
use selector_length_control::LengthControl;
use selector_threshold::Threshold;
use task_tiny_world::TinyWorld;

/// A registry with all of them. `settings` are for the plugins that come from files.
///
/// # Errors
/// When two plugins of a kind have the same name.
pub fn registry(settings: Settings) -> Result<Registry, HostError> {
    let mut registry = Registry::new(settings);
    registry.add_task(Constructor::built_in(|plugin: TinyWorld| Box::new(plugin)))?;
    registry.add_sampler(Constructor::built_in(|plugin: MinP| Box::new(plugin)))?;
    registry.add_sampler(Constructor::built_in(|plugin: Nucleus| Box::new(plugin)))?;
    registry.add_sampler(Constructor::built_in(|plugin: TemperatureLadder| Box::new(plugin)))?;
    registry.add_sampler(Constructor::built_in(|plugin: TopNSigma| Box::new(plugin)))?;
    registry.add_rubric(Constructor::built_in(|plugin: Additive| Box::new(plugin)))?;
    registry.add_rubric(Constructor::built_in(|plugin: Holistic10| Box::new(plugin)))?;
    registry.add_rubric(Constructor::built_in(|plugin: PairwiseWinRate| Box::new(plugin)))?;
    registry.add_meta_judge(Constructor::built_in(|plugin: Pairwise| Box::new(plugin)))?;
    registry.add_ranker(Constructor::built_in(|plugin: BradleyTerryRanker| Box::new(plugin)))?;
    registry.add_ranker(Constructor::built_in(|plugin: Copeland| Box::new(plugin)))?;
    registry.add_ranker(Constructor::built_in(|plugin: Elo| Box::new(plugin)))?;
    registry.add_ranker(Constructor::built_in(|plugin: EloOnline| Box::new(plugin)))?;
    registry.add_ranker(Constructor::built_in(|plugin: Newman| Box::new(plugin)))?;
    registry.add_ranker(Constructor::built_in(|plugin: WinRate| Box::new(plugin)))?;
    registry.add_selector(Constructor::built_in(|plugin: BestWorst| Box::new(plugin)))?;
    registry.add_selector(Constructor::built_in(|plugin: LengthControl| Box::new(plugin)))?;
    registry.add_selector(Constructor::built_in(|plugin: Threshold| Box::new(plugin)))?;
    registry.add_optimizer(Constructor::built_in(|plugin: Cdpo| Box::new(plugin)))?;
    registry.add_optimizer(Constructor::built_in(|plugin: Dpo| Box::new(plugin)))?;
    registry.add_optimizer(Constructor::built_in(|plugin: Ipo| Box::new(plugin)))?;
    registry.add_optimizer(Constructor::built_in(|plugin: LengthNormalised| Box::new(plugin)))?;
    registry.add_optimizer(Constructor::built_in(|plugin: Orpo| Box::new(plugin)))?;
    registry.add_optimizer(Constructor::built_in(|plugin: Simpo| Box::new(plugin)))?;
    registry.add_optimizer(Constructor::built_in(|plugin: Sppo| Box::new(plugin)))?;
    Ok(registry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use metareward_api::Kind;
    use metareward_host::{KINDS, Source};
    use serde_json::{Value, json};

    /// What is there, the paper's defaults among them.
    const ALL: [(Kind, &[&str]); 7] = [
        (Kind::Task, &["tiny-world"]),
        (Kind::Sampler, &["min-p", "nucleus", "temperature-ladder", "top-n-sigma"]),
        (Kind::Rubric, &["additive", "holistic-10", "pairwise-win-rate"]),
        (Kind::MetaJudge, &["pairwise"]),
        (Kind::Ranker, &["bradley-terry", "copeland", "elo", "elo-online", "newman", "win-rate"]),
        (Kind::Selector, &["best-worst", "length-control", "threshold"]),
        (Kind::Optimizer, &["cdpo", "dpo", "ipo", "length-normalised", "orpo", "simpo", "sppo"]),
    ];

    fn all() -> Registry {
        registry(Settings::default()).unwrap()
    }

    #[test]
    fn all_plugins_are_there_and_their_defaults_work() {
        let registry = all();
        assert_eq!(ALL.map(|(kind, _)| kind), KINDS);
        for (kind, names) in ALL {
            assert_eq!(registry.names(kind), names);
            for name in names {
                let source = Source::named(*name);
                let defaults = registry.default_options(kind, &source).unwrap();
                // Options round-trip: given explicitly, the defaults resolve to themselves.
                let record = registry.record(kind, &source, &defaults).unwrap();
                assert_eq!(record.options, defaults, "{kind} {name}");
                assert_eq!((record.info.kind, record.info.name.as_str()), (kind, *name));
                assert_eq!(registry.record(kind, &source, &Value::Null).unwrap(), record);
            }
        }
    }

    #[test]
    fn schemas_tell_of_every_option_its_default_and_what_it_is_for() {
        let registry = all();
        for (kind, names) in ALL {
            for name in names {
                let source = Source::named(*name);
                let schema = registry.card(kind, &source).unwrap().options;
                let defaults = registry.default_options(kind, &source).unwrap();
                let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
                let keys = |value: &serde_json::Map<String, Value>| value.keys().cloned().collect::<Vec<_>>();
                assert_eq!(keys(&properties), keys(defaults.as_object().unwrap()), "{kind} {name}");
                for (key, property) in &properties {
                    assert!(property.get("description").is_some(), "{kind} {name}: {key} has no description");
                    let default = property.get("default").unwrap_or(&Value::Null);
                    assert_eq!(default, &defaults[key], "{kind} {name}: {key}");
                }
            }
        }
    }

    #[test]
    fn what_is_misspelt_is_named_with_a_suggestion() {
        let registry = all();
        let unknown = registry.ranker(&"ello".into(), &Value::Null).err().unwrap().to_string();
        assert!(unknown.starts_with("unknown ranker `ello`; did you mean `elo`? known: `bradley-terry`"), "{unknown}");
        let option = registry.ranker(&"elo".into(), &json!({"regularisation": 0.1})).err().unwrap();
        assert_eq!(
            option.to_string(),
            "ranker `elo`: option `regularisation`: unknown option; did you mean `regularization`? known options: \
             `base`, `regularization`, `scale`, `ties`"
        );
        let option = registry.selector(&"length-control".into(), &json!({"rho": 1.4})).err().unwrap();
        assert_eq!(
            option.to_string(),
            "selector `length-control`: option `rho`: expected a number from 0 to 1, found 1.4"
        );
        let template = json!({"template": "{{prompt}} {{respnse}}"});
        let option = registry.record(Kind::Rubric, &"additive".into(), &template).err().unwrap();
        assert!(
            option.to_string().starts_with("rubric `additive`: option `template`: unknown placeholder `{{respnse}}`")
        );
    }

    #[test]
    fn a_name_is_taken_once() {
        let mut registry = all();
        let again = registry.add_ranker(Constructor::built_in(|plugin: Elo| Box::new(plugin))).unwrap_err();
        assert_eq!(again.to_string(), "two plugins of kind ranker are named `elo`; rename one");
    }
}
