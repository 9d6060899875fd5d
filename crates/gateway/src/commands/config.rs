//! Finds and reads the configuration, and tells people what is wrong with it.

use std::path::{Path, PathBuf};

use mainstay::config::{
    Config, ConfigError, EXAMPLE, Loaded, NoConfig, Problem, Severity, find_default, process_env,
};

use crate::cli::output::{Output, Paint};
use crate::exit::{Exit, Stop};

/// Finds and reads the configuration.
///
/// # Errors
/// Exit 4 when there is none, with a working example; 3 when it is refused as a whole, with every problem.
pub(crate) fn load(told: Option<&Path>) -> Result<Loaded, Stop> {
    load_text(told).map(|(loaded, _text)| loaded)
}

/// As [`load`], and what was read.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_text(told: Option<&Path>) -> Result<(Loaded, Vec<u8>), Stop> {
    let path = find(told)?;
    let text = Config::bytes(&path).map_err(|error| refused(&error))?;
    let mut loaded = Config::parse_bytes(&text, &path).map_err(|error| refused(&error))?;
    loaded.check_references(&process_env);
    Ok((loaded, text))
}

/// Finds the configuration.
///
/// # Errors
/// Exit 4 when there is none, with a working example.
pub(crate) fn find(told: Option<&Path>) -> Result<PathBuf, Stop> {
    find_default(told).map_err(|error| no_config(&error))
}

/// Says on stderr what was noticed while reading it.
pub(crate) fn tell(output: Output, problems: &[Problem]) {
    for problem in problems {
        output.note(&one(problem, output.color_err()));
    }
}

/// One problem as people see it: place, severity, message, and the remedy on a line of its own.
pub(crate) fn one(problem: &Problem, color: bool) -> String {
    let paint = match problem.severity {
        Severity::Error => Paint::Bad,
        Severity::Warning => Paint::Warn,
        Severity::Note => Paint::Dim,
    };
    let mut text = String::new();
    if let Some(origin) = &problem.origin {
        text.push_str(&format!(
            "{}:{}:{}: ",
            origin.file.display(),
            origin.line,
            origin.column
        ));
    }
    text.push_str(&paint.on(&format!("{}:", problem.severity), color));
    text.push(' ');
    text.push_str(&problem.message);
    match (&problem.origin, &problem.server) {
        (Some(origin), _) if !origin.path.is_empty() => {
            text.push_str(&format!(" (at {})", origin.path))
        }
        (None, Some(server)) => text.push_str(&format!(" (server `{server}`)")),
        (Some(_) | None, _) => {}
    }
    if !problem.remedy.is_empty() {
        text.push_str(&format!(
            "\n{} {}",
            Paint::Bold.on("hint:", color),
            problem.remedy
        ));
    }
    text
}

/// One problem as programs see it.
pub(crate) fn json(problem: &Problem) -> serde_json::Value {
    serde_json::json!({
        "severity": problem.severity.to_string(),
        "server": problem.server.as_deref(),
        "file": problem.origin.as_ref().map(|origin| origin.file.display().to_string()),
        "line": problem.origin.as_ref().map(|origin| origin.line),
        "column": problem.origin.as_ref().map(|origin| origin.column),
        "path": problem.origin.as_ref().map(|origin| origin.path.clone()),
        "message": problem.message,
        "remedy": problem.remedy,
    })
}

/// There is none.
fn no_config(error: &NoConfig) -> Stop {
    let searched: Vec<String> = error
        .searched
        .iter()
        .map(|path| format!("  {}", path.display()))
        .collect();
    if error.explicit {
        let path = searched.join("").trim().to_owned();
        return Stop::new(
            Exit::NoConfig,
            format!("there is no configuration file {path}"),
        )
        .hint("check the path after --config");
    }
    let message = format!(
        "no configuration was found; looked for\n{}",
        searched.join("\n")
    );
    Stop::new(Exit::NoConfig, message).hint(format!(
        "save this as mcp.json, or name your file with --config FILE; see it work without any with `mainstay demo`\n\n{}",
        EXAMPLE.trim_end()
    ))
}

/// There is one, and nothing in it can be used.
pub(crate) fn refused(error: &ConfigError) -> Stop {
    let problems = error.problems();
    if problems.is_empty() {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().to_owned();
        let stop = Stop::new(Exit::ConfigInvalid, first)
            .hint("check that the file exists and that you may read it");
        return match std::error::Error::source(error) {
            Some(cause) => stop.because(cause.to_string()),
            None => stop,
        };
    }
    let count = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .count();
    let all: Vec<String> = problems.iter().map(|problem| one(problem, false)).collect();
    Stop::new(
        Exit::ConfigInvalid,
        format!(
            "the configuration {} cannot be used ({count} {})\n{}",
            error.path().display(),
            plural(count, "error"),
            all.join("\n")
        ),
    )
}

/// `1 error`, `2 errors`: the word only.
pub(crate) fn plural(count: usize, word: &str) -> String {
    if count == 1 {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}
