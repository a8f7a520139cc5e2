//! A group of threads does what one engine does, and fails as it should.

mod threads;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use metareward_api::{
    EngineError, Example, Generation, GenerationDraw, GenerationRequest, Generator, LearningRateSchedule, Message,
    Occasion, Part, PreferenceData, PreferenceExample, Progress, Role, Sampling, StepMetrics, TrainData, TrainJob,
    TrainSettings, Trainer, Watch,
};
use proptest::prelude::*;
use serde_json::json;

use self::threads::{FAILS, Made, PANICS, Scripted, Threads, WAITS, connect};
use crate::{
    Exchange, Hello, Leader, LeadingGenerator, LeadingTrainer, Piece, Plugins, RanksError, Training, agree, follow,
};

#[derive(Default)]
struct Seen {
    progress: Mutex<Vec<Progress>>,
    steps: Mutex<u32>,
    stop: AtomicBool,
}

impl Watch for Seen {
    fn progress(&self, progress: Progress) {
        self.progress.lock().unwrap().push(progress);
    }

    fn step(&self, _: &StepMetrics, _: f64) {
        *self.steps.lock().unwrap() += 1;
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Runs `lead` on rank 0 of `size` threads; what it returns and how the others ended.
fn group<T>(
    size: usize,
    stop: &(dyn Fn(usize) -> bool + Sync),
    lead: impl FnOnce(&mut LeadingGenerator<'_, '_>, &mut LeadingTrainer<'_, '_>) -> T,
) -> (T, Vec<Result<u8, EngineError>>) {
    let mut all = connect(size);
    let others: Vec<Threads> = all.drain(1..).collect();
    let first = all.remove(0);
    thread::scope(|scope| {
        let others: Vec<_> = others
            .into_iter()
            .map(|exchange| {
                scope.spawn(move || {
                    let stop = || stop(exchange.rank());
                    follow(&exchange, &mut Scripted, &mut Scripted, &Made::new(), &stop)
                })
            })
            .collect();
        let (mut generator, mut trainer) = (Scripted, Scripted);
        let leader = Leader::new(&first);
        let outcome =
            lead(&mut leader.generator(&mut generator), &mut leader.trainer(&mut trainer, Training::Together));
        // One that is gone is gone.
        let _ = leader.end(7);
        drop(first);
        let ended = others.into_iter().map(|other| other.join().unwrap_or(Err(EngineError::Stopped))).collect();
        (outcome, ended)
    })
}

fn never(_: usize) -> bool {
    false
}

fn draw(seed: u64, draw: u32) -> GenerationDraw {
    let sampling = Sampling { temperature: 1.0, top_p: 0.9, top_k: None, min_p: 0.0, max_tokens: 16, stop: Vec::new() };
    GenerationDraw { seed, sampling, draw }
}

fn request(id: &str, text: &str, draws: u32) -> GenerationRequest {
    let messages = vec![Message { role: Role::User, content: text.into() }];
    GenerationRequest { id: id.into(), messages, draws: (0..draws).map(|at| draw(u64::from(at) * 31, at)).collect() }
}

fn alone(requests: &[GenerationRequest], occasion: Option<Occasion>) -> Vec<Vec<Generation>> {
    let mut answers = Vec::new();
    let mut ask = |guides: &metareward_api::Guides<'_>| {
        answers = Scripted.generate(requests, guides, &Seen::default())?;
        Ok(())
    };
    match occasion {
        Some(occasion) => Made::new().guided(occasion, &mut ask).unwrap(),
        None => ask(&Default::default()).unwrap(),
    }
    answers
}

fn some_requests() -> impl Strategy<Value = Vec<GenerationRequest>> {
    let one = (0usize..4, 0usize..40, 0u32..6)
        .prop_map(|(begin, rest, draws)| request("r", &format!("{}{rest}", "abcd".repeat(20 * begin)), draws));
    prop::collection::vec(one, 0..20)
}

fn occasions() -> impl Strategy<Value = Option<Occasion>> {
    let part = prop::sample::select(vec![Part::Actor, Part::Judge, Part::MetaJudge, Part::Evaluation]);
    prop::option::of((part, 0u32..3).prop_map(|(part, iteration)| Occasion { part, iteration }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_number_of_ranks_answers_as_one(requests in some_requests(), occasion in occasions(), size in 1usize..6) {
        let expected = alone(&requests, occasion);
        let seen = Seen::default();
        let (answers, ended) = group(size, &never, |generator, _| {
            let mut answers = Vec::new();
            let mut ask = |guides: &metareward_api::Guides<'_>| {
                answers = generator.generate(&requests, guides, &seen)?;
                Ok(())
            };
            match occasion {
                Some(occasion) => Made::new().guided(occasion, &mut ask).unwrap(),
                None => ask(&Default::default()).unwrap(),
            }
            answers
        });
        prop_assert_eq!(answers, expected);
        prop_assert!(ended.iter().all(|ended| *ended == Ok(7)));
        // The last that is seen is the whole group's.
        let total = requests.iter().map(|request| request.draws.len() as u64).sum();
        let last = seen.progress.lock().unwrap().last().copied().unwrap();
        prop_assert_eq!(last, Progress { done: total, total, tokens: 3 * total });
    }

    #[test]
    fn any_assignment_gives_the_same_answers(
        requests in some_requests(), size in 1usize..6, owners in prop::collection::vec(0usize..6, 120),
    ) {
        // Every draw to the rank that chance names.
        let mut shares: Vec<Vec<Piece>> = vec![Vec::new(); size];
        let mut owners = owners.into_iter().cycle();
        for (at, request) in requests.iter().enumerate() {
            for draw in 0..request.draws.len() {
                shares[owners.next().unwrap() % size].push(Piece { request: at, draws: draw..draw + 1 });
            }
        }
        let (answers, _) = group(size, &never, |generator, _| {
            generator.generate_shared(&requests, &shares, &Default::default(), &Seen::default()).unwrap()
        });
        prop_assert_eq!(answers, alone(&requests, None));
    }

    #[test]
    fn any_number_of_ranks_measures_as_one(texts in prop::collection::vec("[a-c]{0,6}", 0..30), size in 1usize..6) {
        let examples: Vec<Example> = texts.iter().map(|text| example("e", text)).collect();
        let folder = std::path::absolute("model").unwrap();
        let expected = Scripted.log_probabilities(&folder, &examples, 9, &Seen::default()).unwrap();
        let (found, _) = group(size, &never, |_, trainer| {
            trainer.log_probabilities("model".as_ref(), &examples, 9, &Seen::default()).unwrap()
        });
        prop_assert_eq!(found, expected);
    }
}

fn example(id: &str, text: &str) -> Example {
    let messages = vec![Message { role: Role::User, content: text.into() }];
    Example { id: id.into(), messages, completion: text.into() }
}

/// Eight requests that no rank shares with another on eight ranks, and one of this name.
fn with_one(id: &str) -> Vec<GenerationRequest> {
    let mut requests: Vec<_> = (0..7).map(|at| request("r", &format!("{at}{}", "x".repeat(400)), 2)).collect();
    requests.push(request(id, &format!("9{}", "x".repeat(400)), 2));
    requests
}

#[test]
fn an_error_of_one_rank_names_it_and_ends_the_others_work() {
    for size in [1, 2, 3, 8] {
        let mut requests = with_one(FAILS);
        requests.push(request(WAITS, "8", 2));
        let (outcome, ended) =
            group(size, &never, |generator, _| generator.generate(&requests, &Default::default(), &Seen::default()));
        let Err(EngineError::Plugin { plugin, message }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(plugin, "rubric");
        let rank = message.strip_suffix("out of fuel").unwrap();
        assert!(rank.is_empty() || rank.starts_with("rank "), "{message}");
        assert!(ended.iter().all(|ended| *ended == Ok(7)), "{ended:?}");
    }
}

#[test]
fn a_stop_at_any_rank_stops_all() {
    for asked in 0..3 {
        let requests: Vec<_> = (0..3).map(|at| request(WAITS, &format!("{at}{}", "x".repeat(400)), 2)).collect();
        let seen = Seen { stop: AtomicBool::new(asked == 0), ..Seen::default() };
        let (outcome, ended) =
            group(3, &|rank| rank == asked, |generator, _| generator.generate(&requests, &Default::default(), &seen));
        assert_eq!(outcome, Err(EngineError::Stopped));
        assert_eq!(ended, vec![Ok(7); 2]);
    }
}

#[test]
fn a_wish_to_stop_that_comes_as_the_work_ends_keeps_the_work_and_begins_no_other() {
    for asked in 1..3 {
        let requests: Vec<_> = (0..6).map(|at| request("", &at.to_string(), 2)).collect();
        let (outcomes, ended) = group(3, &|rank| rank == asked, |generator, trainer| {
            let mut generate = || generator.generate(&requests, &Default::default(), &Seen::default());
            let first = generate();
            let made = Made::new();
            (first, generate(), trainer.train(&job(&made, "again"), &Seen::default()))
        });
        let (first, then, training) = outcomes;
        assert_eq!(first.map(|answers| answers.len()), Ok(6));
        assert_eq!((then, training), (Err(EngineError::Stopped), Err(EngineError::Stopped)));
        assert_eq!(ended, vec![Ok(7); 2]);
    }
}

#[test]
fn a_rank_that_is_gone_ends_all() {
    let mut requests = with_one(PANICS);
    requests.extend((0..4).map(|at| request(WAITS, &format!("w{at}{}", "x".repeat(400)), 2)));
    let (outcome, _) = group(4, &never, |generator, _| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            generator.generate(&requests, &Default::default(), &Seen::default())
        }))
    });
    // Where the mistake is on rank 0, it is a panic there; elsewhere an error.
    assert!(matches!(outcome, Err(_) | Ok(Err(EngineError::Machine(_)))), "{outcome:?}");
}

