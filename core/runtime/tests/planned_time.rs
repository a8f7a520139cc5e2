//! Laws of a plan's time: more work never takes less, twice the GPUs take half where nothing else binds, and totals are sums.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scripted;

use std::sync::LazyLock;

use metareward_runtime::{
    Experiment, Layers, ModelShape, Plan, PlanRequest,
    plan::{
        AnswerLengths, Binds, Deployment, Drawn, EngineFigures, FIGURES_FORMAT, Figure, Form, Room, TimePlan, Trained,
        cards::{CARDS, Card, card},
        predict,
    },
};
use proptest::prelude::*;
use scripted::Lab;

static LAB: LazyLock<Lab> = LazyLock::new(Lab::new);

fn shape(parameters: u64, layers: u32, hidden: u32, cache_bytes_per_token: u64) -> ModelShape {
    ModelShape { parameters, layers, hidden, cache_bytes_per_token, context: 8192, vocabulary: 128_256 }
}

fn of_8b() -> ModelShape {
    shape(8_030_261_248, 32, 4096, 131_072)
}

fn of_70b() -> ModelShape {
    shape(70_553_706_496, 80, 8192, 327_680)
}

/// The paper's configuration, but for the lengths of answers, K and N.
fn experiment(k: u32, n: u32, longest: [u32; 3], shard: u32) -> Experiment {
    let [response, judgment, verdict] = longest;
    let text = format!(
        "name = \"planned\"\nmodel.id = \"some/model\"\ntask.options.prompts = \"none.jsonl\"\nprompts.shard_size = {shard}\n\
         actor.responses = {k}\njudge.judgments = {n}\nengine.dtype = \"bf16\"\ntrain.activation_checkpointing = true\n\
         train.keep = [6, 4, 2, 2]\nmeta_judge.pairs = [true, true, false, false]\n\
         sampler.actor.options.max_tokens = {response}\nsampler.judge.options.max_tokens = {judgment}\n\
         sampler.meta_judge.options.max_tokens = {verdict}\n"
    );
    // Experiments are read as they are opened, so one folder does for all; every thread has a file of its own.
    let name = format!("planned-{:?}.toml", std::thread::current().id()).replace(['(', ')'], "");
    LAB.write(&name, &text);
    Experiment::open(&Layers::file(LAB.root.path().join(&name)), LAB.registry).unwrap()
}

fn plan(experiment: &Experiment, model: ModelShape) -> Plan {
    let answers = AnswerLengths::default();
    experiment.plan_for(PlanRequest { model: Some(model), generator: None, answers, room: Room::Unknown }).unwrap()
}

fn paper() -> Experiment {
    experiment(7, 11, [2048, 512, 512], 64)
}

fn on(card: &'static Card, form: Form, gpus: u32) -> Deployment {
    Deployment { form, gpus, figures: None, card: Some(card), gpu_hour: Some(2.0) }
}

fn one(median: f64) -> Figure {
    Figure { median, low: median, high: median }
}

fn figures(model: ModelShape) -> EngineFigures {
    let drawn = |reading: f64, writing: f64| Drawn {
        answers: 1024,
        prompt_tokens: 500.0,
        tokens_read: 300_000,
        tokens_written: 400_000,
        reading: one(reading),
        writing: one(writing),
        overall: one(writing),
    };
    EngineFigures {
        format: FIGURES_FORMAT,
        version: "0".into(),
        engine: "in process".into(),
        device: "Cuda(0)".into(),
        gpus: 1,
        precision: "bfloat16".into(),
        experiment: "planned".into(),
        prompts: 8,
        repeats: 3,
        random_weights: true,
        peak_bytes: 0,
        load_seconds: one(20.0),
        lengths: AnswerLengths::default(),
        model,
        responses: drawn(20_000.0, 9_000.0),
        judgments: drawn(15_000.0, 8_000.0),
        verdicts: None,
        log_probabilities: Some(one(25_000.0)),
        training: Some(Trained {
            batch_size: 32,
            sequence: 900.0,
            tokens_per_second: one(7_000.0),
            outside_seconds: one(30.0),
        }),
    }
}

fn measured(form: Form, gpus: u32) -> Deployment {
    Deployment { form, gpus, figures: Some(figures(of_8b())), card: None, gpu_hour: None }
}

fn is_the_sum_of_its_parts(time: &TimePlan) {
    let sum: f64 = time.stages.iter().map(|stage| stage.seconds).sum();
    let places: f64 = time.places.iter().map(|place| place.seconds).sum();
    // Sums of some twenty numbers, in another order.
    let rounding = 32.0 * f64::EPSILON * time.seconds;
    assert!((sum - time.seconds).abs() <= rounding && (places - time.seconds).abs() <= rounding);
    assert!((time.gpu_hours - time.seconds / 3600.0 * f64::from(time.gpus)).abs() <= rounding);
    if let Some(cost) = time.cost {
        let places: f64 = time.places.iter().filter_map(|place| place.cost).sum();
        assert!((places - cost).abs() <= 32.0 * f64::EPSILON * cost, "{places} and {cost}");
    }
    for stage in &time.stages {
        assert!(
            stage.seconds.is_finite() && stage.seconds > 0.0 && stage.loading_seconds <= stage.seconds,
            "{stage:?}"
        );
    }
}

