//! Whether two answers are alike, and the values that only their maker can make.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

const HIDDEN: &str = "[hidden]";

/// Members whose values are made anew each time and come back from the client.
const OPAQUE: [&str; 3] = ["requestState", "nextCursor", "taskId"];

/// Recorded values and what stands for them in this replay.
#[derive(Debug, Default)]
pub(super) struct Opaque(HashMap<String, String>);

impl Opaque {
    /// A recorded message with the values of this replay.
    pub(super) fn renewed(&self, message: &Value) -> Value {
        match message {
            Value::String(text) => match self.0.get(text) {
                Some(now) => Value::String(now.clone()),
                None => message.clone(),
            },
            Value::Array(items) => items.iter().map(|item| self.renewed(item)).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(key, value)| (key.clone(), self.renewed(value)))
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => message.clone(),
        }
    }
}

/// Compares without the ignored members; learns opaque values on the way. What was hidden is like anything.
pub(super) fn alike(
    recorded: &Value,
    replayed: &Value,
    ignored: &BTreeSet<String>,
    opaque: &mut Opaque,
) -> bool {
    match (recorded, replayed) {
        (Value::Object(before), Value::Object(now)) => {
            let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
            keys.into_iter()
                .filter(|key| !ignored.contains(*key))
                .all(|key| match (before.get(key), now.get(key)) {
                    (Some(Value::String(old)), Some(Value::String(new)))
                        if OPAQUE.contains(&key.as_str()) =>
                    {
                        opaque.0.insert(old.clone(), new.clone());
                        true
                    }
                    (Some(old), Some(new)) => alike(old, new, ignored, opaque),
                    (Some(_) | None, None) | (None, Some(_)) => false,
                })
        }
        (Value::Array(before), Value::Array(now)) => {
            before.len() == now.len()
                && before
                    .iter()
                    .zip(now)
                    .all(|(old, new)| alike(old, new, ignored, opaque))
        }
        (Value::String(before), Value::String(now)) => match before.split_once(HIDDEN) {
            None => before == now,
            Some((head, rest)) => {
                let tail = rest.rsplit(HIDDEN).next().unwrap_or_default();
                now.starts_with(head) && now.ends_with(tail)
            }
        },
        (Value::String(before), _) if before == HIDDEN => true,
        _ => recorded == replayed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hidden_opaque_and_ignored_values_make_no_difference_and_others_do() {
        let ignored = BTreeSet::from(["at".to_owned()]);
        let mut opaque = Opaque::default();
        let before =
            json!({"result": {"text": "a [hidden] b", "requestState": "old", "at": 1, "n": [1.5]}});
        let mut now =
            json!({"result": {"text": "a secret b", "requestState": "new", "at": 2, "n": [1.5]}});
        assert!(alike(&before, &now, &ignored, &mut opaque));
        let retry = json!({"params": {"requestState": "old", "x": ["old", "older"]}});
        assert_eq!(
            opaque.renewed(&retry),
            json!({"params": {"requestState": "new", "x": ["new", "older"]}})
        );
        assert!(!alike(&before, &now, &BTreeSet::new(), &mut opaque));
        now["result"]["n"] = json!([1.5, 2]);
        assert!(!alike(&before, &now, &ignored, &mut opaque));
        now["result"]["n"] = json!([1.5]);
        now["result"]["more"] = json!(1);
        assert!(!alike(&before, &now, &ignored, &mut opaque));
    }
}
