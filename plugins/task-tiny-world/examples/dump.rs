//! Prints the world's texts as lines of JSON: `cargo run -p task-tiny-world --example dump -- KIND SEED N [OPTIONS]`.
//! KIND is prompts, demonstrations, judge or meta; OPTIONS is a JSON object of the task's options.

use std::{env, error::Error, io::Write};

use metareward_api::Task;
use serde::Serialize;
use task_tiny_world::{TinyWorld, TinyWorldOptions};

fn print<T: Serialize>(records: &[T]) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    for record in records {
        writeln!(out, "{}", serde_json::to_string(record)?)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [kind, seed, n, rest @ ..] = arguments.as_slice() else {
        return Err("usage: dump KIND SEED N [OPTIONS]".into());
    };
    let (seed, n) = (seed.parse()?, n.parse()?);
    let options = match rest.first() {
        Some(json) => serde_json::from_str(json)?,
        None => TinyWorldOptions::default(),
    };
    let world = TinyWorld::new(options)?;
    match kind.as_str() {
        "prompts" => print(&world.prompts(seed, n)?),
        "demonstrations" => print(&world.demonstrations(seed, n)?),
        "judge" => print(&world.judge_examples(seed, n)?),
        "meta" => print(&world.meta_examples(seed, n)?),
        other => Err(format!("unknown kind {other}: prompts, demonstrations, judge or meta").into()),
    }
}
