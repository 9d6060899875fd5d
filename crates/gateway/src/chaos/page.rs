//! Writes `docs/chaos.md` from the scripts and the scenarios, and sees to it that it is not stale.

use mainstay_testkit::script::{Transport, names};

use super::scenarios::SCENARIOS;
use super::serve;
use super::verdict::Verdict;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/chaos.md");

const HEAD: &str = "\
# Breaking things on purpose

Generated from `crates/testkit/scripts` and `crates/gateway/src/chaos/scenarios.rs`; a test fails when this page is stale.
Write it anew with `MAINSTAY_REGENERATE=1 cargo test -p mainstay-gateway --bin mainstay chaos_page`.

`mainstay chaos` is the kit that Mainstay itself is tested with, as a tool for testing any MCP client, gateway or proxy.

```console
mainstay chaos serve --script crash-loop --stdio             # a misbehaving server for a client under test
mainstay chaos serve --script redeploys --listen 127.0.0.1:0 # the same over HTTP; the URL is printed
mainstay chaos run --preset mainstay                         # what does Mainstay survive?
mainstay chaos run --target-command 'my-gateway --config {config} --port {port}'
```

`chaos run` starts the misbehaving servers itself, starts the target between them and a plain client that never repeats
anything, breaks what the scenario says, and judges by what the client saw and by the servers' own ledgers. Each scenario
has a target of its own. It ends with 0 only if everything was survived ([exit codes](exit-codes.md)).

A target is told about the servers by placeholders in `--target-command`: `{config}` is a file with `mcpServers`,
`{upstream-url}` and `{upstream-command}` are for proxies of one server; `{port}`, `{dir}` and `{mainstay}` help to start
it. Without `--target-command`, `--target URL` is a target that is running already: its configuration is written to
`--workdir` and the scenarios wait for it.

Every server has the tools `add_marker` (not idempotent; every execution is written down) and `echo`. The client calls
`add_marker` with a new marker each time: a marker that was executed twice is a call that ran twice.
";

const FORMAT: &str = "\
## Scripts of your own

A script is a text file. A line is `KEY: VALUE`; a comment begins with `#`. `about:` and `transport:` (stdio or http) are
needed, `faults:` names rows of the fault catalogue. Errors name the file, the line and the remedy.

- stdio: every other line is a setting of the server, as `mainstay chaos misbehave` names its flags: `exit-after-calls: 3`,
  `ignore-term: yes`. `life 2 SETTING: VALUE` (or `life 2-4`, `life 2-`) is for some of the starts only; the starts are
  counted in the `--ledger`.
- http: `eras: legacy`, `framing: sse`, `lost: bad-request` and so on are settings. `on tools/call: drop` plans a fault
  for one request; `on any 3 times: html` for three, `on GET always: reset` for ever; members follow as `NAME=VALUE`.
  `after 4 calls: forget-sessions` and `every 2000 ms: restart 500` happen by themselves; further actions are
  `end-streams` and `tell-changed`.

`mainstay chaos show NAME` prints any of the scripts below: a good start for one of your own.
";

fn page() -> String {
    let mut page = String::from(HEAD);
    page.push_str("\n## Verdicts\n\nFrom good to bad; the worst that is true counts.\n\n| verdict | meaning |\n|---|---|\n");
    for verdict in Verdict::ALL {
        page.push_str(&format!("| {} | {} |\n", verdict.word(), verdict.meaning()));
    }
    page.push_str("\n## Scenarios\n\n| scenario | what happens | what is asked | faults |\n|---|---|---|---|\n");
    for scenario in SCENARIOS {
        page.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            scenario.name,
            scenario.about,
            scenario.criterion(),
            scenario.faults
        ));
    }
    page.push('\n');
    page.push_str(FORMAT);
    for transport in [Transport::Stdio, Transport::Http, Transport::Sse] {
        page.push_str(&format!(
            "\n## Scripts: {}\n\n| script | what the server does | faults |\n|---|---|---|\n",
            transport.word()
        ));
        for script in names().filter_map(|name| serve::find(name).ok()) {
            if script.transport == transport {
                page.push_str(&format!(
                    "| [`{0}`](../crates/testkit/scripts/{0}.chaos) | {1} | {2} |\n",
                    script.name,
                    script.about,
                    script.faults.join(" ")
                ));
            }
        }
    }
    page
}

#[test]
fn chaos_page_is_fresh() {
    if std::env::var_os("MAINSTAY_REGENERATE").is_some() {
        std::fs::write(PAGE, page()).expect("the page can be written");
    }
    let stored = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        stored == page(),
        "docs/chaos.md is stale; the page itself says how to write it anew"
    );
}

#[test]
fn every_scenario_is_sound() {
    let mut names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), SCENARIOS.len(), "two scenarios share a name");
    assert!(SCENARIOS.len() >= 30);
    for scenario in SCENARIOS {
        let transport = scenario.transport();
        assert!(transport.is_ok(), "{}: {transport:?}", scenario.name);
        assert!(!scenario.criterion().is_empty(), "{}", scenario.name);
        if let Some(script) = scenario.neighbour() {
            assert!(serve::find(script).is_ok(), "{}: {script}", scenario.name);
        }
    }
}
