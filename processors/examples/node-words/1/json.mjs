// Strict JSON in, canonical JSON (RFC 8785) out.

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gsu;
const HALF = /\p{Surrogate}/u;
const DEPTH = 64;

/** The value of a text; throws a `SyntaxError` for what is not strict: also a name given twice. */
export function parse(text) {
  const value = JSON.parse(text);
  checkNames(text);
  checkStrings(value);
  return value;
}

function checkNames(text) {
  const open = [];
  let before = null;
  for (const [token] of text.matchAll(TOKEN)) {
    const names = open.at(-1);
    if (token === "{") open.push(new Set());
    else if (token === "[") open.push(null);
    else if (token === "}" || token === "]") open.pop();
    else if (token === ":" && names) {
      const name = JSON.parse(before);
      if (names.has(name)) throw new SyntaxError("a name twice");
      names.add(name);
    }
    if (open.length > DEPTH) throw new SyntaxError("too deep");
    before = token;
  }
}

function checkStrings(value) {
  if (typeof value === "string" && HALF.test(value)) throw new SyntaxError("half a character");
  if (typeof value === "number" && !Number.isFinite(value)) throw new SyntaxError("no number");
  if (value === null || typeof value !== "object") return;
  for (const [name, item] of Object.entries(value)) {
    checkStrings(name);
    checkStrings(item);
  }
}

/** Canonical text. ECMAScript writes numbers and strings as RFC 8785 asks; names are sorted here. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.keys(value).filter((name) => value[name] !== undefined).sort();
  return `{${members.map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join(",")}}`;
}