#[test]
fn a_model_that_one_rank_cannot_load_is_that_ranks() {
    let (outcome, ended) = group(2, &never, |generator, _| {
        (generator.load("models/broken".as_ref()), generator.load("models/whole".as_ref()))
    });
    let (Err(EngineError::Model { message, .. }), Ok(_)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(message, "no config.json");
    assert_eq!(ended, [Ok(7)]);
}

/// Rank 0's data, which is not looked at here.
struct Pairs;

impl PreferenceData for Pairs {
    fn len(&self) -> u32 {
        2
    }

    fn pair(&self, _: u32) -> Result<PreferenceExample, EngineError> {
        Err(EngineError::Machine("not asked".into()))
    }
}

fn settings() -> TrainSettings {
    serde_json::from_value(json!({
        "learning_rate": 1e-5, "lr_schedule": LearningRateSchedule::Cosine, "warmup_steps": 1, "schedule_steps": 4,
        "weight_decay": 0.1, "adam_beta1": 0.9, "adam_beta2": 0.95, "adam_epsilon": 1e-8, "max_grad_norm": 1.0,
        "max_length": 512, "micro_batch_tokens": 1024, "activation_checkpointing": false, "save_steps": 0,
    }))
    .unwrap()
}

fn job<'a>(made: &'a Made, fingerprint: &str) -> TrainJob<'a> {
    TrainJob {
        model: std::path::absolute("model").unwrap(),
        folder: std::path::absolute("training").unwrap(),
        fingerprint: fingerprint.into(),
        iteration: 2,
        data: TrainData::Preference { data: &Pairs, optimizer: made.optimizer(2).unwrap() },
        epochs: vec![vec![vec![0, 1]]],
        validation: vec![1],
        settings: settings(),
    }
}

