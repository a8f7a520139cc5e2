//! How many servers a coordinator keeps busy.

use serde::{Deserialize, Serialize};

use super::{Outcome, Simulation, simulate};
use crate::RemoteError;

/// A simulation with so many servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// Number of servers.
    pub servers: usize,
    /// What it showed.
    pub outcome: Outcome,
}

/// Doubles the number of servers, from the simulation's own, until they are less busy than `least` or `most` of them are
/// reached, with so many requests per place in each. Gives what each number showed: the last one is where the coordinator
/// no longer keeps up, unless it is as busy as it should be.
///
/// # Errors
/// As [`simulate`].
pub fn limit(
    simulation: &Simulation,
    requests_per_place: u64,
    least: f64,
    most: usize,
    tell: &mut dyn FnMut(&Rung),
) -> Result<Vec<Rung>, RemoteError> {
    let mut rungs = Vec::new();
    let mut servers = simulation.servers.max(1);
    loop {
        let places = servers as u64 * u64::from(simulation.options.in_flight.max(1));
        let rung = Simulation { servers, requests: places * requests_per_place.max(1), ..simulation.clone() };
        let rung = Rung { servers, outcome: simulate(&rung, &mut |_| {})? };
        tell(&rung);
        let busy = rung.outcome.busy;
        rungs.push(rung);
        if busy < least || servers * 2 > most {
            return Ok(rungs);
        }
        servers *= 2;
    }
}
