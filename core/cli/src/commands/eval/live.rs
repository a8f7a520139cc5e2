//! Asks a judge, on servers or here, for the judgments that files lack.

use std::{collections::BTreeMap, fmt, fs, io::Write, path::Path, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use metareward_api::{Finish, GenerationDraw, GenerationRequest, Generator, Guides, Sampling};
use metareward_eval::live::{Filled, Said, Sheet};
use metareward_remote::{
    Address, Answer, Backoff, Cache, Completion, Endpoint, Key, Pool, PoolOptions, RemoteError, Request,
    ScheduleOptions, Timeouts, Usage, only_model,
};
use metareward_runtime::model_fingerprint;
use serde::Serialize;

use crate::{
    args::LiveArgs,
    engine, experiment,
    failure::{Code, Failure},
    interrupt,
};

/// What became of the questions to a judge.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Asked {
    /// The judge.
    judge: String,
    /// Judgments that were missing.
    questions: usize,
    /// Those that were made.
    answered: usize,
    /// Those among them that were known: from the cache, or asked twice.
    known: u64,
    /// Times that anything was sent to a server.
    sent: u64,
    /// Tries that went wrong, most of which others made good, by how.
    faults: BTreeMap<String, u64>,
    /// Answers without a verdict, by why.
    unread: BTreeMap<String, usize>,
    /// Questions without an answer.
    failed: Vec<Lost>,
    /// Tokens of prompts and answers, as counted by who answered.
    prompt_tokens: u64,
    answer_tokens: u64,
}

/// A question without an answer.
#[derive(Clone, Debug, Serialize)]
struct Lost {
    question: String,
    why: String,
}

/// Answers to all questions, and what is said of them.
type Answers = (Vec<Said>, Asked);

/// Asks for all that a sheet lacks, and keeps the records where `--output` says.
///
/// # Errors
/// When there is no such judge, when nothing can be kept, or when no question at all was answered.
pub fn judge(sheet: Sheet, args: &LiveArgs) -> Result<(Filled, Asked), Failure> {
    check(args)?;
    let folder = args.judge.first().map(Path::new).filter(|folder| folder.is_dir());
    let (said, mut asked) = match folder {
        Some(_) if args.judge.len() > 1 => {
            return Err(Failure::new(Code::Input, "a model folder as judge works alone; give one --judge"));
        }
        Some(folder) => ask_folder(&sheet, folder, args)?,
        None => ask_servers(&sheet, args)?,
    };
    let names = sheet.questions().iter().map(|question| question.name.clone());
    let lost = names.zip(&said).filter_map(|(question, said)| Some(Lost { question, why: said.clone().err()? }));
    asked.failed = lost.collect();
    asked.questions = said.len();
    asked.answered = said.len() - asked.failed.len();
    if let Some(name) = &args.judge_name {
        asked.judge.clone_from(name);
    }
    let filled = sheet.fill(&asked.judge, said).map_err(super::failure)?;
    asked.unread = filled.unread.iter().map(|(why, count)| (why.to_string(), *count)).collect();
    if let Some(path) = &args.output {
        write(path, &filled.lines())?;
    }
    match asked.failed.first() {
        Some(first) if asked.answered == 0 => {
            let message =
                format!("none of {} questions was answered; {}: {}", asked.questions, first.question, first.why);
            Err(Failure::new(Code::Run, message)
                .hint("--output keeps what was said to each question, and why it was nothing"))
        }
        _ => Ok((filled, asked)),
    }
}

fn check(args: &LiveArgs) -> Result<(), Failure> {
    for (name, seconds) in [("--timeout", args.timeout), ("--patience", args.patience)] {
        if Duration::try_from_secs_f64(seconds).is_err() || seconds <= 0.0 {
            return Err(Failure::new(
                Code::Input,
                format!("{name} is {seconds}, but must be a number of seconds above 0"),
            ));
        }
    }
    if !args.judge_temperature.is_finite() || args.judge_temperature < 0.0 {
        return Err(Failure::new(Code::Input, "--judge-temperature must be a number from 0"));
    }
    Ok(())
}

