// One session of the official TypeScript client, 2.x line: typescript_2x.mjs URL|stdio:[COMMAND, ...] [auto|legacy]
// Steered by lines of JSON on stdin; see session_lines.py for the commands. Without `auto` this
// client opens with `initialize`, as its own default does.

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

import { CALL_MS, commandOf, serve } from "./session_lines.mjs";

const command = commandOf(process.argv[2]);
const transport = command
  ? new StdioClientTransport({ command: command[0], args: command.slice(1) })
  : new StreamableHTTPClientTransport(new URL(process.argv[2]));
const client = new Client(
  { name: "mainstay-interop-typescript-2x", version: "1.0.0" },
  { versionNegotiation: { mode: process.argv[3] ?? "auto" } },
);
await client.connect(transport);
await serve(client, client.getNegotiatedProtocolVersion(), (name, args) =>
  client.callTool({ name, arguments: args }, { timeout: CALL_MS }),
);
process.exit(0);
