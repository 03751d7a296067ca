// The process of one run: counts the words of a text, saying each of them as it goes.

import { digest } from "./blake3.mjs";
import { canonical } from "./json.mjs";
import { Failure, put, receipt } from "./upload.mjs";

const MAX_WORDS = 1_000_000;
const JSON_TYPE = "application/json";

process.on("disconnect", () => process.exit(1));
process.once("message", (job) => {
  run(job).then((envelope) => process.send({ envelope }, () => process.exit(0)));
});

const say = (kind, content) =>
  new Promise((resolve) => process.send({ frame: { kind, content } }, resolve));

async function run({ id, order }) {
  const began = performance.now();
  const meta = { env_fingerprint: order.env_fingerprint };
  try {
    const outputs = await count(read(order.inputs.params));
    const entries = await deliver(order, outputs);
    const index = Buffer.from(canonical({ outputs: entries }));
    await put(order.upload, "outputs.json", index, JSON_TYPE);
    const evidence = receipt(id, order, { began, writtenBy: "processor", index });
    await put(order.upload, "receipt.json", evidence, JSON_TYPE);
    const index_path = `${order.write_prefix}outputs.json`;
    return { status: "success", execution_id: id, outputs: entries, index_path, meta };
  } catch (error) {
    const code = error instanceof Failure ? error.code : "ERR_INTERNAL";
    const evidence = receipt(id, order, { began, writtenBy: "processor" });
    await put(order.upload, "receipt.json", evidence, JSON_TYPE, []).catch(() => {});
    return { code };
  }
}

function read(params) {
  const { text, repeat = 1, ...more } = params;
  const good = typeof text === "string" && text.trim() && Object.keys(more).length === 0;
  if (!good || !Number.isInteger(repeat) || repeat < 1) throw new Failure("ERR_INPUTS");
  const words = text.trim().split(/\s+/u);
  if (words.length * repeat > MAX_WORDS) throw new Failure("ERR_INPUTS");
  return { words, repeat };
}

async function count({ words, repeat }) {
  const counts = new Map();
  await say("Event", { phase: "count", progress: 0 });
  for (let round = 0; round < repeat; round++) {
    for (const word of words) {
      await say("Token", { text: `${word} ` });
      const plain = word.toLowerCase();
      counts.set(plain, (counts.get(plain) ?? 0) + 1);
    }
  }
  await say("Event", { phase: "count", progress: 1 });
  const sorted = [...counts].sort(([one, a], [other, b]) => b - a || (one < other ? -1 : 1));
  const table = sorted.map(([word, times]) => `${times}\t${word}\n`).join("");
  const document = { schema: "theory.words.v1", counts: Object.fromEntries(counts) };
  return [
    ["outputs/table.txt", Buffer.from(table), "text/plain; charset=utf-8"],
    ["outputs/words.json", Buffer.from(canonical(document)), JSON_TYPE],
  ];
}

async function deliver(order, outputs) {
  const entries = [];
  let room = order.upload.max_bytes;
  for (const [relpath, body, mime] of outputs) {
    room -= body.length;
    if (room < 0) throw new Failure("ERR_TOO_LARGE");
    await put(order.upload, relpath, body, mime);
    const path = order.write_prefix + relpath;
    entries.push({ path, cid: digest(body), size_bytes: body.length, mime });
  }
  return entries;
}
