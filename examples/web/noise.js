/* The noise that the Python library draws for a seed, number for number.

Reference:
  Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"
  (Philox4x32-10); Box and Muller 1958 for the normal distribution. */

const MULTIPLIERS = [0xd2511f53, 0xcd9e8d57];
const KEY_STEPS = [0x9e3779b9, 0xbb67ae85];
const NUM_ROUNDS = 10;
const TWO_PI = Math.fround(2 * Math.PI);

/** Upper 32 bits of the product of two numbers of 32 bits. */
function upperProduct(a, b) {
  const aLow = a & 0xffff, aHigh = a >>> 16;
  const bLow = b & 0xffff, bHigh = b >>> 16;
  // By halves of 16 bits; no sum exceeds 53 bits.
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle % 0x10000);
  return aHigh * bHigh + Math.floor(middle / 0x10000)
    + Math.floor(carry / 0x10000);
}

/** Four random words of 32 bits: number `block` of a seed's sequence. */
function randomBlock(key, block) {
  let [c0, c1, c2, c3] = [block, 0, 0, 0];
  let [k0, k1] = key;
  for (let round = 0; round < NUM_ROUNDS; round++) {
    const high0 = upperProduct(MULTIPLIERS[0], c0);
    const high1 = upperProduct(MULTIPLIERS[1], c2);
    const low0 = Math.imul(MULTIPLIERS[0], c0) >>> 0;
    const low1 = Math.imul(MULTIPLIERS[1], c2) >>> 0;
    [c0, c1, c2, c3] = [
      (high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0,
    ];
    k0 = (k0 + KEY_STEPS[0]) >>> 0;
    k1 = (k1 + KEY_STEPS[1]) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/**
 * Draws standard normal numbers: those of the first image that
 * `model.generate(seed=seed)` starts from.
 *
 * @param {number|bigint} seed whole, from 0, below 2^63.
 * @param {number} size how many.
 * @returns {Float32Array}
 */
export function standardNormal(seed, size) {
  const word = 0xffffffffn;
  const key = [Number(BigInt(seed) & word), Number(BigInt(seed) >> 32n)];
  const numPairs = Math.ceil(size / 4) * 2;
  const values = new Float32Array(2 * numPairs);
  for (let block = 0; 2 * block < numPairs; block++) {
    // The upper 24 bits are a float32 in [0, 1), exactly.
    const uniform = randomBlock(key, block).map((x) => (x >>> 8) * 2 ** -24);
    for (let k = 0; k < 2; k++) {
      // 1 - u lies in (0, 1]: its logarithm is finite.
      const radius = Math.sqrt(-2 * Math.log(1 - uniform[2 * k]));
      const angle = Math.fround(TWO_PI * uniform[2 * k + 1]);
      values[2 * block + k] = radius * Math.cos(angle);
      values[numPairs + 2 * block + k] = radius * Math.sin(angle);
    }
  }
  return values.slice(0, size);
}
