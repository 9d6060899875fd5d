//! Notifications that Mainstay acts on, and the filter of a listen request.

use std::borrow::Cow;

use super::ViewError;
use crate::envelope::Message;
use crate::id::Id;
use crate::raw;

/// `notifications/progress`. Borrows from the message.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgressView<'m> {
    /// The token of the request, raw JSON.
    pub token: &'m str,
    /// The value, for checking that it rises; the text stays in the message.
    pub progress: f64,
    /// Text for people.
    pub message: Option<Cow<'m, str>>,
}

impl<'m> ProgressView<'m> {
    /// Looks at a progress notification.
    ///
    /// # Errors
    /// [`ViewError`] without a token or a number.
    pub fn of(message: &'m Message) -> Result<Self, ViewError> {
        let fail = |member, expected| ViewError {
            what: "progress notification",
            member,
            expected,
        };
        let token = message
            .member(&["params", "progressToken"])
            .filter(|raw| Id::from_raw(raw).is_some())
            .ok_or(fail("params.progressToken", "a string or a number"))?;
        let progress = message
            .member(&["params", "progress"])
            .and_then(|raw| raw.parse().ok())
            .ok_or(fail("params.progress", "a number"))?;
        Ok(Self {
            token,
            progress,
            message: message.string_member(&["params", "message"]),
        })
    }

    /// The token as an id, to compare it with [`Id::as_u64`].
    #[must_use]
    pub fn token_id(&self) -> Option<Id> {
        Id::from_raw(self.token)
    }
}

/// `notifications/cancelled`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelledView {
    /// The request that is not wanted any more.
    pub request_id: Id,
    /// Why, for people.
    pub reason: Option<String>,
}

impl CancelledView {
    /// Looks at a cancellation.
    ///
    /// # Errors
    /// [`ViewError`] without a legal request id.
    pub fn of(message: &Message) -> Result<Self, ViewError> {
        let request_id = message
            .member(&["params", "requestId"])
            .and_then(Id::from_raw)
            .ok_or(ViewError {
                what: "cancelled notification",
                member: "params.requestId",
                expected: "a string or a number",
            })?;
        Ok(Self {
            request_id,
            reason: message.string_member(&["params", "reason"]).map(Into::into),
        })
    }
}

/// What a listen request asks for, or what its acknowledgement grants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenFilter {
    /// `toolsListChanged`
    pub tools: bool,
    /// `promptsListChanged`
    pub prompts: bool,
    /// `resourcesListChanged`
    pub resources: bool,
    /// `resourceSubscriptions`: URIs.
    pub uris: Vec<String>,
    /// Members that we do not know, with raw values: filters of extensions.
    pub other: Vec<(String, String)>,
}

impl ListenFilter {
    /// Reads `params.notifications` of a listen request or an acknowledgement.
    ///
    /// # Errors
    /// [`ViewError`] if it is missing or no object.
    pub fn of(message: &Message) -> Result<Self, ViewError> {
        let text = message
            .member(&["params", "notifications"])
            .filter(|raw| raw::is_object(raw))
            .ok_or(ViewError {
                what: "subscriptions/listen",
                member: "params.notifications",
                expected: "an object",
            })?;
        let mut filter = Self::default();
        for (key, value) in raw::members(text) {
            match key.as_ref() {
                "toolsListChanged" => filter.tools = value == "true",
                "promptsListChanged" => filter.prompts = value == "true",
                "resourcesListChanged" => filter.resources = value == "true",
                "resourceSubscriptions" => {
                    let uris = raw::elements(value).unwrap_or_default();
                    filter.uris = uris
                        .into_iter()
                        .filter_map(|raw| raw::string(raw).map(Into::into))
                        .collect();
                }
                other => filter.other.push((other.to_owned(), value.to_owned())),
            }
        }
        Ok(filter)
    }

    /// The filter as raw JSON. What is not asked for is left out, as an acknowledgement must do.
    #[must_use]
    pub fn render(&self) -> String {
        use crate::splice::json_string;
        let flags = [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ];
        let mut members: Vec<String> = flags
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(key, _)| format!("\"{key}\":true"))
            .collect();
        if !self.uris.is_empty() {
            let uris: Vec<String> = self.uris.iter().map(|uri| json_string(uri)).collect();
            members.push(format!("\"resourceSubscriptions\":[{}]", uris.join(",")));
        }
        members.extend(
            self.other
                .iter()
                .map(|(key, raw)| format!("{}:{raw}", json_string(key))),
        );
        format!("{{{}}}", members.join(","))
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
