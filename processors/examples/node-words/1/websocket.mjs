// The server's side of RFC 6455: text messages in, text messages out, a close with a code.

import { createHash } from "node:crypto";
import { EventEmitter } from "node:events";

const KEY = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const MAX = 8 * 1024 * 1024;
const [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] = [0, 1, 2, 8, 9, 10];
const PING_MS = 20_000;
const LINGER_MS = 1_000;
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Answers an upgrade; the subprotocol is agreed only if it was offered. Null for no WebSocket. */
export function accept(request, socket, subprotocol) {
  const key = request.headers["sec-websocket-key"];
  if (!key || request.headers["sec-websocket-version"] !== "13") {
    socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    return null;
  }
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",");
  const agreed = offered.some((name) => name.trim() === subprotocol);
  const lines = [
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    `Sec-WebSocket-Accept: ${createHash("sha1").update(key + KEY).digest("base64")}`,
    ...(agreed ? [`Sec-WebSocket-Protocol: ${subprotocol}`] : []),
  ];
  socket.write(`${lines.join("\r\n")}\r\n\r\n`);
  return new WebSocket(socket, agreed);
}

/** Waits for whichever event comes first, and listens to neither any more. */
export function either(one, event, other, another) {
  return new Promise((resolve) => {
    const done = () => {
      one.off(event, done);
      other.off(another, done);
      resolve();
    };
    one.on(event, done);
    other.on(another, done);
  });
}

/** One connection. Emits `message` (text) and `gone`; what breaks the rules it closes itself. */
class WebSocket extends EventEmitter {
  constructor(socket, agreed) {
    super();
    this.agreed = agreed;
    this.closing = false;
    this.silent = false;
    this.socket = socket;
    this.bytes = Buffer.alloc(0);
    this.parts = [];
    this.size = 0;
    socket.setNoDelay?.(true);
    socket.on("data", (data) => this.#take(data));
    socket.on("error", () => {});
    socket.on("end", () => socket.end());
    socket.on("close", () => {
      clearInterval(this.pinging);
      this.closing = true;
      this.emit("gone");
    });
    this.pinging = setInterval(() => this.#ping(), PING_MS);
  }

  /** Sends a text; false if the other side does not read fast enough, until `drained`. */
  send(text) {
    return this.closing || this.#write(TEXT, Buffer.from(text));
  }

  async drained() {
    await either(this.socket, "drain", this, "gone");
  }

  close(code, reason = "") {
    if (this.closing) return;
    this.closing = true;
    const body = Buffer.alloc(2 + Buffer.byteLength(reason));
    body.writeUInt16BE(code);
    body.write(reason, 2);
    this.#write(CLOSE, body);
    // What still comes is thrown away, so that the other side gets to read the code.
    setTimeout(() => this.socket.destroy(), LINGER_MS).unref();
  }

  #ping() {
    if (this.silent) this.socket.destroy();
    this.silent = true;
    if (!this.closing) this.#write(PING, Buffer.alloc(0));
  }

  #write(opcode, body) {
    const head = [0x80 | opcode];
    if (body.length < 126) head.push(body.length);
    else if (body.length < 65536) head.push(126, body.length >> 8, body.length & 255);
    else {
      const length = Buffer.alloc(8);
      length.writeBigUInt64BE(BigInt(body.length));
      head.push(127, ...length);
    }
    return this.socket.write(Buffer.concat([Buffer.from(head), body]));
  }

  #take(data) {
    this.silent = false;
    if (this.closing) {
      this.#answerClose(data);
      return;
    }
    this.bytes = this.bytes.length ? Buffer.concat([this.bytes, data]) : data;
    while (!this.closing && this.#frame());
  }

  /** After our close only the other side's close counts: then the connection has done its work. */
  #answerClose(data) {
    if ((data[0] & 15) === CLOSE) this.socket.end();
  }

  /** Takes one frame; false if not all of it is there yet. */
  #frame() {
    if (this.bytes.length < 2) return false;
    const [first, second] = this.bytes;
    let [length, at] = [second & 127, 2];
    if (length === 126) [length, at] = [this.bytes.length < 4 ? NaN : this.bytes.readUInt16BE(2), 4];
    else if (length === 127) {
      [length, at] = [this.bytes.length < 10 ? NaN : Number(this.bytes.readBigUInt64BE(2)), 10];
    }
    if (Number.isNaN(length)) return false;
    const opcode = first & 15;
    if (first & 0x70 || !(second & 0x80)) return this.#refuse(1002, "frame");
    if (opcode >= CLOSE && (length > 125 || !(first & 0x80))) return this.#refuse(1002, "control");
    if (opcode === BINARY) return this.#refuse(1003, "binary");
    if (this.size + length > MAX) return this.#refuse(1009, "too large");
    if (this.bytes.length < at + 4 + length) return false;
    const mask = this.bytes.subarray(at, at + 4);
    const body = Buffer.from(this.bytes.subarray(at + 4, at + 4 + length));
    for (let place = 0; place < length; place++) body[place] ^= mask[place & 3];
    this.bytes = this.bytes.subarray(at + 4 + length);
    return this.#handle(opcode, body, Boolean(first & 0x80));
  }

  #handle(opcode, body, final) {
    if (opcode === PING) this.#write(PONG, body);
    else if (opcode === CLOSE) {
      this.closing = true;
      this.#write(CLOSE, body.subarray(0, 2));
      this.socket.end();
    } else if (opcode === TEXT || opcode === CONTINUATION) {
      if ((opcode === TEXT) !== (this.parts.length === 0)) return this.#refuse(1002, "fragment");
      this.parts.push(body);
      this.size += body.length;
      if (final) this.#message();
    } else if (opcode !== PONG) return this.#refuse(1002, "opcode");
    return true;
  }

  #message() {
    const whole = Buffer.concat(this.parts);
    [this.parts, this.size] = [[], 0];
    let text;
    try {
      text = utf8.decode(whole);
    } catch {
      this.#refuse(1007, "UTF-8");
      return;
    }
    this.emit("message", text);
  }

  #refuse(code, reason) {
    this.close(code, reason);
    return false;
  }
}
