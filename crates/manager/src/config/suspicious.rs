//! What is done about servers that may be hostile: hidden text, requests to clients, a program that was swapped.

use jsonc_parser::ast::Value;
use schemars::JsonSchema;

use super::file::ServerOptions;
use super::filter::Glob;
use super::reader::{Fields, Range, Sink, kind};

/// What is done with characters that nobody sees and a model reads (F252).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum HiddenText {
    /// They are told: in status, by `doctor`, on the dashboard. Clients get the text as it is.
    #[default]
    Flag,
    /// They are told, and what clients see is without them.
    Strip,
    /// Nothing.
    Pass,
}

/// Whether a server may ask clients for something, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AskRule {
    /// It may.
    #[default]
    Allowed,
    /// It may not: it is answered with an error.
    Refused,
    /// It may so often.
    Limited {
        /// Within one minute.
        per_minute: Option<u32>,
        /// At the same time.
        at_once: Option<u32>,
    },
}

/// What a server may ask clients for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct AskRules {
    /// `sampling/createMessage`. Default: allowed.
    pub sampling: AskRule,
    /// `elicitation/create`. Default: allowed.
    pub elicitation: AskRule,
}

/// What protects from a server that may be hostile.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Guard {
    /// Whether its program must be the one that was approved (F259). Default: false.
    pub pin_program: bool,
    /// What it may ask clients for. Default: everything.
    pub asks: AskRules,
    /// The types of content that its answers may have, in lower case. Default: all.
    pub content_types: Option<Vec<Glob>>,
    /// What is done with hidden characters (F252). Default: they are told.
    pub hidden_text: HiddenText,
}

impl Guard {
    pub(super) fn from_options(options: &ServerOptions) -> Self {
        let types = options.content_types.as_ref();
        let globs = |types: &Vec<String>| -> Vec<Glob> {
            let globs = types
                .iter()
                .map(|text| Glob::new(text.to_ascii_lowercase()));
            globs.collect()
        };
        Self {
            pin_program: options.pin_program.unwrap_or(false),
            asks: AskRules::from_options(options.asks.as_ref()),
            content_types: types.map(globs),
            hidden_text: options.hidden_text.unwrap_or_default(),
        }
    }
}

/// Whether the server may ask clients for something.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct AskOptions {
    /// For an answer of their model.
    #[schemars(with = "Option<AskRuleWord>", extend("default" = true))]
    pub(super) sampling: Option<AskRule>,
    /// For input of their user.
    #[schemars(with = "Option<AskRuleWord>", extend("default" = true))]
    pub(super) elicitation: Option<AskRule>,
}

/// `true`, `false`, or how often.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) enum AskRuleWord {
    Flag(bool),
    Limits(AskLimits),
}

/// How often.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "only described in the schema")]
pub(super) struct AskLimits {
    /// Within one minute; more are refused.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) per_minute: Option<u64>,
    /// At the same time; more are refused.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) at_once: Option<u64>,
}

impl AskRules {
    pub(super) fn from_options(options: Option<&AskOptions>) -> Self {
        let options = options.cloned().unwrap_or_default();
        Self {
            sampling: options.sampling.unwrap_or_default(),
            elicitation: options.elicitation.unwrap_or_default(),
        }
    }
}

impl AskOptions {
    pub(super) fn over(self, below: &AskOptions) -> AskOptions {
        AskOptions {
            sampling: self.sampling.or(below.sampling),
            elicitation: self.elicitation.or(below.elicitation),
        }
    }
}

pub(super) fn read_asks(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<AskOptions> {
    let mut group = fields.object("asks", sink)?;
    let options = AskOptions {
        sampling: read_rule("sampling", &mut group, sink),
        elicitation: read_rule("elicitation", &mut group, sink),
    };
    group.finish(sink);
    Some(options)
}

fn read_rule(
    key: &'static str,
    fields: &mut Fields<'_, '_>,
    sink: &mut Sink<'_>,
) -> Option<AskRule> {
    let (value, place) = fields.take(key, sink)?;
    if let Value::BooleanLit(literal) = value {
        return Some(match literal.value {
            true => AskRule::Allowed,
            false => AskRule::Refused,
        });
    }
    if value.as_object().is_none() {
        let found = kind(value);
        let message = format!("expected `true`, `false` or an object of limits, found {found}");
        sink.error(&place, message, "such as `{\"perMinute\": 10}`");
        return None;
    }
    let mut limits = fields.object(key, sink)?;
    let range = Range {
        min: 1,
        max: 1_000_000,
    };
    let small = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
    let rule = AskRule::Limited {
        per_minute: small(limits.whole("perMinute", range, sink)),
        at_once: small(limits.whole("atOnce", range, sink)),
    };
    limits.finish(sink);
    Some(rule)
}

pub(super) fn read_hidden_text(
    fields: &mut Fields<'_, '_>,
    sink: &mut Sink<'_>,
) -> Option<HiddenText> {
    let words = [
        ("flag", HiddenText::Flag),
        ("strip", HiddenText::Strip),
        ("pass", HiddenText::Pass),
    ];
    fields.choice("hiddenText", &words, sink)
}
