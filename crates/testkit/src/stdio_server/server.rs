//! Reads messages, answers them, and breaks what the knobs say.

use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::answers::{self, Answer};
use super::knobs::{Era, IdForm, Knobs, Point};
use super::ledger::Ledger;
use super::output::Output;
use super::tools;

/// Cheap to clone: every call that takes time runs on a thread with its own clone.
#[derive(Debug, Clone)]
pub(crate) struct Server(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    knobs: Knobs,
    ledger: Ledger,
    output: Output,
    /// Names of the tools that are listed at the moment.
    tools: Mutex<Vec<String>>,
    /// Ids, as JSON text, of requests whose cancellation has arrived.
    cancelled: Mutex<BTreeSet<String>>,
    cancelling: Condvar,
    calls_answered: AtomicU64,
}

impl Server {
    pub(crate) fn new(knobs: Knobs) -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            ledger: Ledger::open(knobs.ledger.as_deref())?,
            output: Output::new(&knobs),
            knobs,
            tools: Mutex::new(tools::default_names()),
            cancelled: Mutex::default(),
            cancelling: Condvar::new(),
            calls_answered: AtomicU64::new(0),
        })))
    }

    pub(crate) fn knobs(&self) -> &Knobs {
        &self.0.knobs
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    pub(crate) fn output(&self) -> &Output {
        &self.0.output
    }

    pub(crate) fn tools(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn exit_if_at(&self, point: Point) {
        if self.knobs().exit_at == Some(point) {
            std::process::exit(self.knobs().exit_code.into());
        }
    }

    /// What bad servers print before they say anything.
    pub(crate) fn noise(&self) {
        for number in 0..self.knobs().noise_text {
            self.output()
                .line(&format!("Listening (line {number}) ..."));
        }
        for number in 0..self.knobs().noise_json {
            self.output()
                .message(&json!({"level": "info", "msg": "still here", "n": number}));
        }
        if self.knobs().garbage {
            self.output().bytes(b"\x00\xff{\"jsonrpc\":\n[[[[\n\n");
        }
    }

    /// Until the end of stdin.
    pub(crate) fn serve(&self) -> io::Result<()> {
        if self.knobs().close_stdout_after == Some(0) {
            self.output().close()?;
        }
        let mut messages = 0;
        let mut stdin = io::stdin().lock();
        let mut line = Vec::new();
        loop {
            if self.knobs().stop_reading_after == Some(messages) {
                thread::sleep(Duration::from_secs(600));
                return Ok(());
            }
            line.clear();
            if stdin.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            messages += 1;
            if self.knobs().garbage {
                self.output().bytes(b"}} not an answer {{\n");
            } else if let Ok(message) = serde_json::from_slice::<Value>(&line) {
                self.handle(&message);
            }
        }
    }

    fn handle(&self, message: &Value) {
        // No method: an answer to a request of ours, and we send none.
        let Some(method) = message["method"].as_str() else {
            if message["id"] == "roots" {
                self.ledger()
                    .write("roots", &message["result"]["roots"].to_string());
            }
            return;
        };
        self.wish(method, &message["params"]);
        if method == "notifications/cancelled" {
            self.cancel(&message["params"]["requestId"]);
        }
        let Some(id) = message.get("id") else { return };
        self.note(method, &message["params"]);
        let stays_open = method == "subscriptions/listen" && self.knobs().wishes;
        if stays_open || self.knobs().never_answer.contains(method) {
            return;
        }
        if method == "tools/call" {
            self.exit_if_at(Point::Call);
            let (server, id, params) = (self.clone(), id.clone(), message["params"].clone());
            // Calls run side by side and answer in any order, like a real server's. Never joined: they end with us.
            thread::spawn(move || server.call(&id, &params));
            return;
        }
        let answer = answers::answer(self, method, &message["params"]);
        self.answer(id, answer, "\n");
    }

    /// What a client wants it to keep in mind.
    fn wish(&self, method: &str, params: &Value) {
        if !self.knobs().wishes {
            return;
        }
        let word = |key: &str| params[key].as_str().unwrap_or("-").to_owned();
        match method {
            "logging/setLevel" => self.ledger().write("level", &word("level")),
            "resources/subscribe" => self.ledger().write("subscribe", &word("uri")),
            "resources/unsubscribe" => self.ledger().write("unsubscribe", &word("uri")),
            "initialize" => self.ledger().write(
                "declared",
                &params["capabilities"]["roots"]["listChanged"].to_string(),
            ),
            "notifications/initialized" | "notifications/roots/list_changed" => self
                .output()
                .message(&json!({"jsonrpc": "2.0", "id": "roots", "method": "roots/list"})),
            "subscriptions/listen" => self.listen(params),
            _ => {}
        }
    }

    /// Acknowledges a listen stream; it ends with the process.
    fn listen(&self, params: &Value) {
        let filter = &params["notifications"];
        self.ledger()
            .write("listen", &filter["resourceSubscriptions"].to_string());
        self.output().message(
            &json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                "params": {"notifications": filter}}),
        );
    }

    fn note(&self, method: &str, params: &Value) {
        match method {
            "initialize" => {
                self.ledger().write(
                    "initialize",
                    params["protocolVersion"].as_str().unwrap_or("-"),
                );
                self.exit_if_at(Point::Initialize);
            }
            "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" => {
                self.ledger().write("list", method);
                self.exit_if_at(Point::List);
            }
            "tools/call" => self
                .ledger()
                .write("call", params["name"].as_str().unwrap_or("-")),
            _ => self.ledger().write("request", method),
        }
    }

    fn call(&self, id: &Value, params: &Value) {
        let Some(answer) = tools::call(self, id, params) else {
            return;
        };
        let last = self.0.calls_answered.fetch_add(1, Ordering::SeqCst) + 1;
        let exits = self.knobs().exit_after_calls == Some(last);
        let end = if exits && self.knobs().no_final_newline {
            ""
        } else {
            "\n"
        };
        self.answer(id, answer, end);
        if exits {
            std::process::exit(self.knobs().exit_code.into());
        }
        if self.knobs().close_stdout_after == Some(last)
            && let Err(error) = self.output().close()
        {
            self.ledger().write("error", &error.to_string());
        }
    }

    fn answer(&self, id: &Value, answer: Answer, end: &str) {
        let id = self.id_to_send(id);
        let message = match answer {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": self.dress(result)}),
            Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
        };
        let mut text = format!("{message}{end}");
        if self.knobs().duplicate_answers {
            text = text.repeat(2);
        }
        self.output().bytes(text.as_bytes());
    }

    /// Modern results carry their type and the server's identity; legacy clients ignore both.
    fn dress(&self, mut result: Value) -> Value {
        if self.knobs().era != Era::Legacy
            && let Some(members) = result.as_object_mut()
        {
            members
                .entry("resultType")
                .or_insert_with(|| json!("complete"));
            let meta = members.entry("_meta").or_insert_with(|| json!({}));
            meta["io.modelcontextprotocol/serverInfo"] = answers::identity();
        }
        result
    }

    fn id_to_send(&self, id: &Value) -> Value {
        match self.knobs().id_form {
            IdForm::Same => id.clone(),
            IdForm::String => id
                .as_str()
                .map_or_else(|| json!(id.to_string()), |text| json!(text)),
            IdForm::Float => id
                .as_f64()
                .map_or_else(|| id.clone(), |number| json!(number)),
            IdForm::Wrong => json!(987_654_321),
        }
    }

    fn cancel(&self, id: &Value) {
        self.ledger().write("cancelled", &id.to_string());
        self.cancelled().insert(id.to_string());
        self.0.cancelling.notify_all();
    }

    fn cancelled(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0
            .cancelled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass; false if the request was cancelled meanwhile.
    pub(crate) fn passes(&self, id: &Value, time: Duration) -> bool {
        let id = id.to_string();
        let waited = self
            .0
            .cancelling
            .wait_timeout_while(self.cancelled(), time, |all| !all.contains(&id));
        !waited
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .contains(&id)
    }
}
