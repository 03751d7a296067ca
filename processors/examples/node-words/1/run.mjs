// One run: its worker, the frames that are kept of it, and its one result.

import { fork } from "node:child_process";
import { EventEmitter } from "node:events";
import { arch } from "node:process";

import { canonical } from "./json.mjs";
import { put, receipt } from "./upload.mjs";

const KEPT = 4096;
const GRACE_MS = 5_000;
const CONFIRM_MS = 30_000;
const WORKER = new URL("./worker.mjs", import.meta.url);
const PLATFORM = { x64: "amd64", arm64: "arm64" }[arch] ?? arch;
const RUNTIME = `node${process.versions.node.split(".")[0]}`;
export const REF = "examples/node-words@1";
const SENTENCES = {
  ERR_CANCELLED: "cancelled",
  ERR_INPUTS: "invalid inputs payload",
  ERR_INTERNAL: "internal error",
  ERR_ORPHANED: "execution lost its owner",
  ERR_REGISTRY_MISMATCH: "registry and runtime disagree",
  ERR_TIMEOUT: "timed out",
  ERR_TOO_LARGE: "too large",
  ERR_UPLOAD: "upload failed",
};

/** Law: exactly one result, whatever becomes of the worker. Emits `news` with every frame. */
export class Run extends EventEmitter {
  constructor(id, order) {
    super();
    this.setMaxListeners(0);
    Object.assign(this, { id, order, last: 0, done: false, state: "running", asked: null });
    this.began = performance.now();
    this.kept = [];
    this.endedAt = null;
    const mismatch = this.#mismatch();
    if (mismatch) setImmediate(() => this.#fail("ERR_REGISTRY_MISMATCH"));
    else this.#start();
  }

  /** The first kept frame after a number; undefined if there is none yet. */
  after(seen) {
    if (this.last <= seen) return undefined;
    return this.kept[Math.max(0, seen + 1 - this.kept[0].seq)];
  }

  control(op) {
    if (op === "cancel") this.#stop("ERR_CANCELLED");
    else if (op !== "set_budget" && !this.done) {
      this.state = op === "pause" ? "paused" : "running";
      this.#signal(op === "pause" ? "SIGSTOP" : "SIGCONT");
    }
  }

  #mismatch() {
    const facts = Object.fromEntries(
      this.order.env_fingerprint.split(";").map((fact) => fact.split(/:(.*)/s).slice(0, 2)),
    );
    // This program knows of no image that it is in, so no digest is the one that is expected.
    const known = this.order.ref === REF && !this.order.expected_oci;
    return !known || facts.platform !== PLATFORM || facts.runtime !== RUNTIME;
  }

  #start() {
    this.worker = fork(WORKER, { detached: true, execArgv: [] });
    this.worker.on("message", (message) => {
      if (message.frame) this.#keep(message.frame.kind, message.frame.content);
      else this.told = message.envelope;
    });
    this.worker.on("error", () => {});
    this.worker.on("exit", () => this.#ended());
    this.worker.send({ id: this.id, order: this.order }, () => {});
    const limit = this.order.timeout_s * 1000;
    this.limit = setTimeout(() => this.#stop("ERR_TIMEOUT"), Math.min(limit, 2 ** 31 - 1));
  }

  /** Signals the worker and all that it may have started. */
  #signal(name) {
    try {
      process.kill(-this.worker.pid, name);
    } catch {
      // It is gone already; `exit` says so.
    }
  }

  #stop(code) {
    if (this.asked || this.done || !this.worker) return;
    this.asked = code;
    this.#signal("SIGTERM");
    this.#signal("SIGCONT");
    const kill = setTimeout(() => this.#signal("SIGKILL"), GRACE_MS);
    const lost = setTimeout(() => this.#fail("ERR_ORPHANED"), GRACE_MS + CONFIRM_MS);
    this.worker.once("exit", () => [kill, lost].forEach(clearTimeout));
  }

  #ended() {
    clearTimeout(this.limit);
    this.#signal("SIGKILL");
    if (this.told?.status === "success" && !this.asked) this.#finish(this.told, "succeeded");
    else if (this.told?.code && !this.asked) this.#tell(this.told.code);
    else this.#fail(this.asked ?? "ERR_INTERNAL");
  }

  /** Ends a run whose worker left no receipt: one is written here. */
  async #fail(code) {
    const evidence = receipt(this.id, this.order, { began: this.began, writtenBy: "supervisor" });
    await put(this.order.upload, "receipt.json", evidence, "application/json", []).catch(() => {});
    this.#tell(code);
  }

  #tell(code) {
    const error = { code, message: SENTENCES[code] ?? SENTENCES.ERR_INTERNAL };
    const meta = { env_fingerprint: this.order.env_fingerprint };
    const envelope = { status: "error", execution_id: this.id, error, meta };
    this.#finish(envelope, code === "ERR_CANCELLED" ? "cancelled" : "failed");
  }

  #finish(envelope, state) {
    if (this.done) return;
    this.state = state;
    this.#keep("RunResult", envelope);
    this.done = true;
    this.endedAt = performance.now();
    this.emit("news");
  }

  #keep(kind, content) {
    if (this.done) return;
    this.last += 1;
    const final = kind === "RunResult";
    this.kept.push({ seq: this.last, final, text: canonical({ kind, seq: this.last, content }) });
    if (this.kept.length > KEPT) this.kept.shift();
    this.emit("news");
  }
}
