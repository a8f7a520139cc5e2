//! The place that a text has in a prompt, and texts that try to end it.

use metareward_api::{Message, PluginError, Role};

use crate::outcome::{ensure, only};

/// Stands where a text will stand; occurs in no template.
const MARK: &str = "\u{e000}mark\u{e001}";

/// The one conversation as a text, one message after the other. It must be the model's turn.
pub(crate) fn conversation(rendered: Result<Vec<Vec<Message>>, PluginError>) -> Result<String, String> {
    let messages = only(rendered)?;
    let last = messages.last().map(|message| message.role);
    ensure(last == Some(Role::User), || format!("the last message is of {last:?}, not of the user"))?;
    Ok(messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n"))
}

/// What stands before and after the text in the prompt.
fn surroundings(render: &dyn Fn(&str) -> Result<String, String>) -> Result<(String, String), String> {
    let rendered = render(MARK)?;
    let (before, after) = rendered.split_once(MARK).ok_or("the text is not in the prompt as it is")?;
    Ok((before.to_owned(), after.to_owned()))
}

/// The first line with something in it, without blanks around: what ends a place.
fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("")
}

/// A text that holds what follows its own place, as if it had ended, between `before` and `after`.
pub(crate) fn break_out(
    render: &dyn Fn(&str) -> Result<String, String>,
    before: &str,
    after: &str,
) -> Result<String, String> {
    let (_, follows) = surroundings(render)?;
    Ok(format!("{before}\n{}\n{after}", follows.trim()))
}

/// Checks that a text stands in its place and does not hold the line that ends it.
pub(crate) fn inserted(render: &dyn Fn(&str) -> Result<String, String>, text: &str) -> Result<(), String> {
    let (before, after) = surroundings(render)?;
    let rendered = render(text)?;
    let inside = rendered
        .strip_prefix(&before)
        .and_then(|rest| rest.strip_suffix(&after))
        .ok_or_else(|| format!("the text changed what stands around it: {rendered:?}"))?;
    let end = first_line(&after);
    let ended = inside.lines().any(|line| line.trim().eq_ignore_ascii_case(end));
    ensure(end.is_empty() || !ended, || format!("the text ends its place with {end:?}: {inside:?}"))
}
