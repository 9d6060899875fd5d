//! Finding tools by words: which of them a query is most about.
//!
//! A plain BM25 over what tools say of themselves: name, title, description, the names of their arguments. Made once for
//! what a client sees, and thrown away with it.

use std::collections::HashMap;
use std::sync::Arc;

use mainstay::Publication;
use mainstay_wire::raw;

/// How much a word counts by where it stands.
const NAME: f32 = 4.0;
const TITLE: f32 = 3.0;
const SERVER: f32 = 2.0;
const DESCRIPTION: f32 = 1.0;
const ARGUMENT: f32 = 1.0;

/// The usual parameters of BM25: how soon repeating a word stops to count, and how much long texts are discounted.
const SATURATION: f32 = 1.2;
const LENGTH: f32 = 0.75;

/// What a word counts that only begins like one of the query, and from how many characters on.
const PREFIX: f32 = 0.4;
const PREFIX_CHARS_MIN: usize = 3;

/// Words of one tool that are looked at, and of a query.
const WORDS_MAX: usize = 2_000;
const QUERY_WORDS_MAX: usize = 32;

/// The words of all tools that a client sees.
#[derive(Debug)]
pub(crate) struct Index {
    of: Arc<Publication>,
    /// By word: the tools that have it, and how much it counts there.
    words: HashMap<Box<str>, Vec<(usize, f32)>>,
    /// How long each tool's text is, in what its words count.
    lengths: Vec<f32>,
    average: f32,
}

impl Index {
    /// Reads all tools.
    pub(crate) fn new(of: Arc<Publication>) -> Self {
        let mut words: HashMap<Box<str>, Vec<(usize, f32)>> = HashMap::new();
        let mut lengths = Vec::with_capacity(of.tools.items.len());
        for (at, tool) in of.tools.items.iter().enumerate() {
            let text = std::str::from_utf8(&tool.raw).unwrap_or_default();
            let mut counted: HashMap<String, f32> = HashMap::new();
            let mut count = |text: &str, weight: f32| {
                for word in split(text).into_iter().take(WORDS_MAX) {
                    *counted.entry(word).or_default() += weight;
                }
            };
            count(&tool.upstream, NAME);
            count(&tool.server, SERVER);
            for (path, weight) in [
                (&["title"][..], TITLE),
                (&["annotations", "title"], TITLE),
                (&["description"], DESCRIPTION),
            ] {
                if let Some(said) = raw::string_member(text, path) {
                    count(&said, weight);
                }
            }
            let arguments = raw::member(text, &["inputSchema", "properties"]);
            for (name, _) in arguments.map(raw::members).unwrap_or_default() {
                count(&name, ARGUMENT);
            }
            lengths.push(counted.values().sum());
            for (word, weight) in counted {
                words.entry(word.into()).or_default().push((at, weight));
            }
        }
        let total: f32 = lengths.iter().sum();
        let average = (total / count_of(lengths.len())).max(1.0);
        Self {
            of,
            words,
            lengths,
            average,
        }
    }

    /// Whether it is about these tools.
    pub(crate) fn is_of(&self, publication: &Arc<Publication>) -> bool {
        Arc::ptr_eq(&self.of, publication)
    }

    /// The tools that a query is about, the best first, by their places; equal ones by name. All tools for a query without
    /// words.
    pub(crate) fn find(&self, query: &str) -> Vec<usize> {
        let mut asked = split(query);
        asked.sort();
        asked.dedup();
        asked.truncate(QUERY_WORDS_MAX);
        if asked.is_empty() {
            return (0..self.lengths.len()).collect();
        }
        let mut scores: HashMap<usize, f32> = HashMap::new();
        for word in &asked {
            let mut best: HashMap<usize, f32> = HashMap::new();
            for (known, tools) in &self.words {
                let worth = match &**known == word.as_str() {
                    true => 1.0,
                    false if is_beginning(word, known) => PREFIX,
                    false => continue,
                };
                let rare = self.rarity(tools.len());
                for (tool, weight) in tools {
                    let score = worth * rare * self.saturated(*tool, *weight);
                    let there = best.entry(*tool).or_default();
                    *there = there.max(score);
                }
            }
            for (tool, score) in best {
                *scores.entry(tool).or_default() += score;
            }
        }
        let mut found: Vec<(usize, f32)> = scores.into_iter().collect();
        // Tools are sorted by name.
        found.sort_by(|(a, a_score), (b, b_score)| b_score.total_cmp(a_score).then(a.cmp(b)));
        found.into_iter().map(|(tool, _)| tool).collect()
    }

    fn rarity(&self, with: usize) -> f32 {
        let (all, with) = (count_of(self.lengths.len()), count_of(with));
        (1.0 + (all - with + 0.5) / (with + 0.5)).ln()
    }

