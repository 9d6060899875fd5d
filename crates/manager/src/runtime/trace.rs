//! How a trace goes on to a server (W3C Trace Context): in `_meta` of the request, and over HTTP in headers as well.
//!
//! What a client put into `_meta` itself passes through untouched, whether or not it is well formed.

use http::{HeaderName, HeaderValue};
use mainstay_wire::envelope::Message;
use mainstay_wire::meta;
use mainstay_wire::splice::{Editor, json_string};

use crate::calls::TraceContext;

const PARENT: HeaderName = HeaderName::from_static(meta::TRACE[0]);
const STATE: HeaderName = HeaderName::from_static(meta::TRACE[1]);

/// Whether a header belongs to the trace: such headers go out in both eras.
pub(super) fn is_of_trace(name: &HeaderName) -> bool {
    *name == PARENT || *name == STATE
}

/// Puts a context into `_meta`, unless the message says the same already.
pub(super) fn tell<'m>(
    mut editor: Editor<'m>,
    message: &Message,
    context: &TraceContext,
) -> Editor<'m> {
    let parent = context.traceparent();
    let said = message.string_member(&meta::in_params(meta::TRACE[0]));
    if said.as_deref() == Some(&*parent) {
        return editor;
    }
    editor = editor.set(&meta::in_params(meta::TRACE[0]), json_string(&parent));
    if let Some(state) = context.state() {
        editor = editor.set(&meta::in_params(meta::TRACE[1]), json_string(state));
    }
    editor
}

/// The same as headers.
pub(super) fn headers(context: &TraceContext) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let parent = HeaderValue::try_from(context.traceparent()).ok();
    let state = context
        .state()
        .and_then(|state| HeaderValue::from_str(state).ok());
    let parent = parent.map(|parent| (PARENT, parent));
    parent.into_iter().chain(state.map(|state| (STATE, state)))
}
