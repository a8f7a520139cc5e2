//! Chat templates: conversations to text, as transformers' `apply_chat_template` renders them with jinja2.

use std::{collections::BTreeMap, fmt, fs, path::Path, str::FromStr};

use metareward_api::Message;
use minijinja::{
    Environment, Error, ErrorKind, Value,
    value::{Kwargs, ValueKind},
};
use serde::{Deserialize, Serialize};

use crate::{Result, TorchError, config::read_json};

/// The day that templates see as today.
///
/// Some templates write the date into the system turn. The day is part of the configuration and not read from the
/// clock, so that a run can be repeated. The default is the one that Llama's templates use where no clock is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TemplateDate {
    year: u16,
    month: u8,
    day: u8,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Default for TemplateDate {
    fn default() -> Self {
        Self { year: 2024, month: 7, day: 26 }
    }
}

impl TemplateDate {
    fn leap(self) -> bool {
        self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400))
    }

    fn days_in_month(self, month: u8) -> u8 {
        match month {
            2 if self.leap() => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    fn day_of_year(self) -> u16 {
        (1..self.month).map(|month| u16::from(self.days_in_month(month))).sum::<u16>() + u16::from(self.day)
    }

    /// 0 is Sunday.
    fn weekday(self) -> usize {
        let before = u32::from(self.year) - 1;
        let days = before * 365 + before / 4 - before / 100 + before / 400 + u32::from(self.day_of_year());
        (days % 7) as usize
    }

    /// The day as C's `strftime` writes it; the time of day is midnight.
    fn format(self, format: &str) -> Result<String, Error> {
        let mut text = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                text.push(character);
                continue;
            }
            let mut directive = characters.next();
            let plain = directive == Some('-');
            if plain {
                directive = characters.next();
            }
            let number = |value: u16| if plain { value.to_string() } else { format!("{value:02}") };
            let month = MONTHS[usize::from(self.month) - 1];
            let weekday = WEEKDAYS[self.weekday()];
            text += &match directive {
                Some('d') => number(self.day.into()),
                Some('m') => number(self.month.into()),
                Some('y') => number(self.year % 100),
                Some('Y') => self.year.to_string(),
                Some('B') => month.to_owned(),
                Some('b' | 'h') => month[..3].to_owned(),
                Some('A') => weekday.to_owned(),
                Some('a') => weekday[..3].to_owned(),
                Some('j') if plain => self.day_of_year().to_string(),
                Some('j') => format!("{:03}", self.day_of_year()),
                Some('H' | 'M' | 'S') => number(0),
                Some('I') => number(12),
                Some('p') => "AM".to_owned(),
                Some('F') => self.to_string(),
                Some('%') => "%".to_owned(),
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(Error::new(
                        ErrorKind::InvalidOperation,
                        format!("strftime_now: %{other} is not known"),
                    ));
                }
            };
        }
        Ok(text)
    }
}

impl fmt::Display for TemplateDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl FromStr for TemplateDate {
    type Err = TorchError;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || TorchError::Input(format!("{text:?} is not a day: write it like 2024-07-26"));
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else { return Err(wrong()) };
        let date = Self {
            year: year.parse().map_err(|_| wrong())?,
            month: month.parse().map_err(|_| wrong())?,
            day: day.parse().map_err(|_| wrong())?,
        };
        let valid = (1..=9999).contains(&date.year)
            && (1..=12).contains(&date.month)
            && (1..=date.days_in_month(date.month)).contains(&date.day);
        if valid { Ok(date) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for TemplateDate {
    type Error = TorchError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<TemplateDate> for String {
    fn from(date: TemplateDate) -> Self {
        date.to_string()
    }
}

/// A model's chat template, compiled.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special: BTreeMap<String, String>,
}

const NAME: &str = "chat_template";

impl ChatTemplate {
    /// Reads the template of a model folder: `chat_template.jinja`, else `chat_template` in `tokenizer_config.json` (one
    /// text, or a list of which `default` is taken).
    ///
    /// # Errors
    /// [`TorchError::Model`] when there is none or it does not compile.
    pub fn read(folder: &Path, date: TemplateDate) -> Result<Self> {
        let config = read_json(folder, "tokenizer_config.json")?.unwrap_or_default();
        let map = read_json(folder, "special_tokens_map.json")?.unwrap_or_default();
        let mut special = BTreeMap::new();
        for source in [&map, &config] {
            for (key, value) in source.as_object().into_iter().flatten() {
                let text = value.as_str().or_else(|| value.get("content").and_then(serde_json::Value::as_str));
                if let (true, Some(text)) = (key.ends_with("_token"), text) {
                    special.insert(key.clone(), text.to_owned());
                }
            }
        }
        let path = folder.join("chat_template.jinja");
        let source = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => in_tokenizer_config(&config),
            Err(error) => return Err(TorchError::io(&path, &error)),
        };
        let source = source.ok_or_else(|| {
            TorchError::model(
                folder,
                "there is no chat template: add chat_template.jinja, or chat_template in tokenizer_config.json (a base \
                 model has none; its instruct variant does)",
            )
        })?;
        Self::new(&source, special, date).map_err(|error| TorchError::model(folder, error.to_string()))
    }

    /// A template from its text. `special` holds what templates see as `bos_token`, `eos_token` and so on.
    ///
    /// # Errors
    /// [`TorchError::Input`] when it does not compile, with the line.
    pub fn new(source: &str, special: BTreeMap<String, String>, date: TemplateDate) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: String| date.format(&format));
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| TorchError::Input(format!("the chat template does not compile: {}", describe(&error))))?;
        Ok(Self { environment, special })
    }

    /// The conversation as text. `add_generation_prompt` opens the model's next turn.
    ///
    /// # Errors
    /// [`TorchError::Input`] when the template refuses the conversation, with what it said.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let mut variables: BTreeMap<&str, Value> =
            self.special.iter().map(|(key, text)| (key.as_str(), Value::from(text.as_str()))).collect();
        variables.insert("messages", Value::from_serialize(messages));
        variables.insert("add_generation_prompt", Value::from(add_generation_prompt));
        // transformers passes these two as None where they are not given.
        variables.insert("tools", Value::from(()));
        variables.insert("documents", Value::from(()));
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(&variables))
            .map_err(|error| TorchError::Input(format!("the chat template does not render: {}", describe(&error))))
    }

    /// The text of a special token, for example `eos_token`.
    pub fn special(&self, name: &str) -> Option<&str> {
        self.special.get(name).map(String::as_str)
    }
}