fn deployments(gpus: u32) -> Vec<Deployment> {
    let mut all: Vec<Deployment> = CARDS
        .iter()
        .flat_map(|card| [Form::InProcess, Form::Servers, Form::Torchrun].map(|form| on(card, form, gpus)))
        .collect();
    all.extend([Form::Servers, Form::Torchrun].map(|form| measured(form, gpus)));
    all
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    /// One more response or judgment, or longer answers: never less time, whatever the form and the card.
    #[test]
    fn more_work_never_takes_less(
        k in 2u32..9, n in 2u32..12, response in 64u32..2048, judgment in 64u32..512, verdict in 16u32..512,
        shard in 1u32..128, gpus in 1u32..17, more in 0usize..5,
    ) {
        let before = plan(&experiment(k, n, [response, judgment, verdict], shard), of_8b());
        let longest = |which: usize, length: u32| if more == which { length + 100 } else { length };
        let lengths = [longest(2, response), longest(3, judgment), longest(4, verdict)];
        let after = plan(&experiment(k + u32::from(more == 0), n + u32::from(more == 1), lengths, shard), of_8b());
        prop_assert!(after.tokens > before.tokens);
        for deployment in deployments(gpus) {
            let (Ok(before), Ok(after)) = (predict(&before, &deployment), predict(&after, &deployment)) else {
                // The weights do not fit the card, before and after.
                prop_assert!(predict(&before, &deployment).is_err() && predict(&after, &deployment).is_err());
                continue;
            };
            is_the_sum_of_its_parts(&after);
            // Counts are rounded to whole tokens and answers, one in thousands.
            prop_assert!(after.seconds >= before.seconds * (1.0 - 1e-3), "{deployment:?}: {} then {}", before.seconds, after.seconds);
        }
    }

    /// Where a stage is bound by the GPUs themselves, twice as many take half the time, but for loading.
    #[test]
    fn twice_the_gpus_take_half_where_nothing_else_binds(gpus in 1u32..9, which in 0usize..7) {
        let plan = plan(&paper(), of_8b());
        let card = &CARDS[which];
        for form in [Form::Servers, Form::Torchrun] {
            for (one, two) in [
                (predict(&plan, &on(card, form, gpus)), predict(&plan, &on(card, form, 2 * gpus))),
                (predict(&plan, &measured(form, gpus)), predict(&plan, &measured(form, 2 * gpus))),
            ] {
                let (Ok(one), Ok(two)) = (one, two) else { continue };
                for (one, two) in one.stages.iter().zip(&two.stages) {
                    let own = |binds: Binds| !matches!(binds, Binds::FewAnswers | Binds::FewSequences | Binds::Communication | Binds::Coordinator | Binds::Loading);
                    let (work, half) = (one.seconds - one.loading_seconds, two.seconds - two.loading_seconds);
                    // Never more than twice as fast, and never slower.
                    prop_assert!(half <= work * (1.0 + 1e-9) && half >= work / 2.0 * (1.0 - 1e-9), "{one:?} {two:?}");
                    if own(one.binds) && own(two.binds) {
                        prop_assert!((half * 2.0 - work).abs() <= 1e-9 * work, "{one:?} {two:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn eight_gpus_and_the_papers_run() {
    let h100 = card("H100").unwrap();
    let plan = plan(&paper(), of_8b());
    let time = predict(&plan, &on(h100, Form::Torchrun, 8)).unwrap();
    is_the_sum_of_its_parts(&time);
    println!("{plan}\n{time}");
    assert!(time.stages.iter().all(|stage| stage.estimated));
    assert!(time.notes.iter().any(|note| note.contains("nothing was measured") && note.contains("data sheet")));
    // 18 bytes a parameter are 145 GB: a rank of 80 GB needs part of it elsewhere.
    assert_eq!(time.rank_memory[0].fits, Some(false));
    assert_eq!(time.rank_memory[3].fits, Some(true));
    let shown = time.to_string();
    assert!(shown.contains("GPU hours") && shown.contains("iteration 4") && shown.contains("ZeRO"), "{shown}");
}

#[test]
fn seventy_billion_parameters_need_servers_and_say_so() {
    let h100 = card("h100").unwrap();
    let plan = plan(&paper(), of_70b());
    let error = predict(&plan, &on(h100, Form::Torchrun, 8)).unwrap_err();
    assert!(error.contains("--form servers"), "{error}");
    let time = predict(&plan, &on(h100, Form::Servers, 8)).unwrap();
    // 141 GB of weights fill two cards.
    assert_eq!(time.gpus_per_copy, 4);
    // 1.27 TB of state over eight ranks.
    assert!(time.rank_memory.iter().all(|rank| rank.fits == Some(false)));
    assert!(time.notes.iter().any(|note| note.contains("does not fit 8 GPUs in any form")), "{:?}", time.notes);
    let time = predict(&plan, &on(h100, Form::Servers, 32)).unwrap();
    assert!(time.rank_memory.iter().any(|rank| rank.fits == Some(true)));
    println!("{time}");
}

#[test]
fn what_was_not_measured_is_said() {
    let plan = plan(&paper(), of_70b());
    let mut deployment = measured(Form::Torchrun, 8);
    let time = predict(&plan, &deployment).unwrap();
    assert!(time.stages.iter().all(|stage| stage.estimated), "another model was measured");
    assert!(time.notes.iter().any(|note| note.contains("another model was measured")));
    deployment.figures.as_mut().unwrap().training = None;
    let time = predict(&plan, &deployment).unwrap();
    assert!(time.notes.iter().any(|note| note.contains("training was not measured")));
    assert!(predict(&plan, &Deployment { figures: None, ..deployment }).is_err());
}

#[test]
fn figures_are_read_back_as_they_were_written() {
    let figures = figures(of_8b());
    let text = toml::to_string(&figures).unwrap();
    assert_eq!(toml::from_str::<EngineFigures>(&text).unwrap(), figures);
}
