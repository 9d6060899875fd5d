// One session of the official TypeScript client, 1.x line: typescript_1x.mjs URL|stdio:[COMMAND, ...]
// Steered by lines of JSON on stdin; see session_lines.py for the commands.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

import { CALL_MS, commandOf, serve } from "./session_lines.mjs";

const command = commandOf(process.argv[2]);
const transport = command
  ? new StdioClientTransport({ command: command[0], args: command.slice(1) })
  : new StreamableHTTPClientTransport(new URL(process.argv[2]));
// On stdio nothing but the client itself is told the revision.
if (command) transport.setProtocolVersion = (version) => (transport.protocolVersion = version);
const client = new Client({ name: "mainstay-interop-typescript-1x", version: "1.0.0" });
await client.connect(transport);
await serve(client, transport.protocolVersion, (name, args) =>
  client.callTool({ name, arguments: args }, undefined, { timeout: CALL_MS }),
);
process.exit(0);