fn in_tokenizer_config(config: &serde_json::Value) -> Option<String> {
    match config.get("chat_template")? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Array(list) => {
            let named = |name: &str| list.iter().find(|entry| entry.get("name").is_some_and(|value| value == name));
            Some(named("default")?.get("template")?.as_str()?.to_owned())
        }
        _ => None,
    }
}

/// The error's own words and the line, without the template's name.
fn describe(error: &Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    error.line().map_or_else(|| what.clone(), |line| format!("{what} (line {line})"))
}

/// Takes out `{% generation %}` and `{% endgeneration %}`, which mark what a model wrote (transformers uses them for
/// masks) and print nothing.
fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start + 2..start + length];
        let open = if tag.starts_with(['-', '+']) { &tag[..1] } else { "" };
        let close = if tag.len() > open.len() && tag.ends_with(['-', '+']) { &tag[tag.len() - 1..] } else { "" };
        text += &rest[..start];
        match tag[open.len()..tag.len() - close.len()].trim() {
            "generation" => text += &format!("{{%{open} if true {close}%}}"),
            "endgeneration" => text += &format!("{{%{open} endif {close}%}}"),
            _ => text += &rest[start..start + length + 2],
        }
        rest = &rest[start + length + 2..];
    }
    text + rest
}

/// transformers' `tojson`: Python's `json.dumps` with `ensure_ascii=False`, keys in their order.
fn to_json(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut text = String::new();
    write_json(&mut text, &value, indent, sort_keys.unwrap_or(false), 0)?;
    Ok(Value::from_safe_string(text))
}

fn write_json(
    text: &mut String,
    value: &Value,
    indent: Option<usize>,
    sort_keys: bool,
    depth: usize,
) -> Result<(), Error> {
    let quote = |string: &str| serde_json::Value::from(string).to_string();
    let line = |text: &mut String, depth: usize| {
        if let Some(width) = indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', width * depth));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    match value.kind() {
        ValueKind::None => text.push_str("null"),
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => text.push_str(&value.to_string()),
        ValueKind::String => text.push_str(&quote(value.as_str().unwrap_or_default())),
        ValueKind::Seq | ValueKind::Iterable => {
            text.push('[');
            let mut any = false;
            for item in value.try_iter()? {
                text.push_str(if any { comma } else { "" });
                any = true;
                line(text, depth + 1);
                write_json(text, &item, indent, sort_keys, depth + 1)?;
            }
            if any {
                line(text, depth);
            }
            text.push(']');
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if sort_keys {
                keys.sort();
            }
            text.push('{');
            for (index, key) in keys.iter().enumerate() {
                text.push_str(if index > 0 { comma } else { "" });
                line(text, depth + 1);
                text.push_str(&quote(&key.to_string()));
                text.push_str(": ");
                write_json(text, &value.get_item(key)?, indent, sort_keys, depth + 1)?;
            }
            if !keys.is_empty() {
                line(text, depth);
            }
            text.push('}');
        }
        other => return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: {other} has no JSON form"))),
    }
    Ok(())
}
