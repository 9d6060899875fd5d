//! The table itself: facts about other programs, taken from their documentation and nothing else.

use super::Base::{Config, Desktop, Home, Nowhere, Project};
use super::{App, Base, Format, Place, Scope, Shape};

const MCP_SERVERS: &[&str] = &["mcpServers"];

const fn user(
    base: Base,
    path: &'static str,
    format: Format,
    keys: &'static [&'static str],
) -> Place {
    Place {
        scope: Scope::User,
        base,
        path,
        moved: None,
        format,
        keys,
    }
}

const fn json(base: Base, path: &'static str) -> Place {
    user(base, path, Format::Jsonc, MCP_SERVERS)
}

const fn project(path: &'static str, format: Format, keys: &'static [&'static str]) -> Place {
    Place {
        scope: Scope::Project,
        base: Project,
        path,
        moved: None,
        format,
        keys,
    }
}

const fn moved(place: Place, variable: &'static str, path: &'static str) -> Place {
    Place {
        moved: Some((variable, path)),
        ..place
    }
}

/// Every app and framework that is known, in the order in which they are listed.
pub(crate) static APPS: &[App] = &[
    App {
        id: "claude-desktop",
        name: "Claude Desktop",
        shape: Shape::Common,
        installable: true,
        files: &[json(Desktop, "Claude/claude_desktop_config.json")],
    },
    App {
        id: "claude-code",
        name: "Claude Code",
        shape: Shape::ClaudeCode,
        installable: true,
        files: &[
            moved(
                json(Home, ".claude.json"),
                "CLAUDE_CONFIG_DIR",
                ".claude.json",
            ),
            project(".mcp.json", Format::Jsonc, MCP_SERVERS),
        ],
    },
    App {
        id: "cursor",
        name: "Cursor",
        shape: Shape::Common,
        installable: true,
        files: &[
            json(Home, ".cursor/mcp.json"),
            project(".cursor/mcp.json", Format::Jsonc, MCP_SERVERS),
        ],
    },
    App {
        id: "vscode",
        name: "VS Code",
        shape: Shape::VsCode,
        installable: true,
        files: &[
            user(Desktop, "Code/User/mcp.json", Format::Jsonc, &["servers"]),
            user(
                Desktop,
                "Code/User/profiles/*/mcp.json",
                Format::Jsonc,
                &["servers"],
            ),
            user(
                Desktop,
                "Code - Insiders/User/mcp.json",
                Format::Jsonc,
                &["servers"],
            ),
            user(
                Desktop,
                "VSCodium/User/mcp.json",
                Format::Jsonc,
                &["servers"],
            ),
            // Where the list was before it had a file of its own.
            user(
                Desktop,
                "Code/User/settings.json",
                Format::Jsonc,
                &["mcp", "servers"],
            ),
            project(".vscode/mcp.json", Format::Jsonc, &["servers"]),
        ],
    },
    App {
        id: "windsurf",
        name: "Windsurf",
        shape: Shape::Windsurf,
        installable: true,
        files: &[json(Home, ".codeium/windsurf/mcp_config.json")],
    },
    App {
        id: "zed",
        name: "Zed",
        shape: Shape::Zed,
        installable: true,
        files: &[
            user(
                Config,
                "zed/settings.json",
                Format::Jsonc,
                &["context_servers"],
            ),
            project(".zed/settings.json", Format::Jsonc, &["context_servers"]),
        ],
    },
    App {
        id: "codex",
        name: "Codex",
        shape: Shape::Codex,
        installable: true,
        files: &[
            moved(
                user(Home, ".codex/config.toml", Format::Toml, &["mcp_servers"]),
                "CODEX_HOME",
                "config.toml",
            ),
            project(".codex/config.toml", Format::Toml, &["mcp_servers"]),
        ],
    },
    App {
        id: "gemini-cli",
        name: "Gemini CLI",
        shape: Shape::Gemini,
        installable: true,
        files: &[
            moved(
                json(Home, ".gemini/settings.json"),
                "GEMINI_CLI_HOME",
                ".gemini/settings.json",
            ),
            project(".gemini/settings.json", Format::Jsonc, MCP_SERVERS),
        ],
    },
    App {
        id: "qwen-code",
        name: "Qwen Code",
        shape: Shape::Gemini,
        installable: true,
        files: &[
            moved(
                json(Home, ".qwen/settings.json"),
                "QWEN_HOME",
                "settings.json",
            ),
            project(".qwen/settings.json", Format::Jsonc, MCP_SERVERS),
        ],
    },
    App {
        id: "goose",
        name: "goose",
        shape: Shape::Goose,
        installable: true,
        files: &[moved(
            user(Config, "goose/config.yaml", Format::Yaml, &["extensions"]),
            "GOOSE_PATH_ROOT",
            "config/config.yaml",
        )],
    },
    App {
        id: "cline",
        name: "Cline",
        shape: Shape::Cline,
        installable: true,
        files: &[
            json(
                Desktop,
                "Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
            ),
            moved(
                json(Home, ".cline/data/settings/cline_mcp_settings.json"),
                "CLINE_MCP_SETTINGS_PATH",
                "",
            ),
            json(
                Desktop,
                "Code - Insiders/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
            ),
            json(
                Desktop,
                "Cursor/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
            ),
            json(
                Desktop,
                "VSCodium/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
            ),
        ],
    },
    App {
        id: "roo-code",
        name: "Roo Code",
        shape: Shape::Roo,
        installable: true,
        files: &[
            json(
                Desktop,
                "Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json",
            ),
            json(
                Desktop,
                "Code - Insiders/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json",
            ),
            json(
                Desktop,
                "Cursor/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json",
            ),
            json(
                Desktop,
                "VSCodium/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json",
            ),
            project(".roo/mcp.json", Format::Jsonc, MCP_SERVERS),
        ],
    },
    App {
        id: "opencode",
        name: "opencode",
        shape: Shape::OpenCode,
        installable: true,
        files: &[
            user(Config, "opencode/opencode.json", Format::Jsonc, &["mcp"]),
            user(Config, "opencode/opencode.jsonc", Format::Jsonc, &["mcp"]),
            moved(
                user(Nowhere, "", Format::Jsonc, &["mcp"]),
                "OPENCODE_CONFIG",
                "",
            ),
            user(Home, ".agents/mcp.json", Format::Jsonc, &[]),
            project("opencode.json", Format::Jsonc, &["mcp"]),
            project("opencode.jsonc", Format::Jsonc, &["mcp"]),
            project(".opencode/opencode.json", Format::Jsonc, &["mcp"]),
            project(".agents/mcp.json", Format::Jsonc, &[]),
        ],
    },
    App {
        id: "lm-studio",
        name: "LM Studio",
        shape: Shape::Common,
        installable: true,
        files: &[
            json(Home, ".lmstudio/mcp.json"),
            json(Home, ".cache/lm-studio/mcp.json"),
        ],
    },
    App {
        id: "hermes-agent",
        name: "hermes-agent",
        shape: Shape::Hermes,
        installable: true,
        files: &[moved(
            user(Home, ".hermes/config.yaml", Format::Yaml, &["mcp_servers"]),
            "HERMES_HOME",
            "config.yaml",
        )],
    },
    App {
        id: "nemo-agent-toolkit",
        name: "NeMo Agent Toolkit",
        shape: Shape::Nemo,
        installable: false,
        // A workflow is named on its command line; these are the usual places. Others: `import --from FILE`.
        files: &[
            project("config.yml", Format::Yaml, &["function_groups"]),
            project("config.yaml", Format::Yaml, &["function_groups"]),
            project("configs/*.yml", Format::Yaml, &["function_groups"]),
            project("configs/*.yaml", Format::Yaml, &["function_groups"]),
        ],
    },
    App {
        id: "awaken",
        name: "awaken",
        shape: Shape::Awaken,
        installable: false,
        // The store of its server in files, one per record. An exported list: `import --from FILE`.
        files: &[moved(
            user(Nowhere, "", Format::Jsonc, &[]),
            "AWAKEN_STORAGE_DIR",
            "config/mcp-servers/*.json",
        )],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_plain_and_every_app_can_be_found_by_id_and_by_name() {
        for (index, app) in APPS.iter().enumerate() {
            assert!(
                app.id.chars().all(|c| c.is_ascii_lowercase() || c == '-'),
                "{} is not plain",
                app.id
            );
            for told in [
                app.id.to_owned(),
                app.name.to_owned(),
                app.name.to_uppercase(),
            ] {
                let found = App::find(&told).map(|found| found.id);
                assert_eq!(found, Some(app.id), "{told} leads elsewhere (app {index})");
            }
        }
    }

    #[test]
    fn an_app_that_can_be_installed_into_has_a_map_of_servers_in_a_file_of_the_user() {
        for app in APPS.iter().filter(|app| app.installable) {
            let first = app
                .files
                .first()
                .map(|place| (place.scope, place.keys.is_empty()));
            assert_eq!(first, Some((Scope::User, false)), "{}", app.id);
        }
    }

    #[test]
    fn no_path_leads_out_of_its_base() {
        for place in APPS.iter().flat_map(|app| app.files) {
            let paths = std::iter::once(place.path).chain(place.moved.map(|(_, path)| path));
            for path in paths {
                assert!(!path.starts_with('/') && !path.contains(".."), "{path}");
                assert!(path.matches('*').count() <= 1, "{path}");
            }
        }
    }
}
