//! Settings of a stdio server: its flags, without the dashes, optionally only for some of its lives.

use super::lines::{self, Line};
use super::{Life, Lives, Problem};
use crate::stdio_server;

/// The flags that the server's own help describes: name without dashes, and whether it takes a value.
fn flags() -> impl Iterator<Item = (&'static str, bool)> {
    stdio_server::HELP.lines().filter_map(|line| {
        let mut words = line.trim_start().strip_prefix("--")?.split(' ');
        let name = words.next()?;
        let takes_value = words.next().is_some_and(|word| {
            !word.is_empty() && word.chars().all(|letter| !letter.is_ascii_lowercase())
        });
        Some((name, takes_value))
    })
}

pub(super) fn server(place: &str, lines: &[Line]) -> Result<Lives, Problem> {
    let lives: Result<Vec<_>, Problem> = lines.iter().map(|line| setting(place, line)).collect();
    lives.map(Lives)
}

fn setting(place: &str, line: &Line) -> Result<(Life, Vec<String>), Problem> {
    let (life, name) = life(place, line)?;
    let Some((known, takes_value)) = flags().find(|(known, _)| *known == name) else {
        return Err(unknown(place, line, name));
    };
    let flag = format!("--{known}");
    let flags = if takes_value {
        vec![flag, line.value.clone()]
    } else {
        match line.value.as_str() {
            "yes" => vec![flag],
            other => {
                return Err(line.wrong(
                    place,
                    format!("`{name}` is a switch, and `{other}` is not `yes`"),
                    "write `yes`, or remove the line",
                ));
            }
        }
    };
    stdio_server::check(flags.clone().into_iter()).map_err(|problem| {
        line.wrong(
            place,
            problem.replace("--", ""),
            "`chaos serve --help` lists the settings",
        )
    })?;
    Ok((life, flags))
}

fn unknown(place: &str, line: &Line, name: &str) -> Problem {
    let names: Vec<&str> = flags().map(|(name, _)| name).collect();
    let hint = match lines::nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if line.key.starts_with("on ") => "`on` lines are for `transport: http`".to_owned(),
        None => format!("a stdio script knows {}", names.join(", ")),
    };
    line.wrong(
        place,
        format!("`{name}` is no setting of a stdio server"),
        hint,
    )
}

/// `life 2 NAME`, `life 2-4 NAME`, `life 2- NAME`, or just `NAME`.
fn life<'a>(place: &str, line: &'a Line) -> Result<(Life, &'a str), Problem> {
    let Some(rest) = line.key.strip_prefix("life ") else {
        return Ok((Life::EVERY, &line.key));
    };
    let Some((range, name)) = rest.trim().split_once(' ') else {
        return Err(line.wrong(
            place,
            "a life without a setting",
            "write `life 2 SETTING: VALUE`, `life 2-4 SETTING: VALUE` or `life 2- SETTING: VALUE`",
        ));
    };
    let number = |word: &str| lines::number(place, line, word);
    let life = match range.split_once('-') {
        None => Life {
            first: number(range)?,
            last: Some(number(range)?),
        },
        Some((first, "")) => Life {
            first: number(first)?,
            last: None,
        },
        Some((first, last)) => Life {
            first: number(first)?,
            last: Some(number(last)?),
        },
    };
    if life.first == 0 || life.last.is_some_and(|last| last < life.first) {
        return Err(line.wrong(
            place,
            format!("`{range}` is no range of lives"),
            "the first start is life 1, and a range rises",
        ));
    }
    Ok((life, name.trim()))
}
