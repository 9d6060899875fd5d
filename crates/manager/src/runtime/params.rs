//! Arguments that a modern server wants repeated as headers (`Mcp-Param-*`), as its last listing said.
//!
//! Only tools with such annotations are held, so that calls of all others cost nothing.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};
use mainstay_wire::headers;
use mainstay_wire::listing::RawItem;
use mainstay_wire::raw;

/// The annotated arguments of one server's tools.
#[derive(Debug, Default)]
pub(crate) struct ToolHeaders(ArcSwapOption<HashMap<Box<str>, Annotated>>);

type Annotated = Vec<headers::ParamHeader>;

/// What one listing says about headers, while it is being read.
#[derive(Debug, Default)]
pub(crate) struct Draft(HashMap<Box<str>, Annotated>);

impl Draft {
    /// Reads the annotations of a tool.
    ///
    /// # Errors
    /// Why they are illegal: over HTTP such a tool must be left out of the listing (F137).
    pub(crate) fn read(&mut self, tool: &RawItem) -> Result<(), String> {
        let Some(schema) = raw::member(tool.as_str(), &["inputSchema"]) else {
            return Ok(());
        };
        let annotated = headers::param_headers(schema)?;
        if !annotated.is_empty() {
            self.0.insert(tool.name.as_str().into(), annotated);
        }
        Ok(())
    }
}

impl ToolHeaders {
    /// A complete listing says so.
    pub(crate) fn replace(&self, draft: Draft) {
        self.0
            .store((!draft.0.is_empty()).then(|| Arc::new(draft.0)));
    }

    /// The headers of one call. `arguments` is raw JSON text.
    pub(crate) fn of(
        &self,
        tool: Option<&str>,
        arguments: Option<&str>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let held = self.0.load();
        let annotated = held
            .as_ref()
            .and_then(|tools| tools.get(tool?))
            .map_or(&[][..], Vec::as_slice);
        annotated
            .iter()
            .filter_map(|param| {
                let value = param.value(arguments)?;
                let name = HeaderName::from_bytes(param.header.as_bytes()).ok()?;
                Some((name, HeaderValue::from_str(&value).ok()?))
            })
            .collect()
    }
}
