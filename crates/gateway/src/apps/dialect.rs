//! References as the apps write them (`${env:X}`, `$X`, `{env:X}`, `${input:x}`, `${workspaceFolder}`), turned into the ones
//! that Mainstay knows (`${X}`, `${X:-text}`).
//!
//! Must not resolve anything: what refers to a variable goes on referring to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Shape;

/// Something that an editor asks its user for (`inputs` of VS Code).
#[derive(Debug, Clone, Default)]
pub(crate) struct Input {
    /// What the editor says when it asks.
    pub(crate) description: Option<String>,
    /// What it offers.
    pub(crate) default: Option<String>,
    /// Whether it is not shown while it is typed.
    pub(crate) password: bool,
}

/// What the references of one file mean.
#[derive(Debug, Clone)]
pub(crate) struct Dialect {
    shape: Shape,
    inputs: BTreeMap<String, Input>,
    /// The directory that `${workspaceFolder}` stands for; `None` in a file of the user, where it depends on the window.
    workspace: Option<PathBuf>,
}

/// A text with references that Mainstay knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// The text.
    pub(crate) text: String,
    /// What people should know about it.
    pub(crate) notes: Vec<String>,
    /// Variables that somebody has to set now and had not to set before.
    pub(crate) asked: Vec<Asked>,
    /// Whether it refers to any variable.
    pub(crate) refers: bool,
}

/// A variable that takes the place of something that only the app could fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Its name.
    pub(crate) variable: String,
    /// What belongs into it.
    pub(crate) what: String,
}

impl Dialect {
    /// Those of a file of this shape.
    pub(crate) fn new(
        shape: Shape,
        inputs: BTreeMap<String, Input>,
        workspace: Option<&Path>,
    ) -> Self {
        Self {
            shape,
            inputs,
            workspace: workspace.map(Path::to_owned),
        }
    }

    /// `text` in Mainstay's words.
    pub(crate) fn say(&self, text: &str) -> Said {
        let mut said = Said::default();
        let mut rest = text;
        while let Some(at) = rest.find(['$', '{']) {
            said.text.push_str(&rest[..at]);
            rest = &rest[at..];
            let used = self.one(rest, &mut said);
            rest = &rest[used..];
        }
        said.text.push_str(rest);
        said
    }

    /// Takes what stands at the beginning of `rest`, a `$` or a `{`, and returns its length.
    fn one(&self, rest: &str, said: &mut Said) -> usize {
        if let Some(inside) = rest.strip_prefix("${") {
            if let Some(end) = inside.find('}')
                && let Some(replaced) = self.braces(&inside[..end], said)
            {
                said.text.push_str(&replaced);
                return end + 3;
            }
            // Not a reference of anybody: it stays what it is.
            said.text.push_str("$${");
            return 2;
        }
        if self.shape == Shape::Gemini
            && let Some(after) = rest.strip_prefix('$')
        {
            let length = name_length(after);
            if length > 0 {
                said.refers = true;
                said.text.push_str(&format!("${{{}}}", &after[..length]));
                return length + 1;
            }
        }
        if self.shape == Shape::OpenCode {
            for (prefix, is_file) in [("{env:", false), ("{file:", true)] {
                let Some(inside) = rest.strip_prefix(prefix) else {
                    continue;
                };
                let Some(end) = inside.find('}') else {
                    continue;
                };
                let name = inside[..end].trim();
                let replaced = if is_file {
                    ask(
                        said,
                        &format!("FILE {name}"),
                        format!("the content of the file {name}"),
                    )
                } else if name_length(name) == name.len() && !name.is_empty() {
                    format!("${{{name}}}")
                } else {
                    continue;
                };
                said.refers = true;
                said.text.push_str(&replaced);
                return prefix.len() + end + 1;
            }
        }
        // One character, which is ASCII.
        said.text.push_str(&rest[..1]);
        1
    }

    /// What takes the place of `${inside}`.
    fn braces(&self, inside: &str, said: &mut Said) -> Option<String> {
        let (head, default) = match inside.split_once(":-") {
            Some((head, default)) => (head, Some(default)),
            None => (inside, None),
        };
        let with_default = |name: &str| match default {
            Some(default) => format!("${{{name}:-{default}}}"),
            None => format!("${{{name}}}"),
        };
        let (prefix, name) = match head.split_once(':') {
            Some((prefix, name)) => (prefix, name),
            None => ("", head),
        };
        match (prefix, name) {
            ("", "workspaceFolder" | "workspaceRoot" | "cwd") => Some(self.folder(said, head)),
            ("", "workspaceFolderBasename") => {
                let base = self.workspace.as_deref().and_then(Path::file_name);
                match base {
                    Some(base) => {
                        said.notes.push(
                            "`${workspaceFolderBasename}` became the name of this project"
                                .to_owned(),
                        );
                        Some(base.to_string_lossy().into_owned())
                    }
                    None => Some(ask(
                        said,
                        "WORKSPACE_FOLDER_BASENAME",
                        "the name of the project".to_owned(),
                    )),
                }
            }
            ("", "userHome") => {
                said.refers = true;
                Some("${HOME}".to_owned())
            }
            ("", "pathSeparator" | "/") => Some("/".to_owned()),
            (
                "",
                "file" | "fileDirname" | "fileBasename" | "relativeFile" | "selectedText"
                | "lineNumber",
            ) => {
                said.refers = true;
                Some(ask(
                    said,
                    name,
                    format!("what the app's `${{{head}}}` stood for"),
                ))
            }
            ("" | "env", name) if !name.is_empty() && name_length(name) == name.len() => {
                said.refers = true;
                Some(with_default(name))
            }
            ("input", id) => Some(self.input(id, said)),
            ("command" | "config" | "file" | "workspaceFolder", name) if !name.is_empty() => {
                said.refers = true;
                Some(ask(
                    said,
                    name,
                    format!("what the app's `${{{head}}}` stood for"),
                ))
            }
            _ => None,
        }
    }

