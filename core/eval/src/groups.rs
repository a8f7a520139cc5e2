//! Measurements, grouped by the prompt that they belong to.

use std::collections::BTreeMap;

use metareward_api::PromptId;

/// Measurements by prompt, in the order of the prompts' names. Answers to one prompt resemble each other, so a prompt is
/// what is drawn when an interval is made, not a measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups<T> {
    groups: BTreeMap<PromptId, Vec<T>>,
}

impl<T> Default for Groups<T> {
    fn default() -> Self {
        Groups { groups: BTreeMap::new() }
    }
}

impl<T> Groups<T> {
    /// Adds a measurement to its prompt.
    pub fn push(&mut self, prompt: &PromptId, value: T) {
        match self.groups.get_mut(prompt) {
            Some(group) => group.push(value),
            None => {
                self.groups.insert(prompt.clone(), vec![value]);
            }
        }
    }

    /// Number of prompts.
    pub fn prompts(&self) -> usize {
        self.groups.len()
    }

    /// Number of measurements.
    pub fn len(&self) -> usize {
        self.groups.values().map(Vec::len).sum()
    }

    /// Whether there is no measurement.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The measurements of one prompt; empty if there are none.
    pub fn of(&self, prompt: &PromptId) -> &[T] {
        self.groups.get(prompt).map_or(&[], Vec::as_slice)
    }

    /// Prompts with their measurements, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&PromptId, &[T])> {
        self.groups.iter().map(|(prompt, values)| (prompt, values.as_slice()))
    }

    /// All measurements, prompt by prompt.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.groups.values().flatten()
    }

    /// The same groups of something else.
    pub fn map<U>(&self, change: impl Fn(&T) -> U) -> Groups<U> {
        let groups = self.groups.iter().map(|(prompt, values)| (prompt.clone(), values.iter().map(&change).collect()));
        Groups { groups: groups.collect() }
    }
}

impl<T> FromIterator<(PromptId, T)> for Groups<T> {
    fn from_iter<I: IntoIterator<Item = (PromptId, T)>>(items: I) -> Self {
        let mut groups = Groups::default();
        for (prompt, value) in items {
            groups.push(&prompt, value);
        }
        groups
    }
}
