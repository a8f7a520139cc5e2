//! A headless Chromium, driven over a pipe by its own protocol (Chrome DevTools Protocol).

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

pub struct Chromium {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: String,
    number: u64,
    /// What the page complained of: exceptions, refused loads.
    pub complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

/// The program, by `CHROMIUM` or from the path.
fn program() -> Option<PathBuf> {
    if let Some(named) = env::var_os("CHROMIUM") {
        return Some(named.into());
    }
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
    folders.iter().flat_map(|folder| names.map(|name| folder.join(name))).find(|path| path.is_file())
}

impl Chromium {
    /// Starts it with an empty page of this size. `None`, with a message, where there is none.
    pub fn start(width: u32, height: u32) -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("skipped: there is no Chromium on the path; name one in CHROMIUM");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        // The protocol's pipes are the descriptors 3 and 4; a shell puts them there.
        let mut process = Command::new("sh")
            .arg("-c")
            .arg(
                "exec \"$0\" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars \
                  --remote-debugging-pipe --user-data-dir=\"$1\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
            )
            .arg(program)
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (session, complaints) = (String::new(), Vec::new());
        let mut browser = Self { process, input, output, session, number: 0, complaints, _profile: profile };
        let target = browser.send("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let session = browser.send("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = session["sessionId"].as_str().unwrap().into();
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            browser.send(domain, json!({}));
        }
        let mobile = width < 600;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        browser.send("Emulation.setDeviceMetricsOverride", size);
        Some(browser)
    }

    /// Sends a command and waits for its result.
    pub fn send(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut bytes = Vec::new();
            self.output.read_until(0, &mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(0), "Chromium ended");
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            match answer["method"].as_str() {
                Some("Runtime.exceptionThrown" | "Log.entryAdded") => {
                    self.complaints.push(answer["params"].to_string())
                }
                _ if answer["id"] == json!(self.number) => {
                    assert!(answer.get("error").is_none(), "{method}: {answer}");
                    return answer["result"].clone();
                }
                _ => {}
            }
        }
    }

    /// The value of an expression in the page, which may be a promise.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let result = self.send("Runtime.evaluate", parameters);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true. Returns how long that took.
    pub fn wait(&mut self, expression: &str) -> Duration {
        let started = Instant::now();
        while self.value(expression) != json!(true) {
            assert!(started.elapsed() < Duration::from_secs(60), "{expression} never came true: {:?}", self.complaints);
            thread::sleep(Duration::from_millis(10));
        }
        started.elapsed()
    }

    /// Opens a report and waits for its figures and its first prompt. Returns how long that took.
    pub fn open(&mut self, page: &Path) -> Duration {
        let started = Instant::now();
        self.send("Page.navigate", json!({ "url": format!("file://{}", page.display()) }));
        self.wait("document.documentElement?.dataset.ready === 'yes'");
        self.wait("document.querySelector('.opened .answer') !== null");
        started.elapsed()
    }

    /// Unfolds everything that is folded, also what unfolding brings to light.
    pub fn unfold(&mut self) {
        self.wait(
            "(() => { const shut = document.querySelectorAll('details:not([open])'); shut.forEach((one) => { one.open = true; }); \
             return shut.length === 0; })()",
        );
        // The content comes with an event that follows the change.
        self.value("new Promise((done) => setTimeout(() => done(true), 50))");
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
