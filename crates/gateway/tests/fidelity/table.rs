//! The messages that are sent through: files of our own, one line a message.

use mainstay_wire::Era;

use super::tree::Tree;

/// A request, what is said meanwhile, and the answer.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) name: String,
    pub(crate) method: String,
    /// The parameters, if there are any.
    pub(crate) params: Option<String>,
    /// Notifications before the answer: method and parameters, with `$TOKEN` for the progress token.
    pub(crate) meanwhile: Vec<(String, String)>,
    pub(crate) answer: Answer,
    client: Option<Era>,
    server: Option<Era>,
}

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Result(String),
    Error(String),
}

impl Exchange {
    /// Whether clients and servers of these eras say such things.
    pub(crate) fn fits(&self, client: Era, server: Era) -> bool {
        self.client.is_none_or(|era| era == client) && self.server.is_none_or(|era| era == server)
    }
}

pub(crate) fn exchanges() -> Vec<Exchange> {
    read(include_str!("messages/exchanges.txt"))
}

/// Methods that only one server's own endpoint carries.
pub(crate) fn unknown() -> Vec<Exchange> {
    read(include_str!("messages/unknown.txt"))
}

/// What servers ask of clients, and the answers.
pub(crate) fn questions() -> Vec<Exchange> {
    read(include_str!("messages/questions.txt"))
}

/// What servers list, by method: the key of the items, the member that names one, the items.
pub(crate) fn listings() -> [(&'static str, &'static str, &'static str, Vec<Tree>); 4] {
    let items = |text: &str| text.lines().map(Tree::read).collect();
    [
        (
            "tools/list",
            "tools",
            "name",
            items(include_str!("messages/tools.jsonl")),
        ),
        (
            "prompts/list",
            "prompts",
            "name",
            items(include_str!("messages/prompts.jsonl")),
        ),
        (
            "resources/list",
            "resources",
            "uri",
            items(include_str!("messages/resources.jsonl")),
        ),
        (
            "resources/templates/list",
            "resourceTemplates",
            "uriTemplate",
            items(include_str!("messages/templates.jsonl")),
        ),
    ]
}

fn read(text: &str) -> Vec<Exchange> {
    text.split("\n\n")
        .filter(|block| block.contains("== "))
        .map(exchange)
        .collect()
}

fn exchange(block: &str) -> Exchange {
    let (mut name, mut request, mut answer) = (None, None, None);
    let (mut meanwhile, mut client, mut server) = (Vec::new(), None, None);
    let said = |text: &str| match text.split_once(' ') {
        Some((method, params)) => (method.to_owned(), params.to_owned()),
        None => (text.to_owned(), String::new()),
    };
    let era = |word: &str| match word {
        "legacy" => Era::Legacy,
        "modern" => Era::Modern,
        _ => panic!("no era: {word}"),
    };
    for line in block
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (mark, rest) = line
            .split_once(' ')
            .unwrap_or_else(|| panic!("not understood: {line}"));
        match mark {
            "==" => name = Some(rest.to_owned()),
            "->" => request = Some(said(rest)),
            "<<" => meanwhile.push(said(rest)),
            "<-" => answer = Some(Answer::Result(rest.to_owned())),
            "<!" => answer = Some(Answer::Error(rest.to_owned())),
            "client:" => client = Some(era(rest)),
            "server:" => server = Some(era(rest)),
            _ => panic!("not understood: {line}"),
        }
    }
    let (method, params) = request.unwrap_or_else(|| panic!("no request: {block}"));
    Exchange {
        name: name.unwrap_or_else(|| panic!("no name: {block}")),
        method,
        params: (!params.is_empty()).then_some(params),
        meanwhile,
        answer: answer.unwrap_or_else(|| panic!("no answer: {block}")),
        client,
        server,
    }
}
