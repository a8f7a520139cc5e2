//! `metareward bench engine`: an engine's speeds on what an experiment will ask of it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use metareward_api::{Generation, GenerationRequest, Generator, Part};
use metareward_runtime::{
    Experiment,
    plan::{AnswerLengths, Drawn, EngineFigures, FIGURES_FORMAT, Figure, model_shape},
    sample::{Answers, Sample, computed_tokens},
};
use metareward_torch::{Precision, create::create_stand_in};
use serde_json::Value;

use super::{memory, training};
use crate::{
    args::BenchEngineArgs,
    engine::{self, Settings},
    experiment,
    failure::{Code, Failure},
    interrupt::Quiet,
    model, servers,
};

/// Seconds and tokens of one kind of answers, a value for every repeat.
#[derive(Default)]
struct Measured {
    answers: u64,
    prompt_tokens: f64,
    read: u64,
    written: Vec<f64>,
    reading: Vec<f64>,
    writing: Vec<f64>,
    overall: Vec<f64>,
}

impl Measured {
    fn drawn(self) -> Drawn {
        Drawn {
            answers: self.answers,
            prompt_tokens: self.prompt_tokens,
            tokens_read: self.read,
            tokens_written: Figure::of(self.written).median.round() as u64,
            reading: Figure::of(self.reading),
            writing: Figure::of(self.writing),
            overall: Figure::of(self.overall),
        }
    }

    /// Mean tokens of an answer.
    fn length(&self) -> f64 {
        Figure::of(self.written.clone()).median / self.answers.max(1) as f64
    }
}

/// Measures, prints the figures, and writes them where asked to.
///
/// # Errors
/// Whatever ends the measurement.
pub fn run(args: &BenchEngineArgs, json: bool) -> Result<(), Failure> {
    let mut asked = crate::args::ExperimentArgs {
        experiment: args.experiment.experiment.clone(),
        with: args.experiment.with.clone(),
        set: args.experiment.set.clone(),
    };
    asked.set.extend(args.device.as_ref().map(|device| format!("engine.device={device}")));
    let experiment = experiment::open(&asked)?;
    let config = experiment.config();
    let settings = Settings::of_section(&config.engine)?;
    let scratch = Scratch::make(args.scratch.as_deref())?;
    let sample =
        experiment.sample(args.prompts.unwrap_or(config.prompts.shard_size as usize)).map_err(experiment::failure)?;
    if sample.prompts().is_empty() {
        return Err(Failure::new(Code::Input, "there are no prompts to measure with").hint("give --prompts 1 or more"));
    }
    let (sample, folder) = match (&args.random_weights, &args.model) {
        (Some(path), _) => {
            let folder = scratch.path.join("model");
            stand_in(path, &folder, &settings, &sample)?;
            (sample.with_half_lengths(), folder)
        }
        (None, Some(name)) => (sample, model::locate(name, None)?.folder),
        (None, None) => (sample, experiment::model(&experiment)?.folder),
    };
    let figures = measure(args, &experiment, &settings, &sample, (&folder, &scratch.path))?;
    let text = toml::to_string(&figures)
        .map_err(|error| Failure::new(Code::Bug, format!("the figures cannot be written down: {error}")))?;
    if let Some(path) = &args.output {
        fs::write(path, &text).map_err(|error| Failure::new(Code::Machine, format!("{}: {error}", path.display())))?;
    }
    if json {
        println!("{}", serde_json::json!(figures));
    } else {
        show(&figures);
        if let Some(path) = &args.output {
            println!("figures: {}", path.display());
        }
    }
    Ok(())
}