#[test]
fn every_rank_trains_the_same_job_with_a_loss_of_its_own() {
    let made = Made::new();
    let expected = Scripted.train(&job(&made, ""), &Seen::default()).unwrap();
    for size in [1, 3] {
        let seen = Seen::default();
        let job = job(&made, &expected.steps.to_string());
        let (report, ended) = group(size, &never, |_, trainer| trainer.train(&job, &seen));
        assert_eq!(report.as_ref(), Ok(&expected));
        assert_eq!(*seen.steps.lock().unwrap(), 1, "rank 0's steps are everyone's");
        assert!(ended.iter().all(|ended| *ended == Ok(7)), "{ended:?}");
    }
}

#[test]
fn a_rank_that_cannot_train_ends_all_and_says_why() {
    // Rank 0 waits for rank 1 in vain.
    let made = Made::new();
    let broken = job(&made, WAITS);
    struct Failing;
    impl Trainer for Failing {
        fn log_probabilities(
            &mut self,
            _: &std::path::Path,
            _: &[Example],
            _: u32,
            _: &dyn Watch,
        ) -> Result<Vec<metareward_api::SequenceLogProb>, EngineError> {
            Ok(Vec::new())
        }

        fn train(&mut self, _: &TrainJob<'_>, _: &dyn Watch) -> Result<metareward_api::TrainReport, EngineError> {
            Err(EngineError::Machine("no memory".into()))
        }
    }
    let mut all = connect(2);
    let second = all.remove(1);
    let first = all.remove(0);
    thread::scope(|scope| {
        let other = scope.spawn(move || follow(&second, &mut Scripted, &mut Failing, &Made::new(), &|| false));
        let mut own = Scripted;
        let outcome = Leader::new(&first).trainer(&mut own, Training::Together).train(&broken, &Seen::default());
        assert_eq!(outcome, Err(EngineError::Machine("rank 1: no memory".into())));
        assert_eq!(other.join().unwrap(), Err(EngineError::Machine("no memory".into())));
    });
}

#[test]
fn ranks_that_were_started_differently_are_refused_by_the_key() {
    let outcome = |rate: [f64; 3], ready: [bool; 3]| {
        let all = connect(3);
        thread::scope(|scope| {
            let threads: Vec<_> = all
                .into_iter()
                .map(|exchange| {
                    let rank = exchange.rank();
                    let same = json!({ "version": "1", "config": { "train": { "rate": [1, rate[rank]] } } });
                    let hello = Hello { same, host: if rank == 2 { "b".into() } else { "a".into() } };
                    let own = if ready[rank] { Ok(hello) } else { Err(("no such plugin".to_owned(), 3)) };
                    scope.spawn(move || agree(&exchange, own.as_ref().map_err(Clone::clone)))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        })
    };
    let met: Vec<usize> = outcome([0.5; 3], [true; 3]).into_iter().map(|met| met.unwrap().on_host).collect();
    assert_eq!(met, [2, 2, 1]);
    for said in outcome([0.5, 0.5, 0.25], [true; 3]) {
        let Err(RanksError::Differs(message)) = said else { panic!("{said:?}") };
        assert!(message.starts_with("rank 2 was started with another `config.train.rate.1` than rank 0: 0.25 instead"));
    }
    for said in outcome([0.5; 3], [true, false, true]) {
        let error = said.unwrap_err();
        assert_eq!(error.to_string(), "rank 1: no such plugin");
        assert!(matches!(error, RanksError::NotReady { code: 3, .. }));
    }
}
