//! Reads messages, answers them, and breaks what the knobs say.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::answers::{self, Answer};
use super::family;
use super::knobs::{Era, IdForm, Knobs, Malformed, Point};
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
    /// What clients answered to our questions, by the id of the question.
    answers: Mutex<BTreeMap<String, Value>>,
    answered: Condvar,
    /// Ids, as JSON text, of requests whose cancellation has arrived.
    cancelled: Mutex<BTreeSet<String>>,
    cancelling: Condvar,
    calls_answered: AtomicU64,
    initialized: AtomicBool,
}

impl Server {
    pub(crate) fn new(knobs: Knobs) -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            ledger: Ledger::open(knobs.ledger.as_deref())?,
            output: Output::new(&knobs),
            tools: Mutex::new(tools::default_names(knobs.wishes, knobs.asks)),
            knobs,
            answers: Mutex::default(),
            answered: Condvar::new(),
            cancelled: Mutex::default(),
            cancelling: Condvar::new(),
            calls_answered: AtomicU64::new(0),
            initialized: AtomicBool::new(false),
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
            self.exit();
        }
    }

    /// Exits some time after the start, if it is to.
    pub(crate) fn exit_in_time(&self) {
        if let Some(ms) = self.knobs().exit_after_ms {
            let server = self.clone();
            // Never joined: it ends with the process, and the other way round.
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(ms));
                server.exit();
            });
        }
    }

    fn exit(&self) -> ! {
        if let Some(words) = &self.knobs().last_words {
            // A broken stderr leaves nobody to tell.
            let _ = writeln!(io::stderr(), "{words}");
        }
        std::process::exit(self.knobs().exit_code.into());
    }

    /// What bad servers print before they say anything.
    pub(crate) fn noise(&self) {
        if self.knobs().bom {
            self.output().bytes("\u{feff}".as_bytes());
        }
        if self.knobs().long_line_bytes > 0 {
            self.output()
                .line(&"n".repeat(self.knobs().long_line_bytes));
        }
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
            if self.knobs().stop_self_after == Some(messages) {
                family::stop_self(self.ledger())?;
            }
            line.clear();
            if stdin.read_until(b'\n', &mut line)? == 0 {
                self.ledger().write("eof", "-");
                return Ok(());
            }
            messages += 1;
            super::flood_stderr(self.knobs().stderr_per_message_bytes, false)?;
            if self.knobs().garbage {
                self.output().bytes(b"}} not an answer {{\n");
            } else if let Ok(message) = serde_json::from_slice::<Value>(&line) {
                self.handle(&message);
            }
        }
    }

    fn handle(&self, message: &Value) {
        let Some(method) = message["method"].as_str() else {
            // An answer to a request of ours, or to something that was none.
            if message["id"] == "roots" {
                self.ledger()
                    .write("roots", &message["result"]["roots"].to_string());
            }
            let asked = |id: &&str| id.starts_with("ask-") || id.starts_with("inquire-");
            if let Some(id) = message["id"].as_str().filter(asked) {
                self.answers().insert(id.to_owned(), message.clone());
                self.0.answered.notify_all();
            }
            let what = if message.get("error").is_some() {
                "error"
            } else {
                "result"
            };
            let detail = format!("{what} {}", message["id"]);
            return self.ledger().write("answer", &detail);
        };
        if self.knobs().exit_on.as_deref() == Some(method) {
            self.exit();
        }
        self.wish(method, &message["params"]);
        match method {
            "notifications/cancelled" => self.cancel(&message["params"]["requestId"]),
            "notifications/initialized" => self.start_requests(),
            _ => {}
        }
        let Some(id) = message.get("id") else { return };
        self.note(method, &message["params"]);
        let is_modern = message["params"]["_meta"][answers::META_VERSION].is_string();
        let stays_open = method == "subscriptions/listen" && self.knobs().wishes;
        if stays_open
            || self.knobs().never_answer.contains(method)
            || (is_modern && self.knobs().never_answer_modern.contains(method))
        {
            return;
        }
        let late = self.knobs().late.get(method);
        let late_ms = late.or_else(|| self.knobs().late.get("any")).copied();
        if method != "tools/call" && late_ms.is_none() {
            return self.reply(method, id, &message["params"]);
        }
        if method == "tools/call" {
            self.exit_if_at(Point::Call);
        }
        let (server, id, message) = (self.clone(), id.clone(), message.clone());
        // Calls run side by side and answer in any order, like a real server's. Never joined: they end with us.
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(late_ms.unwrap_or(0)));
            let params = &message["params"];
            match message["method"].as_str() {
                Some("tools/call") | None => server.call(&id, params),
                Some(method) => server.reply(method, &id, params),
            }
        });
    }

    /// Answers anything but a call.
    fn reply(&self, method: &str, id: &Value, params: &Value) {
        let mut answer = if self.is_too_early(method) {
            self.ledger().write("too-early", method);
            Err(answers::error(-32002, "not initialized"))
        } else {
            answers::answer(self, method, params)
        };
        if let Err(error) = &mut answer
            && error["code"] == answers::UNKNOWN
        {
            if self.knobs().crash_on_unknown {
                self.exit();
            }
            if self.knobs().silent_on_unknown {
                return;
            }
            error["code"] = json!(self.knobs().unknown_code.unwrap_or(answers::UNKNOWN));
        }
        if method == "initialize" && self.knobs().chatter {
            let data = json!({"level": "info", "data": "hello"});
            for message in [
                json!({"jsonrpc": "2.0", "method": "notifications/message", "params": data}),
                json!({"jsonrpc": "2.0", "id": "early", "method": "ping"}),
            ] {
                self.output().message(&message);
            }
        }
        self.answer(id, answer, "\n");
        if self.knobs().exit_after.as_deref() == Some(method) {
            self.exit();
        }
    }

    fn is_too_early(&self, method: &str) -> bool {
        self.knobs().strict_init
            && !self.0.initialized.load(Ordering::SeqCst)
            && !matches!(method, "initialize" | "ping" | "server/discover")
    }

    /// Initialized: from now on it may ask too.
    fn start_requests(&self) {
        self.ledger().write("initialized", "-");
        self.0.initialized.store(true, Ordering::SeqCst);
        let count = self.knobs().flood_requests;
        let server = self.clone();
        // Beside the reader: a client that answers slowly must not stop it. Never joined: it ends with us.
        thread::spawn(move || {
            for number in 0..count {
                server.output().message(
                    &json!({"jsonrpc": "2.0", "id": format!("flood-{number}"), "method": "roots/list"}),
                );
            }
        });
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
            "server/discover" => {
                self.ledger().write("request", method);
                self.meet(
                    &params["_meta"],
                    answers::META_CAPABILITIES,
                    answers::META_INFO,
                );
            }
            "initialize" => {
                self.meet(params, "capabilities", "clientInfo");
                self.add_for(&params["capabilities"]);
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

    /// Lists more to a client that can do more.
    fn add_for(&self, capabilities: &Value) {
        let declared = capabilities
            .as_object()
            .filter(|_| self.knobs().more_if_declared);
        let names = declared.into_iter().flat_map(serde_json::Map::keys);
        self.tools()
            .extend(names.map(|name| format!("with_{name}")));
    }

    /// Notes what a client says of itself.
    fn meet(&self, at: &Value, capabilities: &str, info: &str) {
        let said = json!({"capabilities": at[capabilities], "name": at[info]["name"]});
        if !said["capabilities"].is_null() {
            self.ledger().write("met", &said.to_string());
        }
    }

    /// Puts a question to the client of a call and waits for the answer; `None` when the call was cancelled meanwhile.
    pub(crate) fn ask(&self, call: &Value, text: &Value) -> Option<String> {
        let id = format!("ask-{call}");
        let params =
            json!({"message": text, "requestedSchema": {"type": "object", "properties": {}}});
        self.output().message(
            &json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": params}),
        );
        let answer = self.answer_to(call, &id)?;
        let said = answer.get("result").or_else(|| answer.get("error"));
        said.map(Value::to_string)
    }

    /// The answer to a request of ours, whole; `None` when the call that asked was cancelled meanwhile.
    pub(crate) fn answer_to(&self, call: &Value, id: &str) -> Option<Value> {
        loop {
            let answers = self.0.answered.wait_timeout_while(
                self.answers(),
                Duration::from_millis(20),
                |answers| !answers.contains_key(id),
            );
            let mut answers = answers.unwrap_or_else(PoisonError::into_inner).0;
            if let Some(answer) = answers.remove(id) {
                return Some(answer);
            }
            drop(answers);
            if !self.passes(call, Duration::ZERO) {
                return None;
            }
        }
    }

    fn answers(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.0
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        match self.knobs().malformed {
            Some(form) => self.answer_wrongly(form, id),
            None => self.answer(id, answer, end),
        }
        if exits || self.knobs().exit_after.as_deref() == Some("tools/call") {
            self.exit();
        }
        if self.knobs().close_stdout_after == Some(last)
            && let Err(error) = self.output().close()
        {
            self.ledger().write("error", &error.to_string());
        }
    }

    fn answer_wrongly(&self, form: Malformed, id: &Value) {
        let good = json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}});
        match form {
            Malformed::Both => {
                let mut both = good;
                both["error"] = answers::error(-32000, "and a result");
                self.output().message(&both);
            }
            Malformed::Neither => self.output().message(&json!({"jsonrpc": "2.0", "id": id})),
            Malformed::Pretty => self.output().line(&format!("{good:#}")),
            Malformed::Two => self.output().line(&format!("{good}{good}")),
            Malformed::Huge => self.output().message(
                &json!({"jsonrpc": "2.0", "result": {"content": [], "filler": "h".repeat(100_000)}}),
            ),
            Malformed::Half => {
                let text = good.to_string();
                self.output().bytes(&text.as_bytes()[..text.len() / 2]);
                self.exit();
            }
        }
    }

    fn answer(&self, id: &Value, answer: Answer, end: &str) {
        for number in 0..self.knobs().noise_between {
            self.output().line(&format!("still here ({number})"));
            self.output()
                .message(&json!({"level": "debug", "n": number}));
        }
        if self.knobs().foreign_error {
            let error = answers::error(-32000, "not yours");
            self.output()
                .message(&json!({"jsonrpc": "2.0", "id": "server-error", "error": error}));
        }
        let id = self.id_to_send(id);
        let message = match answer {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": self.dress(result)}),
            Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
        };
        let end = match end {
            "\n" if self.knobs().crlf => "\r\n",
            end => end,
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
