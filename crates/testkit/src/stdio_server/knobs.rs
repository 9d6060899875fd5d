//! The flags.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub(crate) const HELP: &str = "\
flags, all optional; N counts from 1 where nothing else is said
  --ledger FILE          append one line per event: `PID EVENT DETAIL`; signals and the end of stdin are events too
  --era ERA              legacy (default), modern or both
  --exit-at POINT        exit at start, initialize, list or call, without answering
  --exit-after-calls N   exit when the Nth call is answered
  --exit-code N          with this code (default 0), also at the end of stdin
  --ignore-term          ignore the TERM signal
  --ignore-eof           live on when stdin ends
  --grandchild           leave a child behind that holds all three pipes
  --noise-text N         print N lines of text before anything else
  --noise-json N         print N lines of JSON logs before anything else
  --garbage              answer every line with garbage
  --stderr-flood BYTES   write this much to stderr before anything else
  --no-newlines          ... without any newline
  --stop-reading-after N never read again after N messages (0: never read)
  --never-answer METHOD  stay silent on this method; may be repeated
  --slow-start MS        wait before reading anything
  --one-byte-writes      write every answer byte by byte
  --close-stdout-after N close stdout, and live on, when N calls are answered (0: at once)
  --big-result BYTES     every tool result is this long
  --id-as FORM           answer with ids as string, float, or wrong (a number nobody asked with)
  --duplicate-answers    send every answer twice
  --wishes               offer log levels and resource subscriptions, and ask for roots
  --asks                 have a tool `ask`, which puts a question to the client and answers with the client's answer, a
                         tool `inquire` that asks several things in several rounds, and a tool `log`
  --more-if-declared     list a tool `with_CAPABILITY` for each capability that its client declares (legacy)
  --no-final-newline     leave out the newline after the last answer before an exit
exits
  --exit-on METHOD       exit when this request or notification arrives, without answering
  --exit-after METHOD    exit when this request is answered
  --exit-after-ms MS     exit this long after the start
  --last-words TEXT      say this on stderr before any exit that a flag asked for
processes
  --runner               be a package runner: start a shell that starts the server, and wait for it
  --escapee              leave a child behind in a session of its own that holds all three pipes
  --stop-self-after N    stop (SIGSTOP) when N messages are read (0: at once)
silence
  --stop-writing-after N swallow everything after N lines
  --never-answer-modern METHOD  stay silent on this method when it is asked the modern way; may be repeated
  --silent-on-unknown    stay silent on methods that it does not know
  --crash-on-unknown     exit on methods that it does not know
  --late METHOD:MS       answer this method so much later (`any`: every method); may be repeated
noise
  --stderr-alive MS      during a slow start, write a line to stderr this often
  --stderr-per-message B write B bytes to stderr, without a newline, whenever a message arrives
  --noise-between N      N lines of text and N of JSON logs before every answer
  --long-line BYTES      one line of this length before anything else
  --bom                  begin stdout with a byte order mark
  --crlf                 end lines with a carriage return and a line feed
protocol
  --malformed FORM       answer calls with both (result and error), neither, pretty (several lines), two (messages on one
                         line), huge (100,000 bytes without an id) or half (an answer) and then exit
  --unknown-code N       the code of the error about a method that it does not know (default -32601)
  --foreign-error        an error for somebody else's id before every answer
  --chatter              a log notification and a ping before the answer to initialize
  --claim-version V      answer initialize with this protocol version
  --strict-init          refuse requests that come before notifications/initialized
  --flood-requests N     send N requests when initialized
";

/// Where `--exit-at` strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Start,
    Initialize,
    List,
    Call,
}

/// How the answer to a call is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    Both,
    Neither,
    Pretty,
    Two,
    Huge,
    Half,
}

/// Which revisions the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Era {
    #[default]
    Legacy,
    Modern,
    Both,
}

/// How an id comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum IdForm {
    #[default]
    Same,
    String,
    Float,
    Wrong,
}

