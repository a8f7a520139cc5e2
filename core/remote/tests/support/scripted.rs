//! A server in the test's process, whose answer is a function of the request. It counts what it was asked.

use std::{
    collections::BTreeMap,
    io::BufReader,
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::http::{Incoming, respond};

/// What a request body is answered with; `None` cuts the connection.
pub type Script = dyn Fn(&Value) -> Option<String> + Send + Sync;

/// The server; it ends with the value.
pub struct Scripted {
    /// Its port.
    pub port: u16,
    state: Arc<State>,
}

struct State {
    script: Box<Script>,
    /// How often each body came in.
    seen: Mutex<BTreeMap<String, usize>>,
    /// Bodies whose answers were written in full.
    answered: Mutex<BTreeMap<String, usize>>,
    keys: Mutex<Vec<Option<String>>>,
    now: AtomicUsize,
    most: AtomicUsize,
    delay: Mutex<Duration>,
    ended: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Scripted {
    /// On any free port.
    pub fn start(script: impl Fn(&Value) -> Option<String> + Send + Sync + 'static) -> Scripted {
        Scripted::on(0, script)
    }

    /// On this port, which may have been another server's a moment ago.
    pub fn on(port: u16, script: impl Fn(&Value) -> Option<String> + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            script: Box::new(script),
            seen: Mutex::default(),
            answered: Mutex::default(),
            keys: Mutex::default(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            delay: Mutex::new(Duration::from_millis(2)),
            ended: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for connection in listener.incoming() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                shared.connections.lock().unwrap().push(connection.try_clone().unwrap());
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.serve(connection));
            }
        });
        Scripted { port, state }
    }

    /// Its address for a client.
    pub fn address(&self) -> String {
        format!("openai:http://127.0.0.1:{}/v1", self.port)
    }

    /// How long every answer takes.
    pub fn takes(&self, delay: Duration) {
        *self.state.delay.lock().unwrap() = delay;
    }

    /// How often each body came in.
    pub fn seen(&self) -> BTreeMap<String, usize> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Bodies that were answered, and how often.
    pub fn answered(&self) -> BTreeMap<String, usize> {
        self.state.answered.lock().unwrap().clone()
    }

    /// Most requests at a time.
    pub fn most_at_a_time(&self) -> usize {
        self.state.most.load(Ordering::SeqCst)
    }

    /// The keys that came with requests.
    pub fn keys(&self) -> Vec<Option<String>> {
        self.state.keys.lock().unwrap().clone()
    }

    /// Cuts all connections and frees the port, as a killed server does.
    pub fn kill(&self) {
        if !self.state.ended.swap(true, Ordering::SeqCst) {
            for connection in self.state.connections.lock().unwrap().drain(..) {
                drop(connection.shutdown(Shutdown::Both));
            }
            // Wakes the listener, which then ends.
            drop(TcpStream::connect(("127.0.0.1", self.port)));
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.kill();
    }
}

impl State {
    fn serve(&self, connection: TcpStream) {
        let Ok(mut writer) = connection.try_clone() else { return };
        let mut reader = BufReader::new(connection);
        self.answer_all(&mut reader, &mut writer);
        drop(writer.shutdown(Shutdown::Both));
    }

    fn answer_all(&self, reader: &mut BufReader<TcpStream>, writer: &mut TcpStream) {
        while let Some(request) = Incoming::read(reader) {
            if request.method == "GET" {
                let list = json!({"object": "list", "data": [{"id": "scripted", "object": "model"}]});
                let closes = request.header("connection") == Some("close");
                if respond(writer, 200, "", &list.to_string()).is_err() || closes {
                    return;
                }
                continue;
            }
            let text = String::from_utf8(request.body.clone()).unwrap();
            let body: Value = serde_json::from_str(&text).unwrap();
            self.keys.lock().unwrap().push(request.header("authorization").map(str::to_owned));
            *self.seen.lock().unwrap().entry(text.clone()).or_default() += 1;
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            let delay = *self.delay.lock().unwrap();
            thread::sleep(delay);
            let answer = (self.script)(&body);
            self.now.fetch_sub(1, Ordering::SeqCst);
            let Some(answer) = answer else { return };
            let closes = request.header("connection") == Some("close");
            let headers = if closes { "connection: close\r\n" } else { "" };
            let said = json!({
                "model": body["model"],
                "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 3},
            });
            if self.ended.load(Ordering::SeqCst) || respond(writer, 200, headers, &said.to_string()).is_err() {
                return;
            }
            *self.answered.lock().unwrap().entry(text).or_default() += 1;
            if closes {
                return;
            }
        }
    }
}

/// An answer that depends on all of the request.
pub fn echo(body: &Value) -> Option<String> {
    Some(format!("{} ({})", body["messages"][0]["content"].as_str().unwrap_or_default(), body["seed"]))
}
