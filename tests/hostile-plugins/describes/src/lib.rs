//! A ranker's component on the bare bindings. What it does wrong stands in its own bytes, where the test writes it: what a
//! plugin says of itself has no options yet.
#![cfg(target_family = "wasm")]

use std::{hint::black_box, ptr};

use metareward_plugin::bindings::{
    ranker::{exports::metareward::plugin::ranker::Guest, ranker_component},
    types::{Description, Kind, OptionError, PluginError, RankerPromises, RankingProblem, Rating, Remark},
};

#[used]
static MODE: [u8; 16] = *b"hostile-mode:000";

/// The number that the test wrote.
fn mode() -> u32 {
    // SAFETY: a reference is always readable. Volatile, because the bytes change after the compiler saw them.
    let bytes = unsafe { ptr::read_volatile(&MODE) };
    bytes[13..].iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

struct Describes;

ranker_component!(Describes);

fn endless() -> ! {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

impl Guest for Describes {
    fn describe() -> Description {
        let mut said = Description {
            kind: Kind::Ranker,
            name: "describes".to_owned(),
            version: "0.1.0".to_owned(),
            summary: "Says what it should not".to_owned(),
            options_schema: "{}".to_owned(),
        };
        match mode() {
            1 => said.options_schema = "{\"type\": \"object\", ".to_owned(),
            2 => said.options_schema = "[1, 2]".to_owned(),
            3 => said.name = "a\u{1b}[2Jb\r\n".to_owned(),
            4 => said.name = "n".repeat(1 << 20),
            5 => said.kind = Kind::Rubric,
            6 => endless(),
            7 => std::arch::wasm32::unreachable(),
            8 => said.options_schema = "[".repeat(1 << 20),
            9 => said.options_schema = "{\"properties\": {\"a\": {\"$ref\": \"file:///etc/passwd\"}}}".to_owned(),
            10 => {
                said.version = "1\u{1b}[2J".to_owned();
                said.summary = "\u{7}s".repeat(1 << 20);
            }
            _ => {}
        }
        said
    }

    fn configure(_: String) -> Result<(), OptionError> {
        Ok(())
    }

    fn promises() -> Result<RankerPromises, PluginError> {
        Ok(RankerPromises { ignores_order: true, mirrors_ratings: true, likelihood: None })
    }

    fn rate(problems: Vec<RankingProblem>) -> Result<Vec<Rating>, PluginError> {
        let rating = |remarks| Rating { ratings: vec![0.0; 2], converged: true, steps: 0, remarks };
        match mode() {
            11 => Err(PluginError { message: "it was that one".to_owned(), item: Some(u64::MAX) }),
            12 => {
                // One list of a million players, told 64 times: 4 MiB here, 256 MiB for whoever copies it out.
                let list = Box::leak(vec![0u32; 1 << 20].into_boxed_slice());
                // SAFETY: none. The vectors own the same memory; whoever frees them frees it 64 times.
                let mut again = || unsafe { Vec::from_raw_parts(list.as_mut_ptr(), list.len(), list.len()) };
                Ok(vec![rating((0..64).map(|_| Remark::Undefeated(again())).collect())])
            }
            _ => Ok(problems.iter().map(|_| rating(Vec::new())).collect()),
        }
    }
}
