//! Requests of servers to clients: whose they are, what the answer is, and what becomes of those that nobody answers.

use std::sync::Arc;
use std::time::Duration;

use mainstay::{Ask, CallOptions, ClientFace, Said};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::harness::{limits, tool_call, until, within};
use super::paper::{Paper, Say, tools};

fn question(id: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create",
        "params": {"message": id, "requestedSchema": {"type": "object", "properties": {}}}})
}

/// Options of a call that listens, as somebody or as nobody in particular.
fn hearing(client: Option<&str>) -> (CallOptions, mpsc::Receiver<Said>) {
    let (hear, heard) = mpsc::channel(16);
    let mut options = limits(60_000, 60_000);
    options.hear = Some(hear);
    options.client = Some(ClientFace {
        capabilities: "{\"elicitation\":{}}".into(),
        client: client.map(Arc::from),
        ..ClientFace::default()
    });
    (options, heard)
}

async fn asked(heard: &mut mpsc::Receiver<Said>) -> Ask {
    loop {
        match within("a question", heard.recv())
            .await
            .expect("a question")
        {
            Said::Ask(ask) => return ask,
            Said::Progress(_) | Said::Notice(_) => {}
        }
    }
}

fn answer_to(paper: &Paper, id: &str) -> Option<Value> {
    paper
        .answers()
        .into_iter()
        .find(|answer| answer["id"] == id)
}

