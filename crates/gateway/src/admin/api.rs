//! The table of the admin API: every route once, with what it takes and what it answers.
//!
//! The router and the OpenAPI description (`openapi.rs`) are both made from it, so neither can know a route that the other
//! does not. Each part of the API keeps its own rows beside its handlers, as a `ROUTES` that [`PARTS`] lists. What a
//! request means is the handlers' business.

use axum::Router;
use axum::routing::MethodRouter;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::dto::ErrorBody;
use crate::serve::Gateway;

/// Who has routes.
const PARTS: &[&[Route]] = &[
    super::ROUTES,
    super::auth::ROUTES,
    super::approvals::ROUTES,
    super::audit::ROUTES,
    super::call::ROUTES,
    super::calls::ROUTES,
    super::journal::ROUTES,
    super::openapi::ROUTES,
    super::profiles::ROUTES,
    super::tokens::ROUTES,
    super::tools::ROUTES,
    super::reload::ROUTES,
];

/// All routes.
pub(super) fn all() -> impl Iterator<Item = &'static Route> {
    PARTS.iter().copied().flatten()
}

/// The router of all of them.
pub(super) fn router() -> Router<Gateway> {
    all().fold(Router::new(), |router, route| {
        router.route(route.path, (route.handler)())
    })
}

/// Makes the schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

const fn schema<T: JsonSchema>() -> SchemaOf {
    |generator| generator.subschema_for::<T>()
}

/// What a request does, as HTTP says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// Looks, changes nothing.
    Get,
    /// Changes something.
    Post,
}

impl Verb {
    /// Its name in OpenAPI.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
        }
    }
}

/// One member of a query. Parameters in the path are taken from the path itself.
#[derive(Debug)]
pub(super) struct Param {
    /// Its name.
    pub(super) name: &'static str,
    /// What it means, with its default.
    pub(super) about: &'static str,
    /// Its type.
    pub(super) schema: SchemaOf,
}

/// One member of a query of type `T`; all are optional.
pub(super) const fn param<T: JsonSchema>(name: &'static str, about: &'static str) -> Param {
    Param {
        name,
        about,
        schema: schema::<T>(),
    }
}

/// An answer other than 200.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) status: &'static str,
    /// When it is given.
    pub(super) about: &'static str,
    /// Its body.
    pub(super) schema: SchemaOf,
}

/// An answer with an HTTP status other than 200 and a body of type `T`.
pub(super) const fn refusal<T: JsonSchema>(status: &'static str, about: &'static str) -> Refusal {
    Refusal {
        status,
        about,
        schema: schema::<T>(),
    }
}

/// No server has that name.
pub(super) const NO_SUCH_SERVER: Refusal = refusal::<ErrorBody>(
    "404",
    "No server has that name; the hint lists those there are.",
);

/// One route.
#[derive(Debug)]
pub(super) struct Route {
    /// What it does.
    pub(super) verb: Verb,
    /// Its path, with `{name}` for the name of a server.
    pub(super) path: &'static str,
    /// Its name in OpenAPI, unique, as a verb.
    pub(super) id: &'static str,
    /// What it is for, on one line.
    pub(super) summary: &'static str,
    /// What its query may hold.
    pub(super) params: &'static [Param],
    /// What must or may be sent.
    pub(super) body: Option<SchemaOf>,
    /// Whether something must be sent.
    pub(super) body_required: bool,
    /// The JSON of its 200.
    pub(super) json: Option<SchemaOf>,
    /// The data of each event, if its 200 is (or can be) an event stream.
    pub(super) events: Option<SchemaOf>,
    /// Other answers that its users must know. Every route may answer an error besides.
    pub(super) refusals: &'static [Refusal],
    handler: fn() -> MethodRouter<Gateway>,
}

impl Route {
    /// A route that looks.
    pub(super) const fn get(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: fn() -> MethodRouter<Gateway>,
    ) -> Self {
        Self {
            verb: Verb::Get,
            path,
            id,
            summary,
            params: &[],
            body: None,
            body_required: false,
            json: None,
            events: None,
            refusals: &[],
            handler,
        }
    }

    /// A route that changes something.
    pub(super) const fn post(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: fn() -> MethodRouter<Gateway>,
    ) -> Self {
        let mut route = Self::get(path, id, summary, handler);
        route.verb = Verb::Post;
        route
    }

    /// With members of a query.
    pub(super) const fn params(mut self, params: &'static [Param]) -> Self {
        self.params = params;
        self
    }

    /// With a JSON body that must be sent.
    pub(super) const fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Some(schema::<T>());
        self.body_required = true;
        self
    }

    /// With a JSON body that may be left out.
    pub(super) const fn may_take<T: JsonSchema>(mut self) -> Self {
        self.body = Some(schema::<T>());
        self
    }

    /// Answers JSON.
    pub(super) const fn json<T: JsonSchema>(mut self) -> Self {
        self.json = Some(schema::<T>());
        self
    }

    /// Answers an event stream; each event's data is this.
    pub(super) const fn events<T: JsonSchema>(mut self) -> Self {
        self.events = Some(schema::<T>());
        self
    }

    /// With other answers.
    pub(super) const fn refuses(mut self, refusals: &'static [Refusal]) -> Self {
        self.refusals = refusals;
        self
    }
}