    fn saturated(&self, tool: usize, weight: f32) -> f32 {
        let length = self.lengths.get(tool).copied().unwrap_or(self.average);
        let long = 1.0 - LENGTH + LENGTH * length / self.average;
        weight * (SATURATION + 1.0) / (weight + SATURATION * long)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of tools, far below what a float holds exactly"
)]
fn count_of(number: usize) -> f32 {
    number as f32
}

fn is_beginning(asked: &str, known: &str) -> bool {
    let enough = |word: &str| word.chars().count() >= PREFIX_CHARS_MIN;
    enough(asked) && known.starts_with(asked) || enough(known) && asked.starts_with(known)
}

/// The words of a text in one form: `listOpenIssues` and `list_open_issues` have the same ones.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut before = ' ';
    let mut end = |word: &mut String| {
        if !word.is_empty() {
            words.push(stem(std::mem::take(word)));
        }
    };
    for character in text.chars() {
        let is_new = character.is_uppercase() && (before.is_lowercase() || before.is_numeric());
        if is_new || !character.is_alphanumeric() {
            end(&mut word);
        }
        if character.is_alphanumeric() {
            word.extend(character.to_lowercase());
        }
        before = character;
    }
    end(&mut word);
    words
}

/// English plurals are their singular; whatever else a word may be, it is compared as it stands.
fn stem(mut word: String) -> String {
    if word.len() > 4 && word.ends_with("ies") {
        word.truncate(word.len() - 3);
        word.push('y');
    } else if word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") {
        word.pop();
    }
    word
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mainstay::Catalog;
    use mainstay::catalog::{Greeting, ItemList};
    use mainstay_wire::ListKind;
    use mainstay_wire::listing::RawItem;
    use serde_json::json;

    use super::*;

    fn index(tools: &[(&str, &str, &str)]) -> (Index, Arc<Publication>) {
        let tool = |(name, description, argument): &(&str, &str, &str)| {
            let text = json!({"name": name, "description": description,
                "inputSchema": {"type": "object", "properties": {*argument: {"type": "string"}}}});
            RawItem::parse(ListKind::Tools, text.to_string().into()).unwrap()
        };
        let catalog = Catalog {
            greeting: Greeting {
                revision: mainstay_wire::Revision::LATEST_MODERN,
                capabilities: "{}".into(),
                server_info: None,
                instructions: None,
            },
            tools: ItemList::new(tools.iter().map(tool).collect()),
            prompts: ItemList::default(),
            resources: ItemList::default(),
            templates: ItemList::default(),
            hidden: Vec::new(),
            listed_at_unix_ms: 0,
            over_sse: false,
            remembered: false,
        };
        let servers = BTreeMap::from([("hub".into(), Arc::new(catalog))]);
        let publication = Arc::new(Publication::merge(1, servers));
        (Index::new(Arc::clone(&publication)), publication)
    }

    fn found(tools: &[(&str, &str, &str)], query: &str) -> Vec<String> {
        let (index, publication) = index(tools);
        let places = index.find(query).into_iter();
        places
            .map(|at| publication.tools.items[at].upstream.to_string())
            .collect()
    }

    const TOOLS: [(&str, &str, &str); 6] = [
        ("create_issue", "Opens a new issue in a repository", "title"),
        ("listIssues", "Lists the issues of a repository", "state"),
        (
            "delete_repository",
            "Deletes a repository for good",
            "owner",
        ),
        ("send_mail", "Sends a message to somebody", "recipient"),
        ("get_weather", "The weather of a city", "city"),
        ("convert", "Converts amounts between currencies", "currency"),
    ];

    #[test]
    fn names_count_most_and_words_are_compared_in_one_form() {
        assert_eq!(found(&TOOLS, "list issues")[0], "listIssues");
        assert_eq!(found(&TOOLS, "Create an ISSUE")[0], "create_issue");
        assert_eq!(found(&TOOLS, "currencies")[0], "convert");
        assert_eq!(found(&TOOLS, "recipient"), ["send_mail"], "an argument");
        assert_eq!(found(&TOOLS, "repo")[0], "delete_repository", "a beginning");
        assert_eq!(found(&TOOLS, "no such thing at all"), Vec::<String>::new());
        assert_eq!(found(&TOOLS, " ?! ").len(), TOOLS.len());
    }

    #[test]
    fn rare_words_say_more_than_common_ones() {
        let common = "a tool of the repository";
        let tools = [
            ("one", common, "repository"),
            ("two", "quarterly", "x"),
            ("three", common, "y"),
        ];
        assert_eq!(found(&tools, "quarterly repository")[0], "two");
    }

    #[test]
    fn equal_ones_come_by_name() {
        let tools = [("b", "same", "x"), ("a", "same", "x"), ("c", "same", "x")];
        assert_eq!(found(&tools, "same"), ["a", "b", "c"]);
    }
}
