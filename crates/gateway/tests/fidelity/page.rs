//! `docs/bridging.md`, printed from the table of edits.

use super::edits::{EDITS, Leg};

const HEAD: &str = "\
# What Mainstay changes in what passes through

Generated from the table that the fidelity test holds every byte against; a test fails when this page is stale. Do not
edit: run `UPDATE_DOCS=1 cargo test -p mainstay-gateway --test fidelity`.

A client of either era may talk to a server of either era. Within a message, only the members below are touched; every
other byte stays as it was sent: unknown members, the order of members, blanks, the spelling of numbers and strings. A new
member is put behind the last one of its object; a member that is removed takes its comma along.

Legacy is 2024-11-05 to 2025-11-25, modern is 2026-07-28. Columns are *client → server*: L is legacy, M is modern.
";

const TAIL: &str = "
## What changes its form

| what | L→L | L→M | M→L | M→M |
|---|---|---|---|---|
| a question of the server | passes under an id of Mainstay's | each entry of `inputRequests` becomes a request on the stream of the call | becomes an entry of `inputRequests`, the call waits behind a sealed `requestState` | passes |
| the client's answer | passes under the server's id | its `result` becomes the value in `inputResponses`, `requestState` goes back untouched | the value in `inputResponses` becomes the `result` under the server's id | passes |

## What is answered by Mainstay itself

These do not pass through: `initialize`, `server/discover`, `ping`, `logging/setLevel`, `resources/subscribe`,
`resources/unsubscribe`, `subscriptions/listen` and the four listings. Listings are served from the published catalog as one
page: the items are the server's bytes, the members beside them are Mainstay's. Methods that no revision knows pass on
`/servers/{name}/mcp` only; on `/mcp` nobody could say whose they are.
";

pub(crate) fn render() -> String {
    let mut page = HEAD.to_owned();
    for (leg, title) in Leg::ALL {
        page.push_str(&format!("\n## {title}\n\n| member | edit | L→L | L→M | M→L | M→M | why |\n|---|---|---|---|---|---|---|\n"));
        for edit in EDITS.iter().filter(|edit| edit.leg == leg) {
            let marks = edit
                .pairs
                .map(|used| if used { "x" } else { "" })
                .join(" | ");
            page.push_str(&format!(
                "| `{}` | {} | {marks} | {} |\n",
                edit.member, edit.does, edit.why
            ));
        }
    }
    page.push_str(TAIL);
    page
}
