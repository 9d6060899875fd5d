// One session of the official TypeScript client, 1.x line: typescript_1x.mjs URL
// Steered by lines of JSON on stdin; see session_lines.py for the commands.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

import { CALL_MS, serve } from "./session_lines.mjs";

const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]));
const client = new Client({ name: "mainstay-interop-typescript-1x", version: "1.0.0" });
await client.connect(transport);
await serve(client, transport.protocolVersion, (name, args) =>
  client.callTool({ name, arguments: args }, undefined, { timeout: CALL_MS }),
);
process.exit(0);
