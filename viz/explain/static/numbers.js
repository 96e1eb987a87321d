((explain) => {
  const MINUS = "−";

  /**
   * A number for people, as mathml.py writes it: four significant digits, whole numbers up to a million in full, a true minus sign.
   * @param {number} value
   * @param {number} digits significant digits
   */
  explain.number = (value, digits = 4) => {
    if (value === undefined || value === null) return "";
    if (Number.isNaN(value)) return "NaN";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : MINUS + "∞";
    if (value === 0) return "0";
    const size = Math.abs(value);
    const [mantissa, power] = size.toExponential(digits - 1).split("e");
    const exponent = Number(power);
    let text;
    if (exponent >= -4 && exponent < 6) {
      text = size.toFixed(Math.max(digits - 1 - exponent, 0));
      if (text.includes(".")) text = text.replace(/0+$/, "").replace(/\.$/, "");
    } else {
      const short = mantissa.includes(".") ? mantissa.replace(/0+$/, "").replace(/\.$/, "") : mantissa;
      text = `${short}e${String(exponent).replace("-", MINUS)}`;
    }
    return (value < 0 ? MINUS : "") + text;
  };

  /** The shortest decimal that is the same number in `dtype`. */
  explain.exact = (value, dtype) => {
    if (value === undefined || value === null) return "";
    if (dtype === "float32" && Number.isFinite(value)) {
      for (let digits = 1; digits <= 9; digits += 1) {
        const short = Number(value.toPrecision(digits));
        if (Math.fround(short) === Math.fround(value)) return String(short);
      }
    }
    return String(value);
  };

  /** "6 × 28 × 28"; "one number" for (). */
  explain.shape = (shape) => (shape.length ? shape.join(" × ") : "one number");

  /** What a student typed as a number: also "1/3", "-2,5", "2e-3", "−4". NaN for anything else. */
  explain.readNumber = (text) => {
    const plain = text.trim().replace(/[−–]/g, "-").replace(",", ".").replace(/\s+/g, "");
    const number = "[-+]?(?:\\d+\\.?\\d*|\\.\\d+)(?:e[-+]?\\d+)?";
    const match = new RegExp(`^(${number})(?:/(${number}))?$`, "i").exec(plain);
    if (!match) return NaN;
    return match[2] === undefined ? Number(match[1]) : Number(match[1]) / Number(match[2]);
  };

  const mix = (from, to, share) => from.map((channel, i) => Math.round(channel + (to[i] - channel) * share));

  /** A diverging colour for `value` between -limit and limit: blue, paper, orange. The ends differ in lightness from each other, too. */
  explain.colourChannels = (value, limit, dark = explain.theme() === "dark") => {
    const middle = dark ? [34, 37, 44] : [250, 250, 250];
    if (!Number.isFinite(value)) return dark ? [120, 60, 140] : [200, 120, 220];
    const share = limit > 0 ? Math.min(Math.abs(value) / limit, 1) : 0;
    const end = value < 0 ? (dark ? [96, 165, 250] : [20, 70, 160]) : dark ? [255, 190, 90] : [217, 104, 0];
    return mix(middle, end, Math.sqrt(share));
  };

  explain.colour = (value, limit) => `rgb(${explain.colourChannels(value, limit).join(" ")})`;

  /** Black (low) to white (high), for pictures. */
  explain.greyChannels = (value, low, high) => {
    if (!Number.isFinite(value)) return explain.colourChannels(value, 1); // neither black nor white
    const level = high > low ? Math.round((255 * (Math.min(Math.max(value, low), high) - low)) / (high - low)) : 128;
    return [level, level, level];
  };

  explain.grey = (value, low, high) => `rgb(${explain.greyChannels(value, low, high).join(" ")})`;
})(globalThis.explain);
