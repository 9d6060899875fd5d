//! Calls of modern clients to servers that may ask something while the call is on its way.
//!
//! What the server asks is collected for a moment and becomes an `input_required` answer; the call is parked until its
//! client comes back with the answers and the state (`park`). The same for a legacy server that wants its user to visit an
//! address first (-32042), and for a server that somebody has to sign in to, except that such a call is made again. Answers
//! and states never reach a legacy server.

use std::sync::Arc;
use std::time::Duration;

use mainstay::{Answer, CallError, CallOptions, Catalog, LogLevel, Said, ServerHandle};
use mainstay_wire::{Era, Message, Parts, codes, json_string, method, raw};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::conversation::{Conversation, Listener, Turn};
use super::inputs::{self, Kind};
use super::park::{self, Bound, Held, Parking, Seat, Stopped, Ticket, Waiting};
use super::rounds::endless;
use super::signin;
use super::voice::{Progress, Voice};
use super::{HEAR_MAX, approval, capability, era_of};
use crate::policy::approvals::Wanted;
use crate::serve::Shared;
use crate::serve::adapt::Fitted;
use crate::serve::call::{self, Caller, Outcome};
use crate::serve::endpoint::{Routed, catalog_for};
use crate::serve::fault::{Fault, INPUT_MISSING, LIMIT_REACHED};
use crate::serve::levels::{self, Ear};
use crate::serve::view::Viewer;

/// The client's request, as far as input-required exchanges need it.
pub(crate) struct Request {
    /// The message as the client sent it.
    pub(crate) message: Message,
    /// The endpoint that it was sent to: a server's name, or nothing for the aggregate.
    pub(crate) at: Box<str>,
    /// The least severe log message that the client wants to hear; none, if it said nothing.
    pub(crate) log_level: Option<LogLevel>,
    /// It carries a state that was sealed here.
    pub(crate) is_ours: bool,
}

impl Request {
    /// Looks at a request to an endpoint.
    ///
    /// # Errors
    /// Its log level is none.
    pub(crate) fn of(shared: &Shared, message: Message, at: Option<&str>) -> Result<Self, Fault> {
        let log_level = levels::of_request(&message)?;
        let is_ours = message
            .string_member(&STATE)
            .is_some_and(|state| park::is_ours(&shared.sealer, &state));
        Ok(Self {
            message,
            at: at.unwrap_or_default().into(),
            log_level,
            is_ours,
        })
    }
}

const STATE: [&str; 2] = ["params", "requestState"];
const RESPONSES: [&str; 2] = ["params", "inputResponses"];

/// Serves one request of the client, up to the bytes of its answer. Dropping the future cancels the call, unless it is
/// parked by then.
pub(crate) async fn run(
    shared: Arc<Shared>,
    routed: Routed,
    caller: Caller,
    request: Request,
    voice: Voice,
) -> Outcome {
    let server_era = match era_of(&shared, &routed.server) {
        Some(era) => Some(era),
        // Whether these belong to the server or to us depends on its era, so it has to be known first.
        None if brings_input(&request.message) && !request.is_ours => {
            match input_for(&shared, &routed.server, &caller).await {
                Ok(catalog) => Some(catalog.greeting.revision.era()),
                Err(fault) => return Some(call::failed(&fault, &caller)),
            }
        }
        None => None,
    };
    let whose = (&routed.server, caller.who.principal.as_ref());
    let ear = Ear::of_request(&shared, whose, request.log_level).await;
    let attendance = Attendance {
        shared,
        caller,
        request,
        voice,
        ear,
        server_era,
    };
    let fitted = attendance.serve(routed).await;
    Some(fitted.unwrap_or_else(|fault| call::failed(&fault, &attendance.caller)))
}

/// Answers a call to a modern server that got nowhere, where a sign-in may help.
pub(crate) async fn stopped(
    shared: Arc<Shared>,
    routed: Routed,
    caller: Caller,
    request: Request,
    error: CallError,
) -> Outcome {
    let ear = Ear::of_request(
        &shared,
        (&routed.server, caller.who.principal.as_ref()),
        request.log_level,
    )
    .await;
    let attendance = Attendance {
        shared,
        caller,
        request,
        voice: Voice::default(),
        ear,
        server_era: Some(Era::Modern),
    };
    let again = Again {
        routed,
        settling: None,
    };
    let fitted = attendance.stopped(error, None, again).await;
    Some(fitted.unwrap_or_else(|fault| call::failed(&fault, &attendance.caller)))
}