#[derive(Debug, Default)]
pub(crate) struct Knobs {
    pub(crate) ledger: Option<PathBuf>,
    pub(crate) era: Era,
    pub(crate) exit_at: Option<Point>,
    pub(crate) exit_after_calls: Option<u64>,
    pub(crate) exit_code: u8,
    pub(crate) ignore_term: bool,
    pub(crate) ignore_eof: bool,
    pub(crate) grandchild: bool,
    pub(crate) noise_text: u64,
    pub(crate) noise_json: u64,
    pub(crate) garbage: bool,
    pub(crate) stderr_flood_bytes: usize,
    pub(crate) no_newlines: bool,
    pub(crate) stop_reading_after: Option<u64>,
    pub(crate) never_answer: BTreeSet<String>,
    pub(crate) slow_start_ms: u64,
    pub(crate) one_byte_writes: bool,
    pub(crate) close_stdout_after: Option<u64>,
    pub(crate) big_result_bytes: Option<usize>,
    pub(crate) id_form: IdForm,
    pub(crate) duplicate_answers: bool,
    pub(crate) no_final_newline: bool,
    pub(crate) wishes: bool,
    pub(crate) asks: bool,
    pub(crate) more_if_declared: bool,
    pub(crate) exit_on: Option<String>,
    pub(crate) exit_after: Option<String>,
    pub(crate) exit_after_ms: Option<u64>,
    pub(crate) last_words: Option<String>,
    pub(crate) runner: bool,
    pub(crate) escapee: bool,
    pub(crate) stop_self_after: Option<u64>,
    pub(crate) stop_writing_after: Option<u64>,
    pub(crate) never_answer_modern: BTreeSet<String>,
    pub(crate) unknown_code: Option<i64>,
    pub(crate) silent_on_unknown: bool,
    pub(crate) crash_on_unknown: bool,
    /// Milliseconds by method; `any` stands for every other.
    pub(crate) late: BTreeMap<String, u64>,
    pub(crate) stderr_alive_ms: Option<u64>,
    pub(crate) stderr_per_message_bytes: usize,
    pub(crate) noise_between: u64,
    pub(crate) long_line_bytes: usize,
    pub(crate) bom: bool,
    pub(crate) crlf: bool,
    pub(crate) malformed: Option<Malformed>,
    pub(crate) foreign_error: bool,
    pub(crate) chatter: bool,
    pub(crate) claim_version: Option<String>,
    pub(crate) strict_init: bool,
    pub(crate) flood_requests: u64,
    /// What the grandchild is started with: do nothing at all.
    pub(crate) hold: bool,
    /// ... and the escapee: in a session of its own.
    pub(crate) own_session: bool,
}