#[tokio::test]
async fn a_question_on_the_stream_of_a_call_reaches_that_call_and_its_answer_goes_back_under_its_id()
 {
    let paper = Paper::start(|asked| match asked.method.as_str() {
        "tools/list" => Some(tools(&["a", "b"])),
        "tools/call" => {
            let id = format!("of {}", asked.tool());
            Some(Say::Asks(
                vec![question(&id)],
                json!({"content": [], "tool": asked.tool()}),
            ))
        }
        _ => None,
    })
    .await;
    let (manager, server) = paper.connect(paper.config()).await;
    let mut calls = Vec::new();
    for tool in ["a", "b"] {
        let (options, heard) = hearing(None);
        let server = server.clone();
        let call =
            tokio::spawn(async move { server.request(tool_call(tool, &json!({})), options).await });
        calls.push((tool, heard, call));
    }
    // The second is asked and answered while the first still waits.
    for (tool, mut heard, call) in calls.into_iter().rev() {
        let ask = asked(&mut heard).await;
        assert_eq!(ask.method(), "elicitation/create");
        assert!(ask.message().as_str().contains(&format!("of {tool}")));
        let said = format!(r#"{{"action":"accept","content":{{"x":1.10,"who":"{tool}"}}}}"#);
        assert!(within("the answer", ask.result(&said)).await);
        let answer = within("the call", call).await.unwrap().unwrap();
        assert!(
            answer
                .result()
                .unwrap()
                .contains(&format!("\"tool\":\"{tool}\""))
        );
        let got = answer_to(&paper, &format!("of {tool}")).unwrap();
        assert_eq!(got["result"]["content"]["who"], tool);
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn a_question_on_a_shared_stream_waits_until_it_can_be_of_one_call_only() {
    let paper = Paper::start(|asked| {
        (asked.method == "tools/call").then(|| match asked.params["arguments"]["ms"].as_u64() {
            Some(ms) => Say::Events(
                Vec::new(),
                Duration::from_millis(ms),
                json!({"content": []}),
            ),
            None => Say::EventsOnly(Vec::new()),
        })
    })
    .await;
    let (manager, server) = paper.connect(paper.config()).await;
    let (options, mut first) = hearing(None);
    let waiting = tokio::spawn({
        let server = server.clone();
        async move { server.request(tool_call("echo", &json!({})), options).await }
    });
    let (options, mut second) = hearing(None);
    let ending = tokio::spawn({
        let server = server.clone();
        async move {
            server
                .request(tool_call("echo", &json!({"ms": 700})), options)
                .await
        }
    });
    until("both calls", || paper.count("tools/call") == 2).await;
    paper.push(&question("q")).await;
    within("the second call", ending).await.unwrap().unwrap();
    let ask = asked(&mut first).await;
    assert!(
        second.recv().await.is_none(),
        "the other call heard nothing"
    );
    assert!(within("the answer", ask.result("{\"action\":\"decline\"}")).await);
    until("the answer", || answer_to(&paper, "q").is_some()).await;
    assert_eq!(
        answer_to(&paper, "q").unwrap()["result"]["action"],
        "decline"
    );
    waiting.abort();
    manager.shutdown().await;
}

#[tokio::test]
async fn calls_of_one_client_need_not_be_told_apart_and_of_two_are_never_guessed() {
    let paper =
        Paper::start(|asked| (asked.method == "tools/call").then(|| Say::EventsOnly(Vec::new())))
            .await;
    let (manager, server) = paper.connect(paper.config()).await;
    let begin = |client: &'static str| {
        let (options, heard) = hearing(Some(client));
        let server = server.clone();
        let call =
            tokio::spawn(
                async move { server.request(tool_call("echo", &json!({})), options).await },
            );
        (heard, call)
    };
    let (mut heard, one) = begin("a");
    until("a call", || paper.count("tools/call") == 1).await;
    let (_heard, two) = begin("a");
    until("two calls", || paper.count("tools/call") == 2).await;
    paper.push(&question("theirs")).await;
    let ask = asked(&mut heard).await;
    assert!(within("the answer", ask.result("{\"action\":\"cancel\"}")).await);
    let (mut foreign, three) = begin("b");
    until("three calls", || paper.count("tools/call") == 3).await;
    paper.push(&question("whose")).await;
    until("the refusal", || answer_to(&paper, "whose").is_some()).await;
    assert!(
        answer_to(&paper, "whose").unwrap()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("not clear")
    );
    assert!(foreign.try_recv().is_err() && heard.try_recv().is_err());
    for call in [one, two, three] {
        call.abort();
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn f114_a_question_that_its_client_leaves_is_answered_with_an_error_and_one_to_nobody_is_refused()
 {
    let paper = Paper::start(|asked| {
        let id = asked.params["arguments"]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (asked.method == "tools/call")
            .then(|| Say::Asks(vec![question(&id)], json!({"content": []})))
    })
    .await;
    let (manager, server) = paper.connect(paper.config()).await;
    let (options, mut heard) = hearing(None);
    let call = tokio::spawn({
        let server = server.clone();
        async move {
            server
                .request(tool_call("echo", &json!({"id": "left"})), options)
                .await
        }
    });
    drop(asked(&mut heard).await);
    within("the call", call).await.unwrap().unwrap();
    let told = answer_to(&paper, "left").unwrap();
    assert_eq!(told["error"]["message"], "the client did not answer");
    // Nobody listens: refused at once, and the call goes on.
    let deaf = server.request(
        tool_call("echo", &json!({"id": "deaf"})),
        limits(60_000, 60_000),
    );
    within("the call", deaf).await.unwrap();
    assert_eq!(answer_to(&paper, "deaf").unwrap()["error"]["code"], -32_601);
    manager.shutdown().await;
}

#[tokio::test]
async fn f185_the_idle_limit_stands_still_while_a_person_thinks() {
    let paper = Paper::start(|asked| {
        (asked.method == "tools/call")
            .then(|| Say::Asks(vec![question("slow")], json!({"content": []})))
    })
    .await;
    let (manager, server) = paper.connect(paper.config()).await;
    let (mut options, mut heard) = hearing(None);
    options.idle = Some(Duration::from_millis(200));
    let mut call = tokio::spawn({
        let server = server.clone();
        async move { server.request(tool_call("echo", &json!({})), options).await }
    });
    let ask = asked(&mut heard).await;
    // Five times the idle limit: the call must still be waiting.
    let early = tokio::time::timeout(Duration::from_secs(1), &mut call).await;
    assert!(early.is_err(), "{early:?}");
    assert!(within("the answer", ask.result("{\"action\":\"accept\"}")).await);
    within("the call", call).await.unwrap().unwrap();
    manager.shutdown().await;
}

#[tokio::test]
async fn law_18_a_question_that_the_server_takes_back_is_withdrawn_and_a_dead_one_too() {
    let paper = Paper::start(|asked| {
        let back = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
            "params": {"requestId": "back", "reason": "changed my mind"}});
        (asked.method == "tools/call")
            .then(|| Say::EventsOnly(vec![question("back"), back, question("dead")]))
    })
    .await;
    let (manager, server) = paper.connect(paper.config()).await;
    let (options, mut heard) = hearing(None);
    let call = tokio::spawn({
        let server = server.clone();
        async move { server.request(tool_call("echo", &json!({})), options).await }
    });
    let back = asked(&mut heard).await;
    within("the withdrawal", back.withdrawn()).await;
    let dead = asked(&mut heard).await;
    manager.shutdown().await;
    within("the end", dead.withdrawn()).await;
    assert!(within("the call", call).await.unwrap().is_err());
}