fn sampling(args: &LiveArgs) -> Sampling {
    Sampling {
        temperature: args.judge_temperature,
        top_p: 1.0,
        top_k: None,
        min_p: 0.0,
        max_tokens: args.judge_max_tokens,
        stop: Vec::new(),
    }
}

fn requests(sheet: &Sheet, args: &LiveArgs) -> Vec<Request> {
    let request = |messages: &Vec<_>| Request::chat(messages.clone(), sampling(args), args.judge_seed);
    sheet.questions().iter().map(|question| request(&question.messages)).collect()
}

fn ask_servers(sheet: &Sheet, args: &LiveArgs) -> Result<Answers, Failure> {
    let addresses: Vec<Address> = args
        .judge
        .iter()
        .map(|judge| judge.parse())
        .collect::<Result<_, _>>()
        .map_err(|error| no_judge(args, error))?;
    let key = match &args.judge_key_file {
        Some(path) => Some(Key::from_file(path)?),
        None => Key::from_variable(&args.judge_key_variable)?,
    };
    let timeouts = Timeouts { total: Duration::from_secs_f64(args.timeout), ..Timeouts::default() };
    let model = match (&args.judge_model, addresses.first()) {
        (Some(model), _) => model.clone(),
        (None, Some(first)) => only_model(first, key.as_ref(), timeouts).map_err(|error| {
            Failure::from(error).hint("--judge-model names the model, and then the server need not be asked")
        })?,
        (None, None) => return Err(Failure::new(Code::Bug, "no judge")),
    };
    let endpoint = |address: &Address| Endpoint {
        address: address.clone(),
        model: model.clone(),
        answers_as: args.judge_answers_as.clone(),
        key: key.clone(),
    };
    let schedule = ScheduleOptions {
        in_flight: args.concurrency,
        requests_per_minute: args.requests_per_minute,
        tokens_per_minute: args.tokens_per_minute,
        retries: args.retries,
        backoff: Backoff { seed: args.judge_seed, ..Backoff::default() },
        patience: Duration::from_secs_f64(args.patience),
    };
    let options = PoolOptions { schedule, timeouts };
    let mut pool = Pool::new(addresses.iter().map(endpoint).collect(), options)?;
    if let Some(folder) = &args.cache {
        pool = pool.with_cache(Cache::open(folder)?);
    }
    let requests = requests(sheet, args);
    let bar = bar(requests.len());
    let mut said: Vec<Said> = vec![Err("not asked".to_owned()); requests.len()];
    let mut take = |place: u64, outcome: Result<Answer, metareward_remote::Failure>| {
        bar.inc(1);
        said[place as usize] = outcome.map_err(|failure| failure.to_string()).and_then(words);
        Ok(())
    };
    let counts = pool.run(requests.into_iter(), &mut take, &interrupt::asked)?;
    bar.finish_and_clear();
    let asked = Asked {
        judge: pool.model().to_owned(),
        known: counts.kept,
        sent: counts.sent,
        faults: counts.faults.iter().map(|(kind, count)| (kind.to_string(), *count)).collect(),
        prompt_tokens: counts.prompt_tokens,
        answer_tokens: counts.answer_tokens,
        ..Asked::default()
    };
    Ok((said, asked))
}

/// The one answer's text.
fn words(answer: Answer) -> Said {
    let completion = answer.completions.into_iter().next();
    completion.map(|completion| completion.text).ok_or_else(|| "an answer without a text".to_owned())
}

fn no_judge(args: &LiveArgs, error: RemoteError) -> Failure {
    let first = args.judge.first().map(String::as_str).unwrap_or_default();
    if first.contains(':') {
        return error.into();
    }
    Failure::new(Code::Input, format!("--judge {first}: no such model folder, and no server's address"))
        .hint("a server is openai:URL; a name for tables is --judge-name")
}

/// Questions that a model folder answers between two writes to the cache.
const TOGETHER: usize = 64;