/// The catalog of a server that has never greeted anybody, once it has greeted this caller.
async fn input_for(
    shared: &Arc<Shared>,
    server: &ServerHandle,
    caller: &Caller,
) -> Result<Arc<Catalog>, Fault> {
    let who = Viewer::of(&caller.who, caller.face.clone());
    catalog_for(shared, server, &who).await
}

fn brings_input(message: &Message) -> bool {
    message.member(&STATE).is_some() || message.member(&RESPONSES).is_some()
}

/// One request of the client.
struct Attendance {
    shared: Arc<Shared>,
    caller: Caller,
    request: Request,
    voice: Voice,
    ear: Ear,
    server_era: Option<Era>,
}

/// A call as it is made again, if it is.
struct Again {
    routed: Routed,
    /// Until when the effect of a sign-in is waited for.
    settling: Option<Instant>,
}

impl Attendance {
    async fn serve(&self, routed: Routed) -> Result<Fitted, Fault> {
        let message = &self.request.message;
        if let Some(wanted) = self.caller.wanted()
            && !self.request.is_ours
            && !approval::is_next_round(&self.shared, &self.caller, wanted, message)
        {
            return self.unless_approved(routed, wanted).await;
        }
        let theirs = self.server_era == Some(Era::Modern) && !self.request.is_ours;
        if theirs {
            return self.begin(routed, Vec::new(), None).await;
        }
        let answers = inputs::responses(message).map_err(Fault::params)?;
        match message.member(&STATE) {
            None | Some("null") => {
                self.begin(without_input(routed, message), answers, None)
                    .await
            }
            Some(state) => {
                let state = raw::string(state)
                    .ok_or_else(|| Fault::params("`params.requestState` must be a string"))?;
                let sealer = &self.shared.sealer;
                let ticket = park::ticket(sealer, &state, self.bound())?;
                self.resume(routed, ticket, answers).await
            }
        }
    }

    /// Makes a call once somebody has approved it: its client's user, who is asked by parking it, or the operator.
    async fn unless_approved(&self, routed: Routed, wanted: &Wanted) -> Result<Fitted, Fault> {
        let params = wanted.question();
        let declared = &self.caller.face.capabilities;
        let lacking = capability::lacking(declared, method::ELICITATION_CREATE, Some(&params));
        if !wanted.asks_client(lacking.is_none()) {
            approval::by_operator(&self.shared, &self.caller, wanted).await?;
            let fresh = without_input(routed, &self.request.message);
            return self.begin(fresh, Vec::new(), None).await;
        }
        if lacking.is_some() {
            return Err(approval::cannot_ask(&self.caller, wanted));
        }
        let key = format!("{}-approval", Kind::Elicitation.word());
        let entries = vec![inputs::request_entry(
            &key,
            method::ELICITATION_CREATE,
            Some(&params),
        )];
        let questions = vec![(key, Kind::Elicitation)];
        let waiting = Waiting::Approval {
            entries: entries.clone(),
            until: Instant::now() + Duration::from_millis(wanted.approval.wait_ms),
        };
        self.park(None, waiting, questions, &entries)
    }

    /// The client came back about a call that waits for the word of its user.
    async fn asked_for_approval(
        &self,
        routed: Routed,
        seat: Seat,
        (entries, until): (Vec<String>, Instant),
        questions: &[(String, Kind)],
        answers: &[(String, String)],
    ) -> Result<Fitted, Fault> {
        if Instant::now() >= until {
            return Err(approval::too_late(&self.caller));
        }
        let answer = questions
            .first()
            .and_then(|(key, _)| inputs::find(answers, key));
        let Some(answer) = answer else {
            let asked = entries.clone();
            return self.park(
                Some(seat),
                Waiting::Approval { entries, until },
                questions.to_vec(),
                &asked,
            );
        };
        approval::said(&self.caller, "client", Wanted::is_yes(answer))?;
        let routed = without_input(routed, &self.request.message);
        self.begin(routed, Vec::new(), Some(seat)).await
    }

