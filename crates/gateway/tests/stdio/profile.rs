//! An app that is shown one profile.

use serde_json::{Value, json};

use super::support::{User, tool, wait_until};

/// The config of the user, with a profile that has nothing but `echo`.
fn with_profile(user: &User) {
    let text = std::fs::read_to_string(user.path("mcp.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["mainstay"]["profiles"] = json!({"small": {"tools": {"include": ["*__echo"]}}});
    user.config(&config);
}

#[test]
fn an_app_is_shown_its_profile_alone() {
    let user = User::new();
    with_profile(&user);
    let mut app = user.app(&["--profile", "small"]);
    app.open();
    let listed = app.legacy("tools/list", &json!({}));
    let tools = listed["result"]["tools"].as_array().unwrap();
    assert_eq!(tools.len(), 1, "{listed}");
    let said = app.legacy("tools/call", &tool("kit__echo", json!({ "text": "hi" })));
    assert_eq!(said["result"]["content"][0]["text"], "hi", "{said}");
    let refused = app.legacy("tools/call", &tool("kit__crash", json!({ "code": 1 })));
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    assert!(app.leave().0.success());
}

#[test]
fn an_unknown_profile_is_exit_6_with_those_there_are() {
    let user = User::new();
    with_profile(&user);
    let mut app = user.app(&["--profile", "smal"]);
    assert_eq!(app.ended().code(), Some(6));
    wait_until("the error", || app.stderr().contains("no profile is named"));
    assert!(
        app.stderr().contains("configured are: small"),
        "{}",
        app.stderr()
    );
    let (code, _, words) = user.run(&["stdio", "--profile", "small", "--server", "kit"]);
    assert_eq!(code, Some(2), "{words}");
}
