//! The flags.

use std::collections::BTreeSet;
use std::path::PathBuf;

pub(crate) const HELP: &str = "\
flags, all optional; N counts from 1 where nothing else is said
  --ledger FILE          append one line per event: `PID EVENT DETAIL`
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
  --no-final-newline     leave out the newline after the last answer before an exit
";

/// Where `--exit-at` strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Start,
    Initialize,
    List,
    Call,
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
    /// What the grandchild is started with: do nothing at all.
    pub(crate) hold: bool,
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
            "--hold" => &mut self.hold,
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
