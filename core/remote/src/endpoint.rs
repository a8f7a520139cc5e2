//! Where a server is and which words it understands.

use std::{fmt, str::FromStr};

use reqwest::Url;

use crate::{Key, RemoteError};

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dialect::OpenAi => "openai",
            Dialect::Vllm => "vllm",
            Dialect::LlamaCpp => "llama-cpp",
        })
    }
}

/// Which parameters a server takes beside OpenAI's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's parameters only. Any server takes them; top-k and min-p cannot be said, and where a server has defaults of
    /// its own for them, those hold.
    OpenAi,
    /// vLLM and SGLang: also top-k, min-p and the repetition penalty, which is switched off, since these servers may take
    /// one from the model's folder. Completions take token ids.
    Vllm,
    /// llama.cpp's server: also top-k, min-p and the repeat penalty, all of which it would otherwise choose itself.
    /// Completions take token ids.
    LlamaCpp,
}

impl Dialect {
    /// Whether completions may be asked for by token ids.
    pub fn takes_tokens(self) -> bool {
        self != Dialect::OpenAi
    }
}

/// A server's address, as typed: `openai:URL`, `vllm:URL`, `sglang:URL` or `llama-cpp:URL`. The URL is the one that
/// `/chat/completions` is appended to; one without a path gets `/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// What the server understands.
    pub dialect: Dialect,
    url: Url,
}

impl FromStr for Address {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let wrong = |address: &str, message: &str| RemoteError::Address {
            address: address.to_owned(),
            message: message.to_owned(),
        };
        let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
        let dialect = match scheme {
            "openai" => Dialect::OpenAi,
            "vllm" | "sglang" => Dialect::Vllm,
            "llama-cpp" => Dialect::LlamaCpp,
            _ => return Err(wrong(scheme, "unknown kind of server")),
        };
        let mut url = Url::parse(rest).map_err(|error| wrong(scheme, &format!("no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong(scheme, "the URL must begin with http:// or https:// and a host"));
        }
        // What may be a secret is not repeated.
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong(
                scheme,
                "the URL must have no user, password, query or fragment; keys have a place of their own",
            ));
        }
        if url.path() == "/" {
            url.set_path("/v1");
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Address { dialect, url })
    }
}

impl Address {
    /// The URL, without anything secret.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The URL of one of its services, as in `chat/completions`.
    pub(crate) fn service(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    /// The URL of what lies beside the services, at the server's own root or, where the address has a longer path, one
    /// level above its last part: `…/v1` becomes `…/version`.
    pub(crate) fn beside(&self, path: &str) -> String {
        let url = self.url.as_str();
        let above = url.strip_suffix("/v1").unwrap_or(url);
        format!("{}/{}", above.trim_end_matches('/'), path.trim_start_matches('/'))
    }

    /// The host's name or number.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The port, where the URL says none that of its scheme.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// Whether it is this machine, which no proxy leads to.
    pub(crate) fn is_local(&self) -> bool {
        match self.url.host_str().unwrap_or_default() {
            "localhost" | "[::1]" => true,
            host => host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()),
        }
    }
}

/// A server and how to speak to it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where.
    pub address: Address,
    /// The model asked for.
    pub model: String,
    /// The name under which it answers, where that is another one.
    pub answers_as: Option<String>,
    /// The key, where one is wanted.
    pub key: Option<Key>,
}

impl Endpoint {
    /// Whether `found`, the model named in an answer, is the one asked for: the same name, or the same with a version
    /// after it (`name-2024-08-06`, `name@main`, `name:latest`).
    pub fn is_model(&self, found: &str) -> bool {
        let expected = self.answers_as.as_deref().unwrap_or(&self.model);
        match found.strip_prefix(expected) {
            Some("") => true,
            Some(rest) if self.answers_as.is_none() => {
                let version =
                    rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()));
                version || rest.starts_with(['@', ':'])
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, dialect, url) in [
            ("openai:http://localhost:8000", Dialect::OpenAi, "http://localhost:8000/v1"),
            ("openai:https://host.example/api/v1/", Dialect::OpenAi, "https://host.example/api/v1"),
            ("sglang:http://10.0.0.1:30000/v1", Dialect::Vllm, "http://10.0.0.1:30000/v1"),
            ("llama-cpp:http://[::1]:8080", Dialect::LlamaCpp, "http://[::1]:8080/v1"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.dialect, address.url()), (dialect, url));
        }
        assert!("openai:http://127.0.0.1:1".parse::<Address>().unwrap().is_local());
        assert!(!"openai:http://10.0.0.1:1".parse::<Address>().unwrap().is_local());
    }

    #[test]
    fn addresses_with_secrets_are_refused_without_repeating_them() {
        for text in [
            "openai:http://me:secret@host",
            "openai:http://host/v1?key=secret",
            "secret",
            "openai:ftp://secret",
            "openai:",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(text == "secret" || !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_version_is_the_same_model_and_a_sibling_is_not() {
        let address: Address = "openai:http://localhost".parse().unwrap();
        let mut endpoint = Endpoint { address, model: "gpt-4o".into(), answers_as: None, key: None };
        for same in ["gpt-4o", "gpt-4o-2024-08-06", "gpt-4o@main", "gpt-4o:latest"] {
            assert!(endpoint.is_model(same), "{same}");
        }
        for other in ["gpt-4o-mini", "gpt-4", "", "gpt-4o1"] {
            assert!(!endpoint.is_model(other), "{other}");
        }
        endpoint.answers_as = Some("/models/judge.gguf".into());
        assert!(endpoint.is_model("/models/judge.gguf") && !endpoint.is_model("gpt-4o"));
    }
}
