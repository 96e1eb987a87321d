/** One steps axis for the whole page, and line charts upon it. */

/** The part of the run that is looked at, and the step under the cursor; everything drawn listens to it. */
class Viewport {
  constructor(last) {
    this.full = [1, Math.max(last, 2)];
    [this.low, this.high] = this.full;
    this.cursor = null;
    this.drawers = [];
    this.followers = [];
  }

  /** Shows low..high (kept within the run and at least two steps wide). */
  show(low, high) {
    const width = Math.max(2, Math.min(high - low, this.full[1] - this.full[0]));
    this.low = Math.max(this.full[0], Math.min(low, this.full[1] - width));
    this.high = this.low + width;
    this.redraw();
  }

  zoom(factor) {
    const middle = this.cursor ?? (this.low + this.high) / 2;
    this.show(middle - (middle - this.low) * factor, middle + (this.high - middle) * factor);
  }

  pan(share) {
    const by = (this.high - this.low) * share;
    this.show(this.low + by, this.high + by);
  }

  point(step) {
    this.cursor = step === null ? null : Math.max(this.low, Math.min(this.high, Math.round(step)));
    for (const follow of this.followers) follow(this.cursor);
  }

  redraw() {
    for (const draw of this.drawers) draw();
    for (const follow of this.followers) follow(this.cursor);
  }
}

/** The index of the last entry of ascending `steps` that is not after `step`, or -1. */
function indexAt(steps, step) {
  let low = -1;
  let high = steps.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle;
    else high = middle;
  }
  return low;
}

/**
 * Makes an element select steps: hovering points, dragging zooms, double click shows all, keys do both.
 * @param {Element} target @param {Viewport} view @param {() => {left: number, width: number}} plot where its steps axis lies
 * @param {(from: number|null, to: number|null) => void} mark shows the range being dragged
 */
