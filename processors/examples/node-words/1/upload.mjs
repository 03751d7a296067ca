// Puts objects where a run was told to, over its socket or to its URL, and what a run leaves.

import http from "node:http";
import https from "node:https";

import { digest } from "./blake3.mjs";
import { canonical } from "./json.mjs";

const RETRIES_MS = [100, 400, 1600];
const TIMEOUT_MS = 60_000;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A failure with one of the contract's codes. */
export class Failure extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

/** Puts one object; repeats what may not have arrived, for putting twice is putting once. */
export async function put(upload, relpath, body, mime, retries = RETRIES_MS) {
  for (const wait of [...retries, null]) {
    const status = await once(upload, relpath, body, mime).catch(() => 503);
    if (status === 200 || status === 201) return;
    if (status !== 503 || wait === null) throw new Failure("ERR_UPLOAD");
    await pause(wait);
  }
}

function once(upload, relpath, body, mime) {
  const target = new URL(upload.url + relpath);
  const headers = { ...upload.headers, "Content-Type": mime, "Content-Length": body.length };
  const options = { method: "PUT", headers, timeout: TIMEOUT_MS, agent: false };
  if (upload.socket) {
    Object.assign(options, { socketPath: upload.socket, path: target.pathname + target.search });
  }
  const ask = target.protocol === "https:" && !upload.socket ? https.request : http.request;
  return new Promise((resolve, reject) => {
    const request = upload.socket ? ask(options) : ask(target, options);
    request.on("timeout", () => request.destroy(new Error("timeout")));
    request.on("error", reject);
    request.on("response", (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode));
      response.on("error", reject);
    });
    request.end(body);
  });
}

/** The receipt of a run; `index` is there for a success alone. */
export function receipt(id, order, { began, writtenBy, usage = {}, index }) {
  return Buffer.from(
    canonical({
      execution_id: id,
      processor_ref: order.ref,
      image_digest: order.expected_oci,
      env_fingerprint: order.env_fingerprint,
      inputs_hash: digest(Buffer.from(canonical(withoutPlaces(order.inputs)))),
      hash_schema: "rfc8785-blake3-v1",
      outputs_index: index && digest(index),
      processor_info: `node-words 1.0.0 (node ${process.versions.node})`,
      mode: order.mode,
      status: index ? "success" : "error",
      registry_snapshot: order.registry_snapshot,
      written_by: writtenBy,
      usage,
      timestamp_utc: new Date().toISOString().replace("Z", "000Z"),
      duration_ms: Math.round(performance.now() - began),
    }),
  );
}

/** Inputs as they are hashed: an artifact counts as its cid alone. */
function withoutPlaces(value) {
  if (Array.isArray(value)) return value.map(withoutPlaces);
  if (value === null || typeof value !== "object") return value;
  const names = Object.keys(value).sort().join();
  if (names === "cid,mime,path,size_bytes,url") return { cid: value.cid };
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, withoutPlaces(item)]));
}
