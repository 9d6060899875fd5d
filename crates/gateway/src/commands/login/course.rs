//! One sign-in from the command line's side: what people are told, the browser, the pasted address, and waiting.

use std::time::Duration;

use mainstay_gateway::signin::How;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::time::Instant;
use url::Url;

use super::super::signals::Signals;
use super::place::Place;
use crate::cli::login::LoginArgs;
use crate::cli::output::Output;
use crate::exit::{Exit, Stop};

/// How often it is asked how the sign-in is doing.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// A pasted address is at most this long.
const PASTED_BYTES_MAX: usize = 16 * 1024;

/// A sign-in on its way.
pub(super) struct Course<'a> {
    place: &'a Place,
    args: &'a LoginArgs,
    output: Output,
    id: String,
    /// Lines of stdin, while somebody may paste an address there.
    pasting: Option<Lines<BufReader<Stdin>>>,
}

impl<'a> Course<'a> {
    /// Begins it, and tells the person where to go.
    ///
    /// # Errors
    /// Exit 80 when it cannot begin, with the step that failed.
    pub(super) async fn begin(
        place: &'a Place,
        args: &'a LoginArgs,
        output: Output,
    ) -> Result<Course<'a>, Stop> {
        let how = if args.device {
            Some(How::Device)
        } else {
            args.no_browser.then_some(How::Browser)
        };
        let begun = place.begin(&args.name, how).await?;
        let id = begun["id"].as_str().unwrap_or_default().to_owned();
        let mut course = Self {
            place,
            args,
            output,
            id,
            pasting: None,
        };
        course.tell(&begun)?;
        Ok(course)
    }

    fn tell(&mut self, begun: &Value) -> Result<(), Stop> {
        let (args, output) = (self.args, self.output);
        let address = begun["url"]
            .as_str()
            .or_else(|| begun["verificationUrl"].as_str());
        let code = begun["userCode"].as_str();
        let link = web(address.unwrap_or_default())?;
        if args.json {
            let mut line = begun.clone();
            line["server"] = json!(args.name);
            line["state"] = json!("waiting");
            line_of(output, &line)?;
        }
        if let Some(code) = code {
            output.note(&format!(
                "open {link} on any device and enter the code {code}"
            ));
            output.note("waiting until that is done; Ctrl-C gives up");
            return Ok(());
        }
        let opened = !args.no_browser && open_browser(&link);
        if opened {
            output.note(&format!("your browser opens {link}"));
        } else {
            output.note(&format!("open this address in a browser:\n\n  {link}\n"));
        }
        let can_paste = args.no_browser || std::io::IsTerminal::is_terminal(&std::io::stdin());
        if can_paste {
            output.note(
                "if the browser ends at a page that does not load, paste its address here; Ctrl-C gives up",
            );
            self.pasting = Some(BufReader::new(tokio::io::stdin()).lines());
        }
        Ok(())
    }

    /// Waits until it has come about or failed.
    ///
    /// # Errors
    /// Exit 80 when it failed or took too long, 130 on Ctrl-C.
    pub(super) async fn end(mut self, signals: &mut Signals) -> Result<Value, Stop> {
        let deadline = Instant::now() + Duration::from_secs(self.args.timeout);
        loop {
            tokio::select! {
                // Cancel-safe: a line that was not whole stays in the reader.
                line = next_line(&mut self.pasting) => self.pasted(line).await?,
                // Cancel-safe: an undelivered signal stays pending.
                () = signals.next() => {
                    self.place.cancel(&self.id).await;
                    return Err(Stop::new(Exit::Interrupted, "interrupted; nobody was signed in"));
                }
                // Cancel-safe: sleeps hold nothing.
                () = tokio::time::sleep_until(deadline) => {
                    self.place.cancel(&self.id).await;
                    return Err(Stop::new(
                        Exit::LoginFailed,
                        format!("nobody signed in to `{}` within {} s", self.args.name, self.args.timeout),
                    )
                    .hint("begin again; --timeout gives it more time"));
                }
                () = tokio::time::sleep(LOOK_EVERY) => {
                    if let Some(done) = self.look().await? {
                        return Ok(done);
                    }
                }
            }
        }
    }

    /// How it ended, if it has.
    async fn look(&self) -> Result<Option<Value>, Stop> {
        let now = self.place.look(&self.id).await?;
        match now["state"].as_str() {
            Some("done") => Ok(Some(now)),
            Some("failed") => Err(failed(&now)),
            Some(_) | None => Ok(None),
        }
    }

    /// Somebody pasted something. A wrong address ends nothing: the right one may follow.
    async fn pasted(&mut self, line: Option<String>) -> Result<(), Stop> {
        let Some(line) = line else {
            // Nobody is there to paste: the browser may still come back by itself.
            self.pasting = None;
            return Ok(());
        };
        let line = line.trim();
        if line.is_empty() {
            return Ok(());
        }
        if line.len() > PASTED_BYTES_MAX || Url::parse(line).is_err() {
            self.output.warn(
                "this is no address; paste all of what the address bar shows",
                None,
            );
            return Ok(());
        }
        if let Err(stop) = self.place.finish(&self.id, line).await {
            self.output.warn(&stop.to_string(), stop.hint.as_deref());
        }
        Ok(())
    }
}

/// One JSON object on a line of its own, written at once.
fn line_of(output: Output, value: &Value) -> Result<(), Stop> {
    output.line(&value.to_string())
}

/// How a sign-in failed.
fn failed(now: &Value) -> Stop {
    let problem = now["problem"]
        .as_str()
        .unwrap_or("the sign-in did not come about");
    let stop = Stop::new(Exit::LoginFailed, problem);
    match now["hint"].as_str() {
        Some(hint) => stop.hint(hint),
        None => stop,
    }
}

/// The next line of whoever may paste one; never resolves without.
async fn next_line(pasting: &mut Option<Lines<BufReader<Stdin>>>) -> Option<String> {
    match pasting {
        // What cannot be read is as good as the end of it.
        Some(lines) => lines.next_line().await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

/// The address to visit, if it is one of a web page (F241): it comes from the metadata of others.
fn web(address: &str) -> Result<Url, Stop> {
    Url::parse(address)
        .ok()
        .filter(mainstay_gateway::signin::is_web)
        .ok_or_else(|| {
            Stop::new(
                Exit::LoginFailed,
                "the authorization server gave an address that is no web page; nothing was opened",
            )
            .hint("look at `authorization_endpoint` in its metadata")
        })
}

/// Lets the system open a browser, without a shell. `false`: it has none, or could not.
fn open_browser(link: &Url) -> bool {
    open::that_detached(link.as_str()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f241_only_addresses_of_web_pages_are_opened() {
        for good in ["https://auth.example/a?b=c", "http://127.0.0.1:8808/x"] {
            assert_eq!(web(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "auth.example",
            "file:///bin/sh",
            "javascript:alert(1)",
            "--help",
            "calc.exe",
            "https://",
            "ms-settings:x",
        ] {
            let stop = web(bad).unwrap_err();
            assert_eq!(stop.exit, Exit::LoginFailed, "{bad}");
        }
        let odd = web("https://auth.example/$(touch x)`id`;'\"|&<>").unwrap();
        assert!(!odd.as_str().contains(['"', '<', '>', ' ']), "{odd}");
    }
}
