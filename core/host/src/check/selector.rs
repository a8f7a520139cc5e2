//! Selectors: two different candidates that exist, with the lengths that they have.

use metareward_api::{Candidate, NoPair, PluginError, Selection, Selector, SelectorPromises};

use super::Checked;

impl Selector for Checked<dyn Selector> {
    fn promises(&self) -> Result<SelectorPromises, PluginError> {
        let call = self.call("promises");
        let promises = call.answer(self.inner.promises())?;
        match promises.rho {
            Some(rho) if !(0.0..=1.0).contains(&rho) => Err(call.wrong(&format!("rho {rho} is not from 0 to 1"))),
            _ => Ok(promises),
        }
    }

    fn length_unit(&self) -> Result<String, PluginError> {
        let call = self.call("length_unit");
        let unit = call.answer(self.inner.length_unit())?;
        if unit != "characters" && unit != "tokens" {
            return Err(call.wrong(&format!("unit {unit:?} is neither \"characters\" nor \"tokens\"")));
        }
        Ok(unit)
    }

    fn select(&self, groups: &[Vec<Candidate>]) -> Result<Vec<Result<Selection, NoPair>>, PluginError> {
        let call = self.call("select");
        let tokens = self.length_unit()? == "tokens";
        let selections = call.answer(self.inner.select(groups))?;
        call.length(selections.len(), groups.len())?;
        for (item, (selection, group)) in selections.iter().zip(groups).enumerate() {
            let Ok(selection) = selection else { continue };
            let Selection { chosen, rejected, chosen_length, rejected_length } = *selection;
            if chosen == rejected {
                return Err(call.wrong_at(item, &format!("candidate {chosen} is both chosen and rejected")));
            }
            for (index, stated) in [(chosen, chosen_length), (rejected, rejected_length)] {
                let Some(candidate) = group.get(index as usize) else {
                    return Err(call.wrong_at(item, &format!("candidate {index} of {}", group.len())));
                };
                let length = if tokens { candidate.tokens } else { candidate.characters };
                if stated != length {
                    return Err(
                        call.wrong_at(item, &format!("length {stated} of candidate {index}, which is {length}"))
                    );
                }
            }
        }
        Ok(selections)
    }
}