    fn folder(&self, said: &mut Said, head: &str) -> String {
        match &self.workspace {
            Some(folder) => {
                said.notes.push(format!(
                    "`${{{head}}}` became the directory of this project"
                ));
                folder.display().to_string()
            }
            None => {
                said.refers = true;
                ask(
                    said,
                    "WORKSPACE_FOLDER",
                    "the directory that the app opened".to_owned(),
                )
            }
        }
    }

    fn input(&self, id: &str, said: &mut Said) -> String {
        let input = self.inputs.get(id).cloned().unwrap_or_default();
        let about = input
            .description
            .unwrap_or_else(|| "what the app asked for".to_owned());
        said.refers = true;
        if let Some(default) = input
            .default
            .filter(|text| !input.password && !text.is_empty() && !text.contains(['$', '}']))
        {
            let name = variable_of(id);
            said.notes.push(format!(
                "`${{input:{id}}}` became `${{{name}}}`, with what the app offered as its default"
            ));
            return format!("${{{name}:-{default}}}");
        }
        said.notes.push(format!(
            "`${{input:{id}}}` became `${{{}}}`: nobody asks any more",
            variable_of(id)
        ));
        ask(said, id, about)
    }
}

fn ask(said: &mut Said, name: &str, what: String) -> String {
    let variable = variable_of(name);
    said.refers = true;
    let reference = format!("${{{variable}}}");
    said.asked.push(Asked { variable, what });
    reference
}

/// How many bytes at the beginning of `text` can be the name of a variable.
fn name_length(text: &str) -> usize {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len())
}

/// A name for a variable: upper case, words joined by `_`. `githubToken` and `github-token` are both `GITHUB_TOKEN`.
pub(crate) fn variable_of(text: &str) -> String {
    let mut name = String::new();
    let mut before = '_';
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
                name.push('_');
            }
            name.push(c.to_ascii_uppercase());
        } else if !name.ends_with('_') && !name.is_empty() {
            name.push('_');
        }
        before = c;
    }
    let name = name.trim_end_matches('_').to_owned();
    if name.is_empty() {
        return "VALUE".to_owned();
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("V_{name}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(shape: Shape, workspace: Option<&str>, text: &str) -> Said {
        let input = |default: Option<&str>, password| Input {
            description: Some("the key of the service".to_owned()),
            default: default.map(str::to_owned),
            password,
        };
        let inputs = BTreeMap::from([
            ("service-key".to_owned(), input(None, true)),
            ("region".to_owned(), input(Some("north"), false)),
            ("pin".to_owned(), input(Some("1234"), true)),
        ]);
        Dialect::new(shape, inputs, workspace.map(Path::new)).say(text)
    }

    #[test]
    fn what_each_app_writes_becomes_what_mainstay_knows() {
        let rows = [
            (Shape::Common, "Bearer ${env:TOKEN}", "Bearer ${TOKEN}"),
            (Shape::Common, "${A:-x}/${B}", "${A:-x}/${B}"),
            (
                Shape::Common,
                "${userHome}/x${pathSeparator}y${/}z",
                "${HOME}/x/y/z",
            ),
            (
                Shape::Common,
                "costs $5, {braces} and ${x%%.*}",
                "costs $5, {braces} and $${x%%.*}",
            ),
            (Shape::Common, "$TOKEN", "$TOKEN"),
            (Shape::Gemini, "$TOKEN-$5-${OTHER}", "${TOKEN}-$5-${OTHER}"),
            (Shape::OpenCode, "Bearer {env:TOKEN}", "Bearer ${TOKEN}"),
            (Shape::OpenCode, "{env:}{x", "{env:}{x"),
            (Shape::VsCode, "${input:service-key}", "${SERVICE_KEY}"),
            (Shape::VsCode, "${input:region}", "${REGION:-north}"),
            (Shape::VsCode, "${input:pin}", "${PIN}"),
            (
                Shape::VsCode,
                "${workspaceFolder}/data",
                "${WORKSPACE_FOLDER}/data",
            ),
            (Shape::VsCode, "ünï${env:Ä}", "ünï$${env:Ä}"),
        ];
        for (shape, text, expected) in rows {
            assert_eq!(say(shape, None, text).text, expected, "{shape:?} {text}");
        }
    }

    #[test]
    fn what_only_the_app_could_fill_in_is_asked_for_and_told() {
        let said = say(Shape::VsCode, None, "${input:service-key}");
        assert_eq!(said.asked[0].variable, "SERVICE_KEY");
        assert_eq!(said.asked[0].what, "the key of the service");
        assert!(said.refers);
        let here = say(
            Shape::VsCode,
            Some("/src/engine"),
            "${workspaceFolder}/data",
        );
        assert_eq!(here.text, "/src/engine/data");
        assert!(
            here.asked.is_empty() && here.notes[0].contains("directory"),
            "{here:?}"
        );
        let file = say(Shape::OpenCode, None, "{file:~/.key}");
        assert_eq!(file.text, "${FILE_KEY}");
        assert!(file.asked.first().unwrap().what.contains("~/.key"));
    }

    #[test]
    fn names_of_variables() {
        for (text, name) in [
            ("github-token", "GITHUB_TOKEN"),
            ("githubToken", "GITHUB_TOKEN"),
            ("GITHUB_TOKEN", "GITHUB_TOKEN"),
            ("X-Api-Key", "X_API_KEY"),
            ("2fa", "V_2FA"),
            ("--", "VALUE"),
        ] {
            assert_eq!(variable_of(text), name);
        }
    }
}
