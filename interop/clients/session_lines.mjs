// The line protocol that the two TypeScript client sessions share: see session_lines.py.

import readline from "node:readline";

// How long one call may take before the client itself gives up, in milliseconds.
export const CALL_MS = 60_000;

// The command in a target that is no URL but `stdio:` and a JSON array; otherwise undefined.
export function commandOf(target) {
  return target.startsWith("stdio:") ? JSON.parse(target.slice("stdio:".length)) : undefined;
}

function answer(members) {
  process.stdout.write(JSON.stringify(members) + "\n");
}

// All pages of the tools' names.
async function list(client) {
  const names = [];
  let cursor;
  do {
    const page = await client.listTools(cursor === undefined ? {} : { cursor });
    names.push(...page.tools.map((tool) => tool.name));
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return names;
}

async function obey(client, call, command) {
  switch (command.op) {
    case "list":
      return { ok: true, tools: await list(client) };
    case "call": {
      const result = await call(command.name, command.arguments);
      const text = (result.content ?? []).map((block) => block.text ?? "").join("");
      return { ok: true, isError: result.isError === true, text };
    }
    default:
      return { ok: false, error: `unknown op ${command.op}` };
  }
}

// Answers commands on one connected client until `close` or the end of stdin.
// `call(name, arguments)` is given apart because the two lines take its options differently.
export async function serve(client, protocol, call) {
  answer({ ok: true, protocol });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    if (command.op === "close") break;
    try {
      answer(await obey(client, call, command));
    } catch (error) {
      answer({ ok: false, error: `${error.name}: ${error.message}` });
    }
  }
  await client.close();
}
