/** Numbers to places and words: axes, ticks, colours, and small helpers for making elements. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * A new element with attributes and text.
 * @param {string} tag @param {Object<string, string|number>} [attributes] @param {Element} [parent] @param {string} [text]
 */
function element(tag, attributes = {}, parent = null, text = null) {
  const made = document.createElement(tag);
  return finishElement(made, attributes, parent, text);
}

/** As `element`, in the SVG namespace. */
function shape(tag, attributes = {}, parent = null, text = null) {
  return finishElement(document.createElementNS(SVG, tag), attributes, parent, text);
}

function finishElement(made, attributes, parent, text) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

/** A number in at most four significant digits, or a dash where there is none. */
function words(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1).replace("e+", "e").replace(".0e", "e");
  return String(Number(value.toPrecision(size >= 1000 ? 4 : 3)));
}

/** A share of 0..1 as per cent. */
function percent(value, digits = 3) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : `${Number((100 * value).toPrecision(digits))} %`;
}

/** An accuracy as per cent, to a hundredth. */
function accuracyWords(value) {
  return percent(value, 4);
}

/** About `count` round numbers from low to high. */
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

/** Powers of ten from low to high, thinned to `count`. */
function decades(low, high, count) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  const stride = Math.max(1, Math.ceil((last - first + 1) / count));
  const found = [];
  for (let e = first; e <= last; e += stride) found.push(10 ** e);
  return found;
}

/** A function from low..high to 0..size, straight or by the logarithm. */
function scale(low, high, size, log) {
  const f = log ? Math.log10 : (v) => v;
  const a = f(low);
  const span = f(high) - a || 1;
  return (value) => ((f(value) - a) / span) * size;
}

/** Whether the page is dark now. */
function isDark() {
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** The colour of a CSS variable. */
function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** A colour of the theme, "#rrggbb", with a share of opacity. */
function tinted(name, opacity) {
  const parts = [1, 3, 5].map((at) => parseInt(token(name).slice(at, at + 2), 16));
  return `rgb(${parts.join(" ")} / ${Math.round(100 * opacity)}%)`;
}

/** The colour of layer i of n: from the input (violet) to the output (orange), as light goes up, so that grey print keeps the order. */
function depthColour(i, n) {
  const stops = isDark()
    ? [[138, 124, 255], [86, 156, 255], [64, 196, 190], [150, 214, 98], [255, 200, 80]]
    : [[62, 22, 130], [33, 84, 168], [0, 122, 128], [88, 124, 20], [196, 92, 0]];
  const place = n > 1 ? (i / (n - 1)) * (stops.length - 1) : 0;
  const k = Math.min(Math.floor(place), stops.length - 2);
  const mixed = stops[k].map((c, j) => Math.round(c + (stops[k + 1][j] - c) * (place - k)));
  return `rgb(${mixed.join(",")})`;
}

/** The bytes of a base64 text. */
function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}