    /// Makes the call. `early`: answers to questions that were not asked yet. `seat`: the place of the call if it was parked
    /// before, because it is made again.
    async fn begin(
        &self,
        routed: Routed,
        early: Vec<(String, String)>,
        seat: Option<Seat>,
    ) -> Result<Fitted, Fault> {
        let again = Again {
            routed,
            settling: None,
        };
        self.make(again, early, seat).await
    }

    async fn make(
        &self,
        again: Again,
        early: Vec<(String, String)>,
        seat: Option<Seat>,
    ) -> Result<Fitted, Fault> {
        let (sender, hear) = mpsc::channel::<Said>(HEAR_MAX);
        let options = CallOptions {
            progress: self.caller.progress_token.is_some(),
            hear: Some(sender),
            client: Some(self.caller.face.clone()),
            origin: Some(Arc::clone(&self.caller.origin)),
            ..CallOptions::default()
        };
        let Routed { server, request } = again.routed.clone();
        let face = &self.caller.face;
        let server = match server.for_call(face, &request, &options).await {
            Ok(server) => server,
            Err(error) => return self.stopped(error, seat, again).await,
        };
        let by = server.clone();
        let call = async move { by.request(request, options).await };
        let conversation = Box::new(Conversation::new(server, call, hear, early));
        self.attend(conversation, seat, true, again).await
    }

    /// Goes on with a parked call. Nothing happens to it unless everything about this request is in order.
    async fn resume(
        &self,
        routed: Routed,
        ticket: Ticket,
        answers: Vec<(String, String)>,
    ) -> Result<Fitted, Fault> {
        let parked = &self.shared.parked;
        let questions = parked.questions(ticket)?;
        for (key, kind) in questions.iter() {
            if let Some(answer) = inputs::find(&answers, key) {
                kind.check(answer).map_err(|wrong| ill_typed(key, wrong))?;
            }
        }
        let Held { seat, waiting } = parked.claim(ticket).await?;
        match waiting {
            Waiting::Call(mut conversation) => {
                let delivered = conversation.deliver(&self.shared, &answers);
                let again = Again {
                    routed: without_input(routed, &self.request.message),
                    settling: None,
                };
                self.attend(conversation, Some(seat), delivered, again)
                    .await
            }
            Waiting::SignIn(stopped) => self.sent_to_sign_in(seat, *stopped, &answers).await,
            Waiting::Visits(entries) => {
                self.visited(routed, seat, entries, &questions, &answers)
                    .await
            }
            Waiting::Approval { entries, until } => {
                self.asked_for_approval(routed, seat, (entries, until), &questions, &answers)
                    .await
            }
        }
    }

    /// Attends to the call until this request can be answered.
    async fn attend(
        &self,
        mut conversation: Box<Conversation>,
        seat: Option<Seat>,
        fresh: bool,
        again: Again,
    ) -> Result<Fitted, Fault> {
        let mut listener = Listener {
            shared: &self.shared,
            capabilities: &self.caller.face.capabilities,
            voice: &self.voice,
            progress: Progress::new(self.caller.progress_token.clone()),
            ear: &self.ear,
            same_era: self.server_era == Some(Era::Modern),
        };
        match conversation.attend(&mut listener, fresh).await {
            Turn::Answered(answered) => match *answered {
                Ok(answer) => self.answered(answer, seat),
                Err(error) => self.stopped(error, seat, again).await,
            },
            Turn::Lacks(capabilities) => Err(lacks(capabilities)),
            Turn::Asks => {
                let questions = conversation.questions();
                let entries = conversation.entries();
                self.park(seat, Waiting::Call(conversation), questions, &entries)
            }
        }
    }