impl Knobs {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut knobs = Self::default();
        while let Some(flag) = args.next() {
            if !knobs.switch(&flag) {
                let value = args
                    .next()
                    .ok_or_else(|| format!("{flag} is unknown or lacks its value"))?;
                knobs.valued(&flag, &value)?;
            }
        }
        Ok(knobs)
    }

    fn switch(&mut self, flag: &str) -> bool {
        let field = match flag {
            "--ignore-term" => &mut self.ignore_term,
            "--ignore-eof" => &mut self.ignore_eof,
            "--grandchild" => &mut self.grandchild,
            "--garbage" => &mut self.garbage,
            "--no-newlines" => &mut self.no_newlines,
            "--one-byte-writes" => &mut self.one_byte_writes,
            "--duplicate-answers" => &mut self.duplicate_answers,
            "--no-final-newline" => &mut self.no_final_newline,
            "--wishes" => &mut self.wishes,
            "--asks" => &mut self.asks,
            "--more-if-declared" => &mut self.more_if_declared,
            "--runner" => &mut self.runner,
            "--escapee" => &mut self.escapee,
            "--silent-on-unknown" => &mut self.silent_on_unknown,
            "--crash-on-unknown" => &mut self.crash_on_unknown,
            "--bom" => &mut self.bom,
            "--crlf" => &mut self.crlf,
            "--foreign-error" => &mut self.foreign_error,
            "--chatter" => &mut self.chatter,
            "--strict-init" => &mut self.strict_init,
            "--hold" => &mut self.hold,
            "--own-session" => &mut self.own_session,
            _ => return false,
        };
        *field = true;
        true
    }

    fn valued(&mut self, flag: &str, value: &str) -> Result<(), String> {
        match flag {
            "--ledger" => self.ledger = Some(value.into()),
            "--era" => self.era = era(value)?,
            "--exit-at" => self.exit_at = Some(point(value)?),
            "--exit-after-calls" => self.exit_after_calls = Some(number(flag, value)?),
            "--exit-code" => self.exit_code = number(flag, value)?,
            "--noise-text" => self.noise_text = number(flag, value)?,
            "--noise-json" => self.noise_json = number(flag, value)?,
            "--stderr-flood" => self.stderr_flood_bytes = number(flag, value)?,
            "--stop-reading-after" => self.stop_reading_after = Some(number(flag, value)?),
            "--never-answer" => {
                self.never_answer.insert(value.to_owned());
            }
            "--slow-start" => self.slow_start_ms = number(flag, value)?,
            "--close-stdout-after" => self.close_stdout_after = Some(number(flag, value)?),
            "--big-result" => self.big_result_bytes = Some(number(flag, value)?),
            "--id-as" => self.id_form = id_form(value)?,
            "--never-answer-modern" => {
                self.never_answer_modern.insert(value.to_owned());
            }
            "--unknown-code" => self.unknown_code = Some(number(flag, value)?),
            "--exit-on" => self.exit_on = Some(value.to_owned()),
            "--exit-after" => self.exit_after = Some(value.to_owned()),
            "--exit-after-ms" => self.exit_after_ms = Some(number(flag, value)?),
            "--last-words" => self.last_words = Some(value.to_owned()),
            "--stop-self-after" => self.stop_self_after = Some(number(flag, value)?),
            "--stop-writing-after" => self.stop_writing_after = Some(number(flag, value)?),
            "--late" => self.late.extend([late(value)?]),
            "--stderr-alive" => self.stderr_alive_ms = Some(number(flag, value)?),
            "--stderr-per-message" => self.stderr_per_message_bytes = number(flag, value)?,
            "--noise-between" => self.noise_between = number(flag, value)?,
            "--long-line" => self.long_line_bytes = number(flag, value)?,
            "--malformed" => self.malformed = Some(malformed(value)?),
            "--claim-version" => self.claim_version = Some(value.to_owned()),
            "--flood-requests" => self.flood_requests = number(flag, value)?,
            _ => return Err(format!("unknown flag {flag}")),
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(flag: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{flag} wants a number, not {value:?}"))
}

fn point(value: &str) -> Result<Point, String> {
    match value {
        "start" => Ok(Point::Start),
        "initialize" => Ok(Point::Initialize),
        "list" => Ok(Point::List),
        "call" => Ok(Point::Call),
        _ => Err(format!(
            "--exit-at wants start, initialize, list or call, not {value:?}"
        )),
    }
}

fn era(value: &str) -> Result<Era, String> {
    match value {
        "legacy" => Ok(Era::Legacy),
        "modern" => Ok(Era::Modern),
        "both" => Ok(Era::Both),
        _ => Err(format!("--era wants legacy, modern or both, not {value:?}")),
    }
}

fn id_form(value: &str) -> Result<IdForm, String> {
    match value {
        "string" => Ok(IdForm::String),
        "float" => Ok(IdForm::Float),
        "wrong" => Ok(IdForm::Wrong),
        _ => Err(format!(
            "--id-as wants string, float or wrong, not {value:?}"
        )),
    }
}

fn late(value: &str) -> Result<(String, u64), String> {
    let wrong = || format!("--late wants METHOD:MS, not {value:?}");
    let (method, ms) = value.rsplit_once(':').ok_or_else(wrong)?;
    Ok((method.to_owned(), ms.parse().map_err(|_| wrong())?))
}

fn malformed(value: &str) -> Result<Malformed, String> {
    match value {
        "both" => Ok(Malformed::Both),
        "neither" => Ok(Malformed::Neither),
        "pretty" => Ok(Malformed::Pretty),
        "two" => Ok(Malformed::Two),
        "huge" => Ok(Malformed::Huge),
        "half" => Ok(Malformed::Half),
        _ => Err(format!(
            "--malformed wants both, neither, pretty, two, huge or half, not {value:?}"
        )),
    }
}