/// Writes the model that stands in for one of which there is only a config.
fn stand_in(path: &Path, folder: &Path, settings: &Settings, sample: &Sample<'_>) -> Result<(), Failure> {
    let wrong = |message: String| Failure::new(Code::Input, format!("{}: {message}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let config: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let precision = match settings.device.resolve().map_err(engine::torch_failure)? {
        tch::Device::Cpu => Precision::F32,
        _ => Precision::Bf16,
    };
    let asked = sample.responses(0).map_err(experiment::failure)?;
    // The judge's words, so that its template is not spelled in bytes.
    let empty: Answers = asked
        .iter()
        .map(|_| vec![Generation { text: String::new(), tokens: 0, finish: metareward_api::Finish::Length }])
        .collect();
    let judged = sample.judgments(&empty, 0).map_err(experiment::failure)?;
    let compared = sample.verdicts(&empty, &empty, 0).map_err(experiment::failure)?;
    let texts = asked.iter().chain(&judged).chain(compared.first()).flat_map(|request| &request.messages);
    create_stand_in(folder, &config, precision, texts.map(|message| message.content.as_str()), 1)
        .map_err(engine::torch_failure)
}

fn measure(
    args: &BenchEngineArgs,
    experiment: &Experiment,
    settings: &Settings,
    sample: &Sample<'_>,
    (folder, scratch): (&Path, &Path),
) -> Result<EngineFigures, Failure> {
    let config = experiment.config();
    let remote = config.engine.generator == "servers";
    let [mut responses, mut judgments, mut verdicts] = [Measured::default(), Measured::default(), Measured::default()];
    let (mut loading, mut log_probabilities, mut trained) = (Vec::new(), Vec::new(), training::Trainings::default());
    for repeat in 0..u64::from(args.repeats.max(1)) {
        let mut pairs = {
            let mut generator: Box<dyn Generator> = if remote {
                // Answers are kept by folder: a repeat asks anew.
                let kept = scratch.join(format!("servers-{repeat}"));
                let asked = servers::asked(experiment, settings, &kept, folder)?;
                match asked.generator {
                    Some(generator) => Box::new(generator),
                    None => return Err(Failure::new(Code::Bug, "servers were asked for and none were made")),
                }
            } else {
                Box::new(settings.generator(folder)?)
            };
            let began = Instant::now();
            generator.load(folder).map_err(engine::failure)?;
            let loaded = began.elapsed();
            let seed = 1000 * repeat;
            let asked = sample.responses(seed).map_err(experiment::failure)?;
            warm_up(&mut *generator, sample, &asked)?;
            // Servers take a model up when they are first asked.
            loading.push(if remote { began.elapsed() } else { loaded }.as_secs_f64());
            let answers = kind(&mut *generator, sample, Part::Actor, &asked, &mut responses)?;
            let asked = sample.judgments(&answers, seed + 1).map_err(experiment::failure)?;
            let judged = kind(&mut *generator, sample, Part::Judge, &asked, &mut judgments)?;
            let matches = sample.verdicts(&answers, &judged, seed + 2).map_err(experiment::failure)?;
            if !matches.is_empty() {
                kind(&mut *generator, sample, Part::MetaJudge, &matches, &mut verdicts)?;
            }
            sample.pairs(&answers, &asked, &judged)
        };
        // The generator's memory is free before training takes its own.
        if args.steps > 0 && !pairs.is_empty() {
            log_probabilities.push(training::log_probabilities(settings, config, folder, &mut pairs)?);
            let work = scratch.join(format!("training-{repeat}"));
            let optimizer = experiment.optimizer(1).map_err(engine::failure)?;
            trained.add(training::train(settings, config, (folder, &work), &pairs, (optimizer, args.steps))?);
            fs::remove_dir_all(&work).ok();
        }
    }
    let device = settings.device.resolve().map_err(engine::torch_failure)?;
    let random = args.random_weights.is_some();
    let measured = |length: f64| (!random).then_some(length);
    Ok(EngineFigures {
        format: FIGURES_FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engine: if remote { config.engine.servers.addresses.join(" ") } else { "in process".to_owned() },
        device: if remote { "unknown".to_owned() } else { format!("{device:?}") },
        gpus: if remote { u32::try_from(config.engine.servers.addresses.len()).unwrap_or(1).max(1) } else { 1 },
        precision: settings.precision(folder)?.config_name().to_owned(),
        experiment: config.name.clone(),
        prompts: u32::try_from(sample.prompts().len()).unwrap_or(u32::MAX),
        repeats: args.repeats.max(1),
        random_weights: random,
        peak_bytes: memory("VmHWM"),
        load_seconds: Figure::of(loading),
        lengths: AnswerLengths {
            response: measured(responses.length()),
            judgment: measured(judgments.length()),
            verdict: measured(verdicts.length()).filter(|_| verdicts.answers > 0),
        },
        model: model_shape(folder).map_err(experiment::failure)?,
        verdicts: (verdicts.answers > 0).then(|| verdicts.drawn()),
        responses: responses.drawn(),
        judgments: judgments.drawn(),
        log_probabilities: (!log_probabilities.is_empty()).then(|| Figure::of(log_probabilities)),
        training: trained.figures(config),
    })
}

/// One answer, so that what is made at the first call is there.
fn warm_up(generator: &mut dyn Generator, sample: &Sample<'_>, asked: &[GenerationRequest]) -> Result<(), Failure> {
    let first: Vec<GenerationRequest> = asked.iter().take(1).map(first_tokens).collect();
    sample.draw(generator, Part::Actor, &first, &Quiet).map(drop).map_err(experiment::failure)
}

/// The same request for the first token of every answer. Its seeds are others: nothing that is kept answers it.
fn first_tokens(request: &GenerationRequest) -> GenerationRequest {
    let mut request = request.clone();
    for draw in &mut request.draws {
        draw.sampling.max_tokens = draw.sampling.max_tokens.min(1);
        draw.seed ^= 1 << 40;
    }
    request
}

/// Draws answers twice: only their first tokens, which is all reading and hardly any writing, and whole.
fn kind(
    generator: &mut dyn Generator,
    sample: &Sample<'_>,
    part: Part,
    asked: &[GenerationRequest],
    measured: &mut Measured,
) -> Result<Answers, Failure> {
    let conversations: Vec<_> = asked.iter().map(|request| request.messages.clone()).collect();
    let lengths = generator.count_tokens(&conversations).map_err(engine::failure)?;
    let read = computed_tokens(asked, &lengths);
    let first: Vec<GenerationRequest> = asked.iter().map(first_tokens).collect();
    let mut timed = |requests: &[GenerationRequest]| -> Result<(Answers, f64), Failure> {
        let began = Instant::now();
        let answers = sample.draw(generator, part, requests, &Quiet).map_err(experiment::failure)?;
        Ok((answers, began.elapsed().as_secs_f64()))
    };
    let (beginnings, reading) = timed(&first)?;
    let (answers, whole) = timed(asked)?;
    let tokens = |answers: &Answers| answers.iter().flatten().map(|answer| f64::from(answer.tokens)).sum::<f64>();
    let (written, begun) = (tokens(&answers), tokens(&beginnings));
    // On a busy machine the first tokens may take as long as the whole answers: then nothing is known of writing but that it
    // is no slower than all of it together.
    let writing = if whole > reading * 1.05 { (written - begun).max(0.0) / (whole - reading) } else { written / whole };
    measured.answers = answers.iter().map(|answers| answers.len() as u64).sum();
    measured.prompt_tokens = lengths.iter().map(|length| f64::from(*length)).sum::<f64>() / lengths.len().max(1) as f64;
    measured.read = read;
    measured.written.push(written);
    measured.reading.push(read as f64 / reading);
    measured.writing.push(writing);
    measured.overall.push(written / whole);
    Ok(answers)
}

/// A folder that is gone when the measurement is over.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn make(under: Option<&Path>) -> Result<Self, Failure> {
        let under = under.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = under.join(format!("metareward-bench-{}", std::process::id()));
        fs::create_dir_all(&path)
            .map_err(|error| Failure::new(Code::Machine, format!("{}: {error}", path.display())))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok();
    }
}