    /// The call got nowhere. Where a sign-in would let it through, its client is asked for one.
    async fn stopped(
        &self,
        error: CallError,
        seat: Option<Seat>,
        again: Again,
    ) -> Result<Fitted, Fault> {
        let Again { routed, settling } = again;
        let wanted = signin::Wanted::of(&self.shared, &routed.server, &error, &self.caller.who);
        let Some(wanted) = wanted else {
            return Ok(call::fitted(Err(error), Era::Modern, &self.caller));
        };
        if signin::settles(settling).await {
            let again = Again { routed, settling };
            return Box::pin(self.make(again, Vec::new(), seat)).await;
        }
        match wanted.question(&self.caller.face.capabilities) {
            None => Err(wanted.fault(&error)),
            Some(question) => {
                let method = method::ELICITATION_CREATE;
                let stopped = Stopped {
                    routed,
                    wanted,
                    entry: inputs::request_entry(signin::KEY, method, Some(&question)),
                };
                self.ask_to_sign_in(seat, stopped)
            }
        }
    }

    fn ask_to_sign_in(&self, seat: Option<Seat>, stopped: Stopped) -> Result<Fitted, Fault> {
        let entries = [stopped.entry.clone()];
        let questions = vec![(signin::KEY.to_owned(), Kind::Elicitation)];
        self.park(
            seat,
            Waiting::SignIn(Box::new(stopped)),
            questions,
            &entries,
        )
    }

    /// The user has gone to sign in, or has not: in the first case the call is made when that has come about.
    async fn sent_to_sign_in(
        &self,
        seat: Seat,
        stopped: Stopped,
        answers: &[(String, String)],
    ) -> Result<Fitted, Fault> {
        match signin::accepts(answers) {
            None => return self.ask_to_sign_in(Some(seat), stopped),
            Some(false) => return Err(stopped.wanted.declined()),
            Some(true) => {}
        }
        let until = Instant::now() + signin::MODERN_WAIT;
        if !stopped.wanted.signed_in(&self.shared, until).await {
            return self.ask_to_sign_in(Some(seat), stopped);
        }
        let again = Again {
            routed: stopped.routed,
            settling: Some(signin::settling()),
        };
        // The place goes with the call, so that its rounds are counted on.
        self.make(again, Vec::new(), Some(seat)).await
    }

    fn answered(&self, answer: Answer, seat: Option<Seat>) -> Result<Fitted, Fault> {
        approval::remember_round(&self.shared, &self.caller, &self.request.message, &answer);
        let visits = (answer.era == Era::Legacy)
            .then(|| visits(&answer.message))
            .flatten();
        let Some(visits) = visits else {
            return Ok(call::fitted(Ok(answer), Era::Modern, &self.caller));
        };
        let declared = &self.caller.face.capabilities;
        for params in &visits {
            if let Some(missing) =
                capability::lacking(declared, method::ELICITATION_CREATE, Some(params))
            {
                return Err(lacks(missing));
            }
        }
        let mut questions = Vec::new();
        let mut entries = Vec::new();
        for (at, params) in visits.iter().enumerate() {
            let key = format!("{}-{}", Kind::Elicitation.word(), at + 1);
            entries.push(inputs::request_entry(
                &key,
                method::ELICITATION_CREATE,
                Some(params),
            ));
            questions.push((key, Kind::Elicitation));
        }
        self.park(seat, Waiting::Visits(entries.clone()), questions, &entries)
    }

