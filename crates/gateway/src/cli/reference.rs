//! `docs/cli.md`: every command, argument and flag, generated from the parser itself. And `docs/recipes.md`: every app and
//! framework that is known, generated from the table that `import` and `install` work by.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};

use super::Cli;
use crate::apps::{APPS, App};

/// Compares a generated page with what is checked in; `UPDATE_DOCS=1` writes it instead.
fn check_in(name: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == generated,
        "docs/{name} is stale: run the tests once with UPDATE_DOCS=1"
    );
}

fn cell(text: &str) -> String {
    let joined: Vec<&str> = text.split_whitespace().collect();
    joined.join(" ").replace('|', "\\|")
}

fn spelled(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let takes = arg.get_action().takes_values();
    let value = match names.first() {
        Some(name) if takes => format!(" {name}"),
        Some(_) | None => String::new(),
    };
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let flags: Vec<String> = short.into_iter().chain(long).collect();
    if flags.is_empty() {
        return names.first().map(ToString::to_string).unwrap_or_default();
    }
    format!("{}{value}", flags.join(", "))
}

fn row(arg: &Arg, page: &mut String) {
    let help = arg.get_long_help().or(arg.get_help());
    let mut help = help.map(|help| cell(&help.to_string())).unwrap_or_default();
    if help.ends_with(|last: char| last.is_alphanumeric() || last == '`') {
        help.push('.');
    }
    let words: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set() && arg.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    let words = (!words.is_empty()).then(|| format!(" One of {}.", words.join(", ")));
    let variable = arg
        .get_env()
        .map(|name| format!(" Variable `{}`.", name.to_string_lossy()));
    let (words, variable) = (words.unwrap_or_default(), variable.unwrap_or_default());
    writeln!(page, "| `{}` | {help}{words}{variable} |", spelled(arg)).unwrap();
}

fn section(command: &Command, path: &str, page: &mut String) {
    let name = format!("{path} {}", command.get_name());
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    write!(page, "\n## {name}\n\n{about}\n").unwrap();
    let shown = |arg: &&Arg| {
        !arg.is_hide_set()
            && !arg.is_global_set()
            && !matches!(arg.get_id().as_str(), "help" | "version")
    };
    let args: Vec<&Arg> = command.get_arguments().filter(shown).collect();
    if !args.is_empty() {
        page.push_str("\n| argument | what |\n|---|---|\n");
        for arg in args {
            row(arg, page);
        }
    }
    if let Some(after) = command.get_after_help() {
        write!(page, "\n```text\n{}\n```\n", after.to_string().trim_end()).unwrap();
    }
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        if below.get_name() != "help" {
            section(below, &name, page);
        }
    }
}

#[test]
fn the_checked_in_reference_of_the_command_line_is_current() {
    let mut cli = Cli::command();
    cli.build();
    let mut page = String::from(
        "# Command line reference\n\n\
         Data goes to stdout, everything else to stderr. `--json` beside every human output; [exit codes](exit-codes.md) are documented.\n\
         `--color auto|always|never` works everywhere, and `NO_COLOR` is obeyed.\n\n\
         This page is generated; `UPDATE_DOCS=1 cargo test -p mainstay-gateway --bin mainstay reference` writes it anew.\n",
    );
    for command in cli
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        if command.get_name() != "help" {
            section(command, "mainstay", &mut page);
        }
    }
    check_in("cli.md", &page);
}

fn recipe(app: &App, page: &mut String) {
    write!(page, "\n## {}\n\n", app.name).unwrap();
    page.push_str("| list of servers | format | keys |\n|---|---|---|\n");
    for place in app.files {
        let keys = place.keys.join(".");
        writeln!(
            page,
            "| {} `{}` | {:?} | `{keys}` |",
            place.base.words(),
            place.path,
            place.format
        )
        .unwrap();
    }
    write!(
        page,
        "\nTake its servers over: `mainstay import --app {}`.",
        app.id
    )
    .unwrap();
    if app.installable {
        write!(
            page,
            " Point it at Mainstay: `mainstay install {}`, undone by `mainstay uninstall {}`.",
            app.id, app.id
        )
        .unwrap();
    }
    let entry = app.shape.stdio_entry("mainstay", &["stdio"]);
    let entry = serde_json::to_string_pretty(&entry).unwrap();
    write!(
        page,
        " By hand, the entry `mainstay` is (as JSON):\n\n```json\n{entry}\n```\n"
    )
    .unwrap();
}

#[test]
fn the_checked_in_recipes_are_current() {
    let mut page = String::from(
        "# Recipes per app and framework\n\n\
         `mainstay import` finds the servers of all of them at once, `mainstay install --all` points all of them at Mainstay. Apps that\n\
         connect to an address instead of starting a program take `http://127.0.0.1:8808/mcp`, or `/servers/NAME/mcp` for one server, or\n\
         `/profiles/NAME/mcp` for a profile.\n\n\
         This page is generated from the table that these commands work by; `UPDATE_DOCS=1 cargo test -p mainstay-gateway --bin mainstay\n\
         recipes` writes it anew. The facts are those of the apps' own documentation; not every app was at hand to be tried.\n",
    );
    for app in APPS {
        recipe(app, &mut page);
    }
    check_in("recipes.md", &page);
}