fn show(figures: &EngineFigures) {
    let line = |name: &str, figure: &Figure| {
        println!("{name:<34}{:>12.0}{:>12.0}{:>12.0}", figure.median, figure.low, figure.high);
    };
    println!(
        "{}, {} on {}, {} parameters, {} prompts of {}, {} repeats",
        figures.engine,
        figures.precision,
        figures.device,
        figures.model.parameters,
        figures.prompts,
        figures.experiment,
        figures.repeats
    );
    println!("{:<34}{:>12}{:>12}{:>12}", "tokens per second", "median", "lowest", "highest");
    let kinds = [
        ("responses", Some(&figures.responses)),
        ("judgments", Some(&figures.judgments)),
        ("verdicts", figures.verdicts.as_ref()),
    ];
    for (name, drawn) in kinds {
        let Some(drawn) = drawn else { continue };
        line(&format!("{name}: reading"), &drawn.reading);
        line(&format!("{name}: writing"), &drawn.writing);
        line(&format!("{name}: written, all in all"), &drawn.overall);
    }
    if let Some(figure) = &figures.log_probabilities {
        line("log-probabilities", figure);
    }
    if let Some(trained) = &figures.training {
        line("training", &trained.tokens_per_second);
        println!(
            "{:<34}{:>12.2}{:>12.2}{:>12.2}",
            "seconds of training outside of steps",
            trained.outside_seconds.median,
            trained.outside_seconds.low,
            trained.outside_seconds.high
        );
    }
    println!(
        "{:<34}{:>12.2}{:>12.2}{:>12.2}",
        "seconds to load", figures.load_seconds.median, figures.load_seconds.low, figures.load_seconds.high
    );
    println!("memory of the process at most: {:.2} GB", figures.peak_bytes as f64 / 1e9);
}