fn ask_folder(sheet: &Sheet, folder: &Path, args: &LiveArgs) -> Result<Answers, Failure> {
    let settings = engine::Settings::of_device(&args.device)?;
    let mut cache = args.cache.as_deref().map(Cache::open).transpose()?;
    // The weights and how they are computed are what the answers depend on.
    let name = match &cache {
        Some(_) => {
            let weights = model_fingerprint(folder).map_err(experiment::failure)?;
            format!("folder {} {:?}", weights.as_str(), settings.precision(folder)?)
        }
        None => String::new(),
    };
    let requests = requests(sheet, args);
    let bar = bar(requests.len());
    let mut said: Vec<Said> = vec![Err("not asked".to_owned()); requests.len()];
    let mut open = Vec::new();
    for (place, request) in requests.iter().enumerate() {
        match cache.as_mut().map(|cache| cache.get(request.fingerprint(&name))).transpose()?.flatten() {
            Some(answer) => said[place] = words(answer),
            None => open.push(place),
        }
    }
    let known = (requests.len() - open.len()) as u64;
    let mut asked = Asked { judge: folder.display().to_string(), known, ..Asked::default() };
    bar.inc(asked.known);
    let mut generator = settings.generator(folder)?;
    if !open.is_empty() {
        generator.load(folder).map_err(engine::failure)?;
    }
    for places in open.chunks(TOGETHER) {
        let draw = GenerationDraw { seed: args.judge_seed, sampling: sampling(args), draw: 0 };
        let together: Vec<GenerationRequest> = places
            .iter()
            .map(|place| &sheet.questions()[*place])
            .map(|question| GenerationRequest {
                id: question.name.clone(),
                messages: question.messages.clone(),
                draws: vec![draw.clone()],
            })
            .collect();
        let answers = generator.generate(&together, &Guides::default(), &interrupt::Quiet).map_err(engine::failure)?;
        for (place, answer) in places.iter().zip(answers.into_iter().map(|mut answers| answers.pop())) {
            bar.inc(1);
            let Some(answer) = answer else { continue };
            asked.answer_tokens += u64::from(answer.tokens);
            if answer.finish == Finish::Context && answer.text.is_empty() {
                said[*place] = Err("the question fills the model's context".to_owned());
                continue;
            }
            if let Some(cache) = cache.as_mut() {
                let completion = Completion { text: answer.text.clone(), finish: answer.finish, logprobs: None };
                let usage = Some(Usage { prompt: 0, completion: answer.tokens });
                let kept = Answer { completions: vec![completion], usage };
                cache.put(requests[*place].fingerprint(&name), &kept)?;
            }
            said[*place] = Ok(answer.text);
        }
    }
    bar.finish_and_clear();
    Ok((said, asked))
}

/// How far the judge is, where someone looks.
fn bar(questions: usize) -> ProgressBar {
    let bar = ProgressBar::new(questions as u64);
    if let Ok(style) = ProgressStyle::with_template("judging {bar:30} {pos} of {len}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// Writes a whole file, or none.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(Code::Machine, format!("{}: {error}", path.display()));
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    let partial = Path::new(&name);
    let mut file = fs::File::create(partial).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(partial, path).map_err(failed)
}

impl Asked {
    /// The judge's name: as told, or its model's.
    pub fn judge(&self) -> &str {
        &self.judge
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        /// Lost questions that are named; all are in the JSON.
        const NAMED: usize = 5;
        let Asked { judge, questions, answered, known, .. } = self;
        writeln!(f, "asked {judge} for {questions} judgments: {answered} made, {known} of them known before")?;
        for (why, count) in &self.unread {
            writeln!(f, "  without a verdict: {count}: {why}")?;
        }
        if !self.faults.is_empty() {
            let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            writeln!(f, "  tries that went wrong, of {}: {}", self.sent, faults.join(", "))?;
        }
        if !self.failed.is_empty() {
            writeln!(f, "  not made: {}; they count nowhere", self.failed.len())?;
        }
        for lost in self.failed.iter().take(NAMED) {
            writeln!(f, "    {}: {}", lost.question, lost.why)?;
        }
        if self.failed.len() > NAMED {
            writeln!(f, "    and {} more", self.failed.len() - NAMED)?;
        }
        Ok(())
    }
}
