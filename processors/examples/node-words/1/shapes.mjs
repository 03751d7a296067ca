// What a client may say: `RunOpen` and `Control`, every member checked, unknown ones refused.

const NAME = /^(?!.*\.\.)[a-z0-9][a-z0-9._-]{0,62}$/;
const REF = /^[a-z][a-z0-9]{0,30}\/[a-z][a-z0-9-]{0,62}@[1-9][0-9]{0,3}$/;
const PREFIX = /^\/(artifacts|streams|senses|effectors|memories|conversations)(\/[a-z0-9._-]+)+\/$/;
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;

const text = (value) => typeof value === "string";
const like = (pattern) => (value) => text(value) && pattern.test(value);
const among = (...values) => (value) => values.includes(value);
const count = (least) => (value) => Number.isSafeInteger(value) && value >= least;
const plain = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const amounts = (value) => plain(value) && Object.values(value).every(count(0));
const texts = (value) => plain(value) && Object.values(value).every(text);
const names = (value) =>
  Array.isArray(value) && value.every(text) && new Set(value).size === value.length;

/** A shape: members that must be there, then those that may. */
const shape = (must, may = {}) => (value) =>
  plain(value) &&
  Object.keys(must).every((name) => Object.hasOwn(value, name)) &&
  Object.entries(value).every(([name, item]) => {
    const rule = Object.hasOwn(must, name) ? must[name] : Object.hasOwn(may, name) && may[name];
    return rule && rule(item);
  });

const upload = shape(
  {
    url: like(/^https?:\/\/.{1,8184}$/),
    headers: texts,
    expires_at: like(MOMENT),
    max_bytes: count(0),
  },
  { socket: text },
);
const payload = shape(
  {
    schema: among("v1"),
    ref: like(REF),
    mode: among("mock", "real"),
    inputs: shape({ schema: among("v1"), params: plain }),
    write_prefix: like(PREFIX),
    upload,
    env_fingerprint: like(/^[!-~]+$/),
    registry_snapshot: like(/^b3:[0-9a-f]{64}$/),
    timeout_s: count(1),
    secrets: names,
  },
  { expected_oci: like(/^sha256:[0-9a-f]{64}$/), traceparent: text },
);
const contents = {
  RunOpen: shape(
    { role: among("client", "controller", "observer"), execution_id: like(NAME) },
    { payload, resume_from: count(0) },
  ),
  Control: shape(
    { op: among("cancel", "pause", "resume", "set_budget") },
    { budget: amounts },
  ),
};

/** The close code that a client's frame deserves, or null if nothing is wrong with it. */
export function fault(frame) {
  if (!plain(frame) || !text(frame.kind)) return 1008;
  const rule = Object.hasOwn(contents, frame.kind) ? contents[frame.kind] : null;
  if (!rule) return 1002;
  if (Object.keys(frame).length !== 2 || !rule(frame.content)) return 1008;
  const { role, payload: brought, op, budget } = frame.content;
  if (brought && role !== "client") return 1008;
  return frame.kind === "Control" && (op === "set_budget") !== (budget !== undefined) ? 1008 : null;
}
