// BLAKE3-256 of bytes that are in memory, after the published description of the function.

const IV = [
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];
const ORDER = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
const LANES = [
  [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
  [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14],
];
const [START, END, PARENT, ROOT] = [1, 2, 4, 8];
const [BLOCK, CHUNK, ROUNDS] = [64, 1024, 7];

const turn = (word, by) => (word >>> by) | (word << (32 - by));

function compress({ chaining, words, counter, length, flags }) {
  const high = Math.floor(counter / 2 ** 32);
  const state = Int32Array.of(...chaining, ...IV.slice(0, 4), counter | 0, high, length, flags);
  let message = words;
  for (let round = 0; round < ROUNDS; round++) {
    LANES.forEach(([a, b, c, d], lane) => {
      for (const [word, first, second] of [[2 * lane, 16, 12], [2 * lane + 1, 8, 7]]) {
        state[a] = state[a] + state[b] + message[word];
        state[d] = turn(state[d] ^ state[a], first);
        state[c] = state[c] + state[d];
        state[b] = turn(state[b] ^ state[c], second);
      }
    });
    message = ORDER.map((place) => message[place]);
  }
  return IV.map((_, place) => state[place] ^ state[place + 8]);
}

function blockWords(bytes) {
  const padded = new DataView(new ArrayBuffer(BLOCK));
  bytes.forEach((byte, place) => padded.setUint8(place, byte));
  return Array.from({ length: 16 }, (_, place) => padded.getInt32(4 * place, true));
}

function chunk(bytes, counter) {
  let [chaining, at, flags] = [IV, 0, START];
  for (; bytes.length - at > BLOCK; at += BLOCK, flags = 0) {
    const words = blockWords(bytes.subarray(at, at + BLOCK));
    chaining = compress({ chaining, words, counter, length: BLOCK, flags });
  }
  const rest = bytes.subarray(at);
  return {
    chaining, words: blockWords(rest), counter, length: rest.length, flags: flags | END,
  };
}

function tree(bytes, counter) {
  if (bytes.length <= CHUNK) return chunk(bytes, counter);
  // The left part is the largest power of two of chunks that leaves something to the right.
  const left = 2 ** Math.floor(Math.log2(Math.ceil(bytes.length / CHUNK) - 1 || 1));
  const split = left * CHUNK;
  const words = [
    ...compress(tree(bytes.subarray(0, split), counter)),
    ...compress(tree(bytes.subarray(split), counter + left)),
  ];
  return { chaining: IV, words, counter: 0, length: BLOCK, flags: PARENT };
}

/** `b3:` and 64 hex digits. */
export function digest(bytes) {
  const root = tree(bytes, 0);
  const words = compress({ ...root, counter: 0, flags: root.flags | ROOT });
  const out = Buffer.alloc(32);
  words.forEach((word, place) => out.writeInt32LE(word, 4 * place));
  return `b3:${out.toString("hex")}`;
}
