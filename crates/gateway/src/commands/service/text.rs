//! The files that make a service of `mainstay serve`: text only.

use std::path::Path;

/// What such a file says.
#[derive(Debug)]
pub(super) struct Service<'s> {
    /// This program.
    pub(super) program: &'s str,
    /// The configuration.
    pub(super) config: &'s str,
    /// The PATH of the one who installs it: a service has a shorter one, where `npx` and `uvx` usually are not.
    pub(super) path: &'s str,
    /// A file with more variables, one `NAME=value` per line.
    pub(super) variables: &'s str,
    /// Where the log goes, on macOS.
    pub(super) log: &'s Path,
}

/// Seconds between the end and the next start.
const PAUSE_S: u32 = 2;
/// Seconds for ending all servers; `serve` takes 15 by itself.
const STOP_S: u32 = 30;

impl Service<'_> {
    /// A unit of the user's systemd.
    pub(super) fn systemd(&self) -> String {
        format!(
            "\
# Written by `mainstay service install`, which writes it anew; changes belong into
# `systemctl --user edit mainstay`.

[Unit]
Description=Mainstay: one endpoint for MCP servers
Documentation=man:mainstay(1)

[Service]
Type=exec
ExecStart={program} serve --config {config}
ExecReload=/bin/kill -HUP $MAINPID
Environment={path}
# Secrets that the configuration refers to, as NAME=value lines; keep it for yourself (chmod 600).
EnvironmentFile=-{variables}

Restart=on-failure
RestartSec={PAUSE_S}
# Wrong arguments, no or no valid configuration, another one runs: starting again does not help.
RestartPreventExitStatus=2 3 4 8
TimeoutStopSec={STOP_S}
# Mainstay ends its servers one by one; what is left then is killed.
KillMode=mixed
# A server that eats all memory must not take the others with it.
OOMPolicy=continue
LimitNOFILE=65536
# No secret in a core file. Restrictions that servers would inherit are left out on purpose: a browser's sandbox, `sudo`
# and containers do not work under NoNewPrivileges and what implies it.
LimitCORE=0

[Install]
WantedBy=default.target
",
            program = unit_word(self.program, true),
            config = unit_word(self.config, true),
            path = unit_word(&format!("PATH={}", self.path), false),
            variables = self.variables.replace('%', "%%"),
        )
    }

    /// An agent of launchd.
    pub(super) fn launchd(&self) -> String {
        format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- Written by `mainstay service install`, which writes it anew. -->
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>{LABEL}</string>
	<key>ProgramArguments</key>
	<array>
		<string>{program}</string>
		<string>serve</string>
		<string>--config</string>
		<string>{config}</string>
	</array>
	<key>EnvironmentVariables</key>
	<dict>
		<key>PATH</key>
		<string>{path}</string>
	</dict>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
	</dict>
	<key>ThrottleInterval</key>
	<integer>10</integer>
	<key>ExitTimeOut</key>
	<integer>{STOP_S}</integer>
	<key>ProcessType</key>
	<string>Interactive</string>
	<key>StandardErrorPath</key>
	<string>{log}</string>
</dict>
</plist>
"#,
            program = xml(self.program),
            config = xml(self.config),
            path = xml(self.path),
            log = xml(&self.log.display().to_string()),
        )
    }
}

/// What launchd calls it.
pub(super) const LABEL: &str = "mainstay.serve";

/// One word of a unit: quoted, with what systemd would fill in taken literally.
fn unit_word(text: &str, is_command: bool) -> String {
    let mut word = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => word.extend(['\\', c]),
            '%' => word.push_str("%%"),
            '$' if is_command => word.push_str("$$"),
            c => word.push(c),
        }
    }
    word.push('"');
    word
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service<'static> {
        Service {
            program: "/opt/my \"tools\"/main$tay",
            config: "/home/ada/100%/mcp.json",
            path: "/usr/bin:/home/ada/$x & <y>/bin",
            variables: "/home/ada/.config/mainstay/env",
            log: Path::new("/Users/ada/Library/Logs/mainstay.log"),
        }
    }

    #[test]
    fn a_unit_takes_every_path_literally() {
        let unit = service().systemd();
        let start = "ExecStart=\"/opt/my \\\"tools\\\"/main$$tay\" serve --config \"/home/ada/100%%/mcp.json\"\n";
        assert!(unit.contains(start), "{unit}");
        assert!(
            unit.contains("Environment=\"PATH=/usr/bin:/home/ada/$x & <y>/bin\"\n"),
            "{unit}"
        );
    }

    #[test]
    fn an_agent_is_well_formed() {
        let plist = service().launchd();
        assert!(
            plist.contains("<string>/usr/bin:/home/ada/$x &amp; &lt;y&gt;/bin</string>"),
            "{plist}"
        );
        let opened = plist.matches("<dict>").count();
        assert_eq!(opened, plist.matches("</dict>").count());
        assert!(plist.contains("<string>/home/ada/100%/mcp.json</string>"));
    }
}
