//! A forwarder that stands before any server and puts faults in its way.

use std::{
    collections::BTreeMap,
    io::{BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::http::{Incoming, respond};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Nothing.
    None,
    /// It takes longer than any client waits.
    Slow(Duration),
    /// 429 with Retry-After, in seconds.
    Busy(u32),
    /// 500.
    Error,
    /// The answer ends in the middle.
    Cut,
    /// The connection ends before an answer.
    Dropped,
    /// An answer that is not JSON.
    Malformed,
    /// JSON of another shape.
    Shape,
    /// Another model's name in the answer.
    WrongModel,
}

/// Every kind of trouble that passes, one after the other, each followed by none.
pub fn all_kinds(slow: Duration) -> Vec<Trouble> {
    use Trouble::{Busy, Cut, Dropped, Error, Malformed, None, Shape, Slow, WrongModel};
    [Slow(slow), Busy(1), Error, Cut, Dropped, Malformed, Shape, WrongModel]
        .into_iter()
        .flat_map(|kind| [kind, None])
        .collect()
}

/// The proxy; it ends with the value.
pub struct Proxy {
    /// Its port.
    pub port: u16,
    state: Arc<State>,
}

struct State {
    upstream: String,
    plan: Vec<Trouble>,
    next: AtomicUsize,
    /// What was done, in order.
    done: Mutex<Vec<Trouble>>,
    /// How often each request, by its body, met trouble.
    met: Mutex<BTreeMap<Vec<u8>, u32>>,
    ended: AtomicBool,
}

impl Proxy {
    /// Before the server at this port of this machine; `plan` says what happens to each request that asks for an answer,
    /// and begins anew at its end.
    pub fn before(port: u16, plan: Vec<Trouble>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            upstream: format!("127.0.0.1:{port}"),
            plan,
            next: AtomicUsize::new(0),
            done: Mutex::default(),
            met: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for connection in listener.incoming() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.serve(connection));
            }
        });
        Proxy { port, state }
    }

    /// What was done to requests, in order.
    pub fn done(&self) -> Vec<Trouble> {
        self.state.done.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// No request meets more trouble than this. Requests in flight take the plan's entries in turns, and one of them could
/// meet nothing but faults until its tries are used up.
const MOST: u32 = 3;

impl State {
    /// The plan's next entry, or nothing for a request that has had its share.
    fn planned(&self, request: &Incoming) -> Trouble {
        let trouble = self.plan[self.next.fetch_add(1, Ordering::SeqCst) % self.plan.len()];
        let mut met = self.met.lock().unwrap();
        let count = met.entry(request.body.clone()).or_default();
        if trouble == Trouble::None || *count == MOST {
            return Trouble::None;
        }
        *count += 1;
        trouble
    }

    /// One request, after which the connection ends.
    fn serve(&self, mut connection: TcpStream) {
        let mut reader = BufReader::new(connection.try_clone().unwrap());
        let Some(request) = Incoming::read(&mut reader) else { return };
        let trouble = match request.method.as_str() {
            "POST" if !self.plan.is_empty() => self.planned(&request),
            _ => Trouble::None,
        };
        self.done.lock().unwrap().push(trouble);
        let close = "connection: close\r\n";
        let ended = match trouble {
            Trouble::Slow(time) => {
                thread::sleep(time);
                return;
            }
            Trouble::Busy(seconds) => {
                let headers = format!("retry-after: {seconds}\r\n{close}");
                respond(&mut connection, 429, &headers, r#"{"error":{"message":"slow down"}}"#)
            }
            Trouble::Error => respond(&mut connection, 500, close, r#"{"error":{"message":"planted"}}"#),
            Trouble::Dropped => return,
            Trouble::Malformed => respond(&mut connection, 200, close, r#"{"choices":[{"index":0,"mess"#),
            Trouble::Shape => respond(&mut connection, 200, close, r#"{"choices":[]}"#),
            Trouble::None | Trouble::Cut | Trouble::WrongModel => self.forward(&request, trouble, &mut connection),
        };
        drop(ended);
    }

    fn forward(&self, request: &Incoming, trouble: Trouble, client: &mut TcpStream) -> std::io::Result<()> {
        let mut server = TcpStream::connect(&self.upstream)?;
        server.write_all(&request.bytes(&self.upstream))?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        match trouble {
            Trouble::Cut => answer.truncate(answer.len() * 2 / 3),
            Trouble::WrongModel => rename(&mut answer),
            _ => {}
        }
        client.write_all(&answer)
    }
}

/// Overwrites the names of models with others of the same length, so that lengths and chunks stay right.
fn rename(answer: &mut [u8]) {
    const NAMES: [&[u8]; 2] = [b"\"model\":\"", b"\"model\": \""];
    for place in 0..answer.len() {
        let Some(before) = NAMES.iter().find(|before| answer[place..].starts_with(before)) else { continue };
        answer[place + before.len()..].iter_mut().take_while(|byte| **byte != b'"').for_each(|byte| *byte = b'?');
    }
}