    /// What a later request must have in common with this one.
    fn bound(&self) -> Bound<'_> {
        Bound {
            at: &self.request.at,
            request: &self.request.message,
            principal: self.caller.who.principal.as_ref(),
        }
    }

    /// Parks what waits for the client, and asks it.
    fn park(
        &self,
        seat: Option<Seat>,
        waiting: Waiting,
        questions: Vec<(String, Kind)>,
        entries: &[String],
    ) -> Result<Fitted, Fault> {
        let rounds_max = self.shared.settings.rounds_max;
        if seat.as_ref().is_some_and(|seat| seat.round >= rounds_max) {
            // Dropping what waits is what tells the server.
            return Err(endless(rounds_max));
        }
        let seat = seat
            .or_else(|| Seat::take(&self.shared.parked))
            .ok_or_else(|| {
                let text = "too many calls of this Mainstay wait for input; try again later";
                Fault::new(LIMIT_REACHED, text)
            })?;
        let held = Held { seat, waiting };
        let parking = Parking {
            questions,
            bound: self.bound(),
            capabilities: &self.caller.face.capabilities,
        };
        let state = park::park(&self.shared, held, parking)?;
        self.caller.ends("inputRequired");
        let result = inputs::required_result(entries, &state, &self.caller.info);
        Ok(Fitted {
            parts: Parts::from(Message::result_of(&self.caller.id, &result)),
            code: None,
        })
    }

    /// The user has been where the server sent it, or has not: in the first case the call is made again.
    async fn visited(
        &self,
        routed: Routed,
        seat: Seat,
        entries: Vec<String>,
        questions: &[(String, Kind)],
        answers: &[(String, String)],
    ) -> Result<Fitted, Fault> {
        let actions: Vec<_> = questions
            .iter()
            .map(|(key, _)| {
                let answer = inputs::find(answers, key)?;
                raw::string_member(answer, &["action"])
            })
            .collect();
        if actions.iter().any(Option::is_none) {
            let asked = entries.clone();
            return self.park(
                Some(seat),
                Waiting::Visits(entries),
                questions.to_vec(),
                &asked,
            );
        }
        if actions.iter().flatten().any(|action| action != "accept") {
            let text = "the server wants its user to visit an address first, which was declined; the call was not made";
            return Err(Fault::new(INPUT_MISSING, text).with(json!({ "outcome": "answered" })));
        }
        let routed = without_input(routed, &self.request.message);
        // The place goes with the call, so that its rounds are counted on.
        self.begin(routed, Vec::new(), Some(seat)).await
    }
}

/// A request without what only modern servers understand, and without what was meant for us.
fn without_input(routed: Routed, message: &Message) -> Routed {
    let Routed {
        server,
        mut request,
    } = routed;
    for member in [STATE, RESPONSES] {
        if message.member(&member).is_some() {
            request = request.remove(&member);
        }
    }
    Routed { server, request }
}

/// The addresses that a legacy server wants its user to visit before the call (-32042), as parameters of a modern request.
fn visits(message: &Message) -> Option<Vec<String>> {
    let code = message.member(&["error", "code"])?.parse::<i64>().ok()?;
    if code != codes::URL_ELICITATION_REQUIRED {
        return None;
    }
    let named = message.member(&["error", "data", "elicitations"])?;
    let visits: Vec<String> = raw::elements(named)?
        .into_iter()
        .filter(|visit| raw::string_member(visit, &["url"]).is_some())
        .map(|visit| {
            let members = raw::members(visit);
            let kept = members
                .iter()
                .filter(|(name, _)| !matches!(&**name, "elicitationId" | "mode"));
            let mut params = String::from("{\"mode\":\"url\"");
            for (name, value) in kept {
                params.push_str(&format!(",{}:{value}", json_string(name)));
            }
            params.push('}');
            params
        })
        .collect();
    (!visits.is_empty()).then_some(visits)
}

fn lacks(capabilities: &str) -> Fault {
    let needed: Value = serde_json::from_str(capabilities).unwrap_or_default();
    Fault::new(
        codes::MISSING_CLIENT_CAPABILITY,
        "the server needs something of the client that this request did not declare; the call was cancelled",
    )
    .with(json!({ "requiredCapabilities": needed }))
}

fn ill_typed(key: &str, wrong: &str) -> Fault {
    Fault::params(format!(
        "`params.inputResponses[\"{}\"]` is no answer to what was asked: {wrong}",
        crate::serve::fault::shown(key)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_wire::Id;

    #[test]
    fn addresses_to_visit_are_read_from_the_error() {
        let error = |code: i64, data: &str| {
            visits(&Message::error_of(
                Some(&Id::number(1)),
                code,
                "m",
                Some(data),
            ))
        };
        let data = r#"{"elicitations":[{"mode":"url","elicitationId":"e","url":"https://x","message":"m","n":1.10}]}"#;
        assert_eq!(
            error(-32_042, data).unwrap(),
            [r#"{"mode":"url","url":"https://x","message":"m","n":1.10}"#]
        );
        assert_eq!(error(-32_041, data), None);
        for wrong in [
            "{}",
            r#"{"elicitations":[]}"#,
            r#"{"elicitations":[{"mode":"url"}]}"#,
            "[]",
        ] {
            assert_eq!(error(-32_042, wrong), None, "{wrong}");
        }
    }
}
