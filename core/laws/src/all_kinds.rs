//! Laws that hold for every kind.

use std::fmt::Debug;

use metareward_api::{Kind, Plugin, PluginError, PluginInfo};
use proptest::strategy::{Just, Strategy};

use crate::outcome::{LawOutcome, Plan, ensure, equal, failed, law, same_text};

pub(crate) const ABOUT: &str = "the plugin says what it is and what it promises";
pub(crate) const PURE: &str = "the same call gives the same answer, and no item of a batch influences another";
pub(crate) const TRACELESS: &str = "no call leaves a trace in the next, also not one that failed";

/// Kind, name and version are said, the same every time, and so are the promises. `promises` says what is wrong with them.
pub(crate) fn about<P: Plugin + ?Sized>(
    plan: Plan,
    kind: Kind,
    plugin: &P,
    promises: impl Fn() -> Result<(), Fault>,
) -> LawOutcome {
    law(ABOUT, Plan { cases: 1, ..plan }, Just(()), |()| {
        let info = plugin.info();
        equal("kind", &info.kind, &kind)?;
        let PluginInfo { name, version, .. } = &info;
        ensure(!name.trim().is_empty() && !version.trim().is_empty(), || {
            format!("name {name:?}, version {version:?}")
        })?;
        equal("what it says the second time", &plugin.info(), &info)?;
        promises().map_err(|Fault(message)| message)
    })
}

/// Why promises cannot be taken: the call failed, or they make no sense.
pub(crate) struct Fault(String);

impl From<PluginError> for Fault {
    fn from(error: PluginError) -> Self {
        Self(failed(error))
    }
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self(message)
    }
}

/// A call repeats to the bit, and no item of a batch influences another.
pub(crate) fn pure<S, I, O>(plan: Plan, items: S, call: impl Fn(&[I]) -> Result<Vec<O>, PluginError>) -> LawOutcome
where
    S: Strategy<Value = Vec<I>>,
    I: Debug,
    O: Debug,
{
    law(PURE, plan, items, |items| {
        let all = call(&items).map_err(failed)?;
        let again = call(&items).map_err(failed)?;
        same_text("the second call", &format!("{again:?}"), &format!("{all:?}"))?;
        let mut single = Vec::new();
        for item in &items {
            single.extend(call(std::slice::from_ref(item)).map_err(failed)?);
        }
        same_text("item by item", &format!("{single:?}"), &format!("{all:?}"))
    })
}

/// A call answers to the bit what it answered before other calls, and two series of calls can be interleaved.
pub(crate) fn traceless<I: Debug, O: Debug>(
    plan: Plan,
    input: impl Strategy<Value = I>,
    between: impl Strategy<Value = I>,
    call: impl Fn(&I) -> Result<O, PluginError>,
) -> LawOutcome {
    law(TRACELESS, plan, (input, between), |(input, between)| {
        let answer = |input: &I| format!("{:?}", call(input));
        let first = answer(&input);
        let other = answer(&between);
        same_text("after another call", &answer(&input), &first)?;
        answer(&between);
        same_text("the other call, after this one", &answer(&between), &other)?;
        same_text("after several calls", &answer(&input), &first)
    })
}
