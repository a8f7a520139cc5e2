//! Points of answers: reads lines of JSON, each `["prompt", "response"]`, and prints a number per line:
//! `cargo run -p task-tiny-world --example oracle -- [OPTIONS]`, OPTIONS being a JSON object of the task's options.

use std::{
    env,
    error::Error,
    io::{BufRead, Write},
};

use metareward_api::{Prompt, PromptId, Task};
use task_tiny_world::{TinyWorld, TinyWorldOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let options = match env::args().nth(1) {
        Some(json) => serde_json::from_str(&json)?,
        None => TinyWorldOptions::default(),
    };
    let world = TinyWorld::new(options)?;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let (text, response): (String, String) = serde_json::from_str(&line?)?;
        let prompt = Prompt { id: PromptId("line".to_owned()), text, system: None, category: None };
        for points in world.oracle(&[(&prompt, &response)])?.unwrap_or_default() {
            writeln!(out, "{points}")?;
            out.flush()?;
        }
    }
    Ok(())
}
