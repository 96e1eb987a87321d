((explain) => {
  const KINDS = { float32: [Float32Array, 4], float64: [Float64Array, 8], int32: [Int32Array, 4] };
  const little = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

  const decode = (entry) => {
    if (entry.numbers) return Float64Array.from(entry.numbers, Number);
    const binary = atob(entry.data);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
    const [Kind, width] = KINDS[entry.encoding];
    if (!little) for (let i = 0; i < bytes.length; i += width) bytes.subarray(i, i + width).reverse();
    return new Kind(bytes.buffer);
  };

  const pictureOf = ({ stored, steps, low, high, data }) => {
    const levels = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const [planes, rows, columns] = stored;
    const at = (plane, row, column) => {
      const level = levels[(plane * rows + row) * columns + column];
      if (level === 255) return NaN;
      return low < 0 ? high * (level / 127 - 1) : high * (level / 254);
    };
    return { planes, rows, columns, steps, at };
  };

  const product = (numbers) => numbers.reduce((a, b) => a * b, 1);

  /** Of the finite elements, but for the norm: it is NaN where an element is, else infinite where an element is. */
  const summary = (data) => {
    let [minimum, maximum, total, zeros, nan, infinite, count] = [Infinity, -Infinity, 0, 0, 0, 0, 0];
    for (const value of data) {
      if (Number.isNaN(value)) nan += 1;
      else if (!Number.isFinite(value)) infinite += 1;
      else {
        minimum = Math.min(minimum, value);
        maximum = Math.max(maximum, value);
        total += value;
        zeros += value === 0;
        count += 1;
      }
    }
    const norm = Math.hypot(...data.filter((value) => !Number.isNaN(value))); // as many as are stored as numbers: few
    const finite = { norm: nan ? NaN : norm, zeros, nan, infinite };
    if (!count) return { minimum: 0, maximum: 0, mean: 0, deviation: 0, ...finite };
    const mean = total / count;
    const deviation = Math.hypot(...data.filter(Number.isFinite).map((value) => value - mean)) / Math.sqrt(count);
    return { minimum, maximum, mean, deviation, ...finite };
  };

  /** An array of the page. `data` holds the stored block, row by row; it is the whole array where `complete`. */
  class PageTensor {
    #data = null;

    #stats = null;

    #picture = null;

    constructor(id, entry) {
      this.id = id;
      this.entry = entry;
      this.shape = entry.shape;
      this.dtype = entry.dtype;
      this.size = product(entry.shape);
      this.stored = entry.stored ?? entry.shape;
      this.complete = product(this.stored) === this.size;
    }

    get data() {
      this.#data ??= decode(this.entry);
      return this.#data;
    }

    get stats() {
      const { stats } = this.entry; // NaN and infinity are words in JSON
      this.#stats ??= stats ? Object.fromEntries(Object.entries(stats).map(([k, v]) => [k, Number(v)])) : summary(this.data);
      return this.#stats;
    }

    /** The element at these indices, undefined where it is outside or not stored. */
    at(...indices) {
      if (indices.length !== this.shape.length) return undefined;
      let offset = 0;
      for (let axis = 0; axis < indices.length; axis += 1) {
        if (!(indices[axis] >= 0 && indices[axis] < this.stored[axis])) return undefined;
        offset = offset * this.stored[axis] + indices[axis];
      }
      return this.data[offset];
    }

    /** Element number `offset` of the stored block. */
    flat(offset) {
      return this.data[offset];
    }

    /** The number itself where there is only one. */
    get single() {
      return this.size === 1 ? this.data[0] : undefined;
    }

    /**
     * The whole picture of a tensor of which only a corner is stored: every steps[0]-th row and steps[1]-th column of the first planes
     * of the first example, rounded to 254 levels. {planes, rows, columns, steps, at(plane, row, column)}, or null.
     */
    get picture() {
      this.#picture ??= this.entry.picture ? pictureOf(this.entry.picture) : null;
      return this.#picture;
    }

    /** A few words: the number, two or three numbers, or the norm. */
    get brief() {
      if (this.size === 1) return explain.number(this.data[0]);
      if (this.size <= 3) return `[${Array.from(this.data, (value) => explain.number(value, 3)).join(", ")}]`;
      return `‖·‖ ${explain.number(this.stats.norm, 3)}`;
    }

    /** The same in full, for tests and titles. */
    get exact() {
      return this.size === 1 ? explain.exact(this.data[0], this.dtype) : `norm ${this.stats.norm}`;
    }
  }

  /** Makes `explain.tensor(number)` for the arrays of a page. */
  explain.useTensors = (entries) => {
    const known = new Map();
    explain.tensor = (number) => {
      if (number === null || number === undefined) return null;
      if (!known.has(number)) known.set(number, new PageTensor(number, entries[number]));
      return known.get(number);
    };
  };
})(globalThis.explain);
