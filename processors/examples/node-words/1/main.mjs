// Serves theory.run.v1: `node main.mjs --serve DIR` on DIR/run.sock, `--port N` on this machine.

import http from "node:http";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { canonical, parse } from "./json.mjs";
import { Run } from "./run.mjs";
import { fault } from "./shapes.mjs";
import { accept, either } from "./websocket.mjs";

const SUBPROTOCOL = "theory.run.v1";
const OPEN_MS = 10_000;
const KEPT_MS = 600_000;
const runs = new Map();

const { values } = parseArgs({ options: { serve: { type: "string" }, port: { type: "string" } } });

const server = http.createServer((request, response) => {
  const found = request.method === "GET" && request.url.split("?")[0] === "/healthz";
  const body = found ? '{"ok":true}' : '{"code":"ERR_NOT_FOUND"}';
  const headers = { "Content-Type": "application/json", "Content-Length": body.length };
  response.writeHead(found ? 200 : 404, { ...headers, Connection: "close" });
  response.end(body);
});

server.on("upgrade", (request, socket, head) => {
  if (request.url.split("?")[0] !== "/run") {
    socket.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    return;
  }
  if (head.length) socket.unshift(head);
  const connection = accept(request, socket, SUBPROTOCOL);
  if (!connection) return;
  if (connection.agreed) converse(connection);
  else connection.close(1002, "subprotocol theory.run.v1 is required");
});

/** One connection: its opening, then its controls, and meanwhile the run's frames. */
function converse(connection) {
  let opened = null;
  const silence = setTimeout(() => connection.close(1008, "no RunOpen in time"), OPEN_MS);
  connection.on("gone", () => clearTimeout(silence));
  connection.on("message", (text) => {
    if (connection.closing) return;
    let frame;
    try {
      frame = parse(text);
    } catch {
      connection.close(1008, "no JSON");
      return;
    }
    const code = fault(frame) ?? (frame.kind === (opened ? "Control" : "RunOpen") ? null : 1002);
    if (code) {
      connection.close(code, "refused");
    } else if (opened) {
      if (opened.role === "controller") opened.run.control(frame.content.op);
      else connection.close(1008, "only controllers control");
    } else {
      clearTimeout(silence);
      const run = find(frame.content);
      const seen = frame.content.resume_from ?? 0;
      if (!run || seen > run.last) {
        connection.close(1008, run ? "beyond the last frame" : "no such run");
        return;
      }
      opened = { role: frame.content.role, run };
      send(connection, run, seen);
    }
  });
}

/** The run of a `RunOpen`: one that exists, or the one that it starts. */
function find({ execution_id: id, payload }) {
  for (const [name, run] of runs) {
    if (run.done && performance.now() - run.endedAt > KEPT_MS) runs.delete(name);
  }
  if (!runs.has(id) && payload) runs.set(id, new Run(id, payload));
  return runs.get(id);
}

/** Sends what is kept after `seen`, and what comes; who reads slowly misses frames, not the end. */
async function send(connection, run, seen) {
  const ack = { execution_id: run.id, state: run.state };
  connection.send(canonical({ kind: "Ack", seq: 0, content: ack }));
  while (!connection.closing) {
    const frame = run.after(seen);
    if (!frame) {
      await either(run, "news", connection, "gone");
      continue;
    }
    if (frame.seq > seen + 1) {
      const gap = { from: seen + 1, to: frame.seq - 1 };
      connection.send(canonical({ kind: "Gap", seq: 0, content: gap }));
    }
    const flowing = connection.send(frame.text);
    seen = frame.seq;
    if (frame.final) connection.close(1000);
    else if (!flowing) await connection.drained();
  }
}

function leave() {
  for (const run of runs.values()) run.control("cancel");
  const left = () => [...runs.values()].every((run) => run.done);
  setInterval(() => left() && process.exit(0), 50);
}

process.on("SIGTERM", leave);
process.on("SIGINT", leave);
if (values.serve) server.listen(join(values.serve, "run.sock"));
else server.listen(Number(values.port ?? 0), "127.0.0.1");
