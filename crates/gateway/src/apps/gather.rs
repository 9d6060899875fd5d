//! Reads the files of the apps and translates what is in them. Writes nothing.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::secrets::Vault;
use super::translate::{self, Outcome};
use super::tree::{self, Broken};
use super::{APPS, App, FileOf, Format, Place, Scope, Shape, Surroundings, entries};

/// The app of a file that was named and that none of the known apps keeps.
static SOME_FILE: App = App {
    id: "file",
    name: "a file",
    shape: Shape::Common,
    installable: false,
    files: &[],
};

/// One file that was looked at.
#[derive(Debug)]
pub(crate) struct Looked {
    /// Whose it is.
    pub(crate) app: &'static App,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Whether it belongs to the project in the current directory.
    pub(crate) is_project: bool,
    /// What came of it.
    pub(crate) state: State,
    /// Its entries, in the order of their names.
    pub(crate) entries: Vec<Entry>,
    /// What in it could not be used, with the keys that lead there.
    pub(crate) problems: Vec<String>,
}

/// What came of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It was read, and has a list of servers.
    Read,
    /// It was read, and has no list of servers.
    NoList,
    /// It is there and could not be read.
    Broken(Broken),
    /// It is the configuration that is written to.
    Target,
}

/// One entry of a file.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name in the app.
    pub(crate) name: String,
    /// The keys that lead to it.
    pub(crate) at: String,
    /// What becomes of it.
    pub(crate) outcome: Outcome,
}

/// Reads every existing file of these apps, or of all.
pub(crate) fn all(
    only: &[&'static App],
    around: &Surroundings,
    target: &Path,
    vault: &mut Vault,
) -> Vec<Looked> {
    let wanted = |app: &&'static App| only.is_empty() || only.iter().any(|one| one.id == app.id);
    let mut looked: Vec<Looked> = Vec::new();
    for app in APPS.iter().filter(wanted) {
        for file in app.all_files(around) {
            let place = file.place;
            let Some(tree) = tree::read_file(&file.path, place.format) else {
                continue;
            };
            let one = if same_file(&file.path, target) {
                Looked::empty(app, &file, State::Target)
            } else {
                match tree {
                    Ok(tree) => translated(app, &file, app.shape, place.keys, &tree, around, vault),
                    Err(broken) => Looked::empty(app, &file, State::Broken(broken)),
                }
            };
            // A file of settings without a list says nothing, unless it is the app's own file for its list.
            looked.push(one);
        }
    }
    looked
}

/// Reads one file that was named. Its app is told by `app`, else by its place, else by what is in it.
///
/// # Errors
/// What is wrong with it, and what can be done.
pub(crate) fn one(
    path: &Path,
    app: Option<&'static App>,
    around: &Surroundings,
    vault: &mut Vault,
) -> Result<Looked, Broken> {
    let text = tree::read_named(path).map_err(|error| Broken {
        at: None,
        message: error.to_string(),
    })?;
    let known = known(path, app, around);
    let format = known.map_or_else(
        || tree::guess_format(path, &text),
        |(_, place)| place.format,
    );
    let tree = tree::parse(&text, format)?;
    let detected = entries::detect(path, format, &tree);
    let (app, shape, keys): (&'static App, Shape, &[&str]) = match (known, app, detected) {
        (Some((app, place)), _, _) => (app, app.shape, place.keys),
        (None, Some(app), Some((_, keys))) => (app, app.shape, keys),
        (None, None, Some((shape, keys))) => (app_of(shape), shape, keys),
        (None, _, None) => {
            return Err(Broken {
                at: None,
                message: "there is no list of servers in it that is known".to_owned(),
            });
        }
    };
    // Only its scope matters from here on.
    let place = known.map_or(&ELSEWHERE, |(_, place)| place);
    let file = FileOf {
        path: path.to_owned(),
        place,
    };
    Ok(translated(app, &file, shape, keys, &tree, around, vault))
}

static ELSEWHERE: Place = Place {
    scope: Scope::User,
    base: super::Base::Nowhere,
    path: "",
    moved: None,
    format: Format::Jsonc,
    keys: &[],
};

/// The line of the table that leads to this file, or that ends as it does.
fn known(
    path: &Path,
    app: Option<&'static App>,
    around: &Surroundings,
) -> Option<(&'static App, &'static Place)> {
    let apps = || {
        APPS.iter()
            .filter(move |one| app.is_none_or(|app| app.id == one.id))
    };
    apps().find_map(|app| {
        let file = app
            .all_files(around)
            .into_iter()
            .find(|file| same_file(&file.path, path))?;
        Some((app, file.place))
    })
}

/// The app that a shape tells of, if it is one app's own.
fn app_of(shape: Shape) -> &'static App {
    let mut of_shape = APPS.iter().filter(|app| app.shape == shape);
    match (of_shape.next(), shape) {
        (_, Shape::Common) | (None, _) => &SOME_FILE,
        (Some(app), _) => app,
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn translated(
    app: &'static App,
    file: &FileOf,
    shape: Shape,
    keys: &[&str],
    tree: &Value,
    around: &Surroundings,
    vault: &mut Vault,
) -> Looked {
    let is_project = file.place.scope == Scope::Project;
    let project = is_project.then_some(around.project.as_path());
    let found = entries::collect(shape, keys, tree, project);
    let mut looked = Looked::empty(
        app,
        file,
        if found.present {
            State::Read
        } else {
            State::NoList
        },
    );
    looked.problems = found.problems;
    looked.entries = found
        .found
        .into_iter()
        .map(|raw| Entry {
            name: raw.name.clone(),
            at: raw.at.clone(),
            outcome: translate::translate(shape, raw, vault),
        })
        .collect();
    looked
}

impl Looked {
    fn empty(app: &'static App, file: &FileOf, state: State) -> Self {
        Self {
            app,
            path: file.path.clone(),
            is_project: file.place.scope == Scope::Project,
            state,
            entries: Vec::new(),
            problems: Vec::new(),
        }
    }
}

/// A file that was named and could not be read.
pub(crate) fn broken(path: &Path, app: Option<&'static App>, broken: Broken) -> Looked {
    Looked {
        app: app.unwrap_or(&SOME_FILE),
        path: path.to_owned(),
        is_project: false,
        state: State::Broken(broken),
        entries: Vec::new(),
        problems: Vec::new(),
    }
}