function steer(target, view, plot, mark) {
  let from = null;
  const stepAt = (event) => {
    const box = target.getBoundingClientRect();
    const { left, width } = plot();
    const share = Math.max(0, Math.min(1, (event.clientX - box.left - left) / width));
    return view.low + share * (view.high - view.low);
  };
  target.addEventListener("pointermove", (event) => {
    view.point(stepAt(event));
    if (from !== null) mark(from, stepAt(event));
  });
  target.addEventListener("pointerdown", (event) => {
    if (event.button === 0) from = stepAt(event);
  });
  target.addEventListener("pointerup", (event) => {
    const to = stepAt(event);
    const wide = from !== null && Math.abs(to - from) > (view.high - view.low) * 0.02;
    mark(null, null);
    if (wide) view.show(Math.min(from, to), Math.max(from, to));
    from = null;
  });
  target.addEventListener("pointercancel", () => { from = null; mark(null, null); });
  target.addEventListener("pointerleave", () => { from = null; mark(null, null); view.point(null); });
  target.addEventListener("dblclick", () => view.show(...view.full));
  target.addEventListener("keydown", (event) => {
    const stride = Math.max(1, (view.high - view.low) / 60);
    const at = view.cursor ?? (view.low + view.high) / 2;
    const actions = {
      ArrowLeft: () => view.point(at - stride), ArrowRight: () => view.point(at + stride),
      Home: () => view.point(view.low), End: () => view.point(view.high),
      "+": () => view.zoom(0.5), "=": () => view.zoom(0.5), "-": () => view.zoom(2), 0: () => view.show(...view.full),
      Escape: () => { view.point(null); view.show(...view.full); },
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
  });
}

/**
 * @typedef {Object} Series
 * @property {string} name @property {number[]} steps @property {(number|null)[]} values @property {() => string} colour
 * @property {string} [dash] @property {boolean} [points] mark every value @property {number} [width]
 * @property {{low: (number|null)[], high: (number|null)[]}} [band] the spread behind the line
 */

/** Lines over the steps, with a legend that tells the values under the cursor and switches lines off and on. */
class LineChart {
  /**
   * @param {Element} host @param {Viewport} view
   * @param {{title: string, note?: string, series: Series[], log?: boolean, canLog?: boolean, format?: (v: number) => string,
   *   guides?: {value: number, label: string}[], zone?: [number, number], marks?: {step: number, label: string}[],
   *   domain?: [number, number], height?: number, wide?: boolean}} options
   */
  constructor(host, view, options) {
    Object.assign(this, { view, log: false, format: words, guides: [], marks: [], height: 230, ...options });
    this.hidden = new Set();
    const figure = element("figure", this.wide ? { class: "wide" } : {}, host);
    const head = element("div", { class: "head" }, figure);
    element("h3", {}, head, this.title);
    if (this.note) element("small", {}, head, this.note);
    if (this.canLog) this.addLogButton(head);
    const label = `${this.title}: ${this.summary()}. Arrow keys move along the steps, plus and minus zoom.`;
    this.svg = shape("svg", { class: "chart", role: "img", tabindex: 0, "aria-label": label }, figure);
    this.legend = element("ul", { class: "legend" }, figure);
    this.values = this.series.map((line) => this.addLegend(line));
    this.margin = { left: 52, right: 10, top: 10, bottom: 24 };
    steer(this.svg, view, () => ({ left: this.margin.left, width: this.width }), (from, to) => this.mark(from, to));
    view.drawers.push(() => this.draw());
    view.followers.push((step) => this.follow(step));
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  summary() {
    const last = (line) => line.values.findLast((v) => v !== null);
    return this.series.slice(0, 6).map((line) => `${line.name} ends at ${this.format(last(line))}`).join(", ");
  }

  addLogButton(head) {
    const button = element("button", { type: "button", "aria-pressed": this.log }, head, "logarithmic");
    button.addEventListener("click", () => {
      this.log = !this.log;
      button.setAttribute("aria-pressed", this.log);
      this.draw();
    });
  }

  addLegend(line) {
    const item = element("li", {}, this.legend);
    const button = element("button", { type: "button", "aria-pressed": "true" }, item);
    const key = shape("svg", { viewBox: "0 0 22 10", "aria-hidden": "true" }, button);
    shape("path", { d: "M0 5H22", fill: "none", "stroke-width": 3, "stroke-dasharray": line.dash ?? "none" }, key);
    if (line.points) shape("rect", { x: 8, y: 2, width: 6, height: 6 }, key);
    element("span", { class: "name" }, button, line.name);
    button.addEventListener("click", () => {
      if (!this.hidden.delete(line)) this.hidden.add(line);
      button.setAttribute("aria-pressed", !this.hidden.has(line));
      this.draw();
    });
    button.addEventListener("pointerenter", () => this.stress(line));
    button.addEventListener("pointerleave", () => this.stress(null));
    return { key, value: element("span", { class: "value" }, button) };
  }

  stress(line) {
    for (const path of this.svg.querySelectorAll("[data-line]")) {
      path.setAttribute("opacity", line === null || this.series.indexOf(line) === Number(path.dataset.line) ? 1 : 0.18);
    }
  }

  /** The smallest and largest value that is shown, with some air. */
  extent() {
    if (this.domain && !this.log) return this.domain;
    let low = Infinity;
    let high = -Infinity;
    const take = (v) => {
      if (v === null || !Number.isFinite(v) || (this.log && v <= 0)) return;
      low = Math.min(low, v);
      high = Math.max(high, v);
    };
    for (const line of this.series) {
      if (this.hidden.has(line)) continue;
      line.steps.forEach((step, i) => { if (step >= this.view.low && step <= this.view.high) take(line.values[i]); });
    }
    for (const guide of this.guides) take(guide.value);
    if (low > high) return this.log ? [0.1, 1] : [0, 1];
    if (this.log) return [Math.max(low / 1.5, high * 1e-12), high * 1.5];
    const air = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
    return [low >= 0 ? Math.max(0, low - air) : low - air, high + air];
  }

  draw() {
    const total = this.svg.clientWidth || 600;
    const { left, right, top, bottom } = this.margin;
    this.width = total - left - right;
    const inner = this.height - top - bottom;
    this.svg.setAttribute("height", this.height);
    this.svg.replaceChildren();
    const [low, high] = this.extent();
    const place = scale(low, high, inner, this.log);
    this.y = (v) => top + inner - Math.max(-1e4, Math.min(1e4, place(v)));
    this.x = (step) => left + ((step - this.view.low) / (this.view.high - this.view.low)) * this.width;
    this.drawAxes(low, high, inner);
    const clip = `clip-${LineChart.count = (LineChart.count ?? 0) + 1}`;
    shape("rect", { x: left - 4, y: top - 4, width: this.width + 8, height: inner + 8 }, shape("clipPath", { id: clip }, this.svg));
    const plot = shape("g", { "clip-path": `url(#${clip})` }, this.svg);
    this.series.forEach((line, i) => {
      const colour = line.colour();
      for (const part of this.values[i].key.children) part.setAttribute(part.tagName === "rect" ? "fill" : "stroke", colour);
      if (!this.hidden.has(line)) this.drawLine(line, i, plot, colour);
    });
    this.drawMarks(top, inner);
    this.range = shape("rect", { y: top, height: inner, width: 0, fill: token("focus"), opacity: 0.18 }, this.svg);
    this.rule = shape("line", { y1: top, y2: top + inner, stroke: token("cursor"), "stroke-width": 1, visibility: "hidden" }, this.svg);
    this.follow(this.view.cursor);
  }

  drawAxes(low, high, inner) {
    const { left, top } = this.margin;
    const right = left + this.width;
    if (this.zone) {
      const [from, to] = this.zone.map((v) => Math.max(top, Math.min(top + inner, this.y(v))));
      shape("rect", { x: left, y: to, width: this.width, height: Math.max(0, from - to), fill: token("ok"), opacity: 0.1 }, this.svg);
    }
    for (const value of this.log ? decades(low, high, 6) : ticks(low, high, 5)) {
      const y = this.y(value);
      shape("line", { x1: left, x2: right, y1: y, y2: y, stroke: token("grid") }, this.svg);
      shape("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, this.svg, this.format(value));
    }
    const whole = ticks(this.view.low, this.view.high, Math.max(2, this.width / 90)).filter((s) => Number.isInteger(s) && s > 0);
    for (const step of whole) {
      const x = this.x(step);
      shape("line", { x1: x, x2: x, y1: top + inner, y2: top + inner + 4, stroke: token("line") }, this.svg);
      shape("text", { x, y: this.height - 6, "text-anchor": "middle" }, this.svg, String(step));
    }
    shape("line", { x1: left, x2: right, y1: top + inner, y2: top + inner, stroke: token("line") }, this.svg);
    for (const guide of this.guides) {
      const y = this.y(guide.value);
      const line = { x1: left, x2: right, y1: y, y2: y, stroke: token("guide"), "stroke-dasharray": "6 4" };
      shape("line", line, this.svg);
    }
  }

  drawLine(line, index, plot, colour) {
    const visible = (v) => v !== null && Number.isFinite(v) && !(this.log && v <= 0);
    if (line.band) {
      const there = line.steps.map((_, i) => i).filter((i) => visible(line.band.low[i]) && visible(line.band.high[i]));
      const up = there.map((i) => `${this.x(line.steps[i]).toFixed(1)} ${this.y(line.band.high[i]).toFixed(1)}`);
      const down = there.reverse().map((i) => `${this.x(line.steps[i]).toFixed(1)} ${this.y(line.band.low[i]).toFixed(1)}`);
      const d = up.length ? `M${up.join("L")}L${down.join("L")}Z` : "";
      shape("path", { d, fill: colour, stroke: colour, "stroke-width": 0.7, "stroke-opacity": 0.5, "fill-opacity": 0.2, "data-line": index }, plot);
    }
    let d = "";
    let pen = false;
    line.steps.forEach((step, i) => {
      if (!visible(line.values[i])) { pen = false; return; }
      const x = this.x(step);
      const y = this.y(line.values[i]);
      d += `${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = true;
      if (line.points) shape("rect", { x: x - 3, y: y - 3, width: 6, height: 6, fill: colour, "data-line": index }, plot);
    });
    const style = { d, fill: "none", stroke: colour, "stroke-width": line.width ?? 2, "stroke-linejoin": "round", "data-line": index };
    shape("path", line.dash ? { ...style, "stroke-dasharray": line.dash } : style, plot);
  }

  drawMarks(top, inner) {
    for (const guide of this.guides) {
      const at = { x: this.margin.left + this.width, y: this.y(guide.value) - 5, "text-anchor": "end" };
      shape("text", at, this.svg, guide.label);
    }
    for (const { step, label } of this.marks) {
      if (step < this.view.low || step > this.view.high) continue;
      const x = this.x(step);
      const early = x < this.margin.left + this.width / 2;
      const rule = { x1: x, x2: x, y1: top, y2: top + inner, stroke: token("problem"), "stroke-width": 1.5, "stroke-dasharray": "2 3" };
      shape("line", rule, this.svg);
      const text = { x: x + (early ? 5 : -5), y: top + 12, "text-anchor": early ? "start" : "end" };
      shape("text", text, this.svg, label).style.fill = token("problem");
    }
  }

  mark(from, to) {
    const there = from !== null;
    this.range?.setAttribute("x", there ? this.x(Math.min(from, to)) : 0);
    this.range?.setAttribute("width", there ? Math.abs(this.x(to) - this.x(from)) : 0);
  }

  follow(step) {
    if (!this.rule) return;
    this.rule.setAttribute("visibility", step === null ? "hidden" : "visible");
    if (step !== null) {
      this.rule.setAttribute("x1", this.x(step));
      this.rule.setAttribute("x2", this.x(step));
    }
    this.series.forEach((line, i) => {
      const at = step === null ? line.steps.length - 1 : indexAt(line.steps, step);
      this.values[i].value.textContent = at < 0 ? "–" : this.format(line.values[at]);
    });
  }
}
