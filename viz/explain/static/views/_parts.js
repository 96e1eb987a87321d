/* What the operator views share: choosing, stepping, grids of numbers, and the line that compares with the engine. */
((explain) => {
  const { create } = explain;
  const limits = new WeakMap();

  /** Largest magnitude in a tensor, at least a tiny number, for colours. */
  function limit(tensor) {
    if (!limits.has(tensor)) {
      let largest = 0;
      for (const value of tensor.data) if (Number.isFinite(value)) largest = Math.max(largest, Math.abs(value));
      limits.set(tensor, largest || 1);
    }
    return limits.get(tensor);
  }

  /** Whether no element is negative: such maps (images, results of ReLU) are shown from black to white. */
  function nonNegative(tensor) {
    return tensor.data.every((value) => !(value < 0));
  }

  /** A labelled drop-down list; `null` where there is nothing to choose. `describe(i)` names entry i. */
  function choice({ label, count, value, describe = String, onChange }) {
    if (count < 2) return null;
    const select = create("select", { on: { change: () => onChange(Number(select.value)) } });
    for (let i = 0; i < count; i += 1) {
      const option = create("option", { value: String(i), text: describe(i) });
      option.selected = i === value;
      select.append(option);
    }
    return create("label", { class: "view-choice" }, `${label} `, select);
  }

  /** A row of buttons of which one is pressed, such as which gradient is shown. */
  function tabs({ label, names, value, onChange }) {
    const buttons = names.map((name, i) =>
      create("button", { type: "button", "aria-pressed": String(i === value), text: name, on: { click: () => onChange(i) } }),
    );
    return create("div", { class: "view-tabs", role: "group", "aria-label": label }, ...buttons);
  }

  /**
   * Back, play or pause, forward, and a slider over `count` positions. The arrow keys move the slider.
   * Returns {element, set(i), stop()}; `onChange(i)` is called for every move, `describe(i)` gives the words for position i.
   */
  function stepper({ label, count, value = 0, describe, onChange, interval = 500 }) {
    let position = value;
    let timer = null;
    const slider = create("input", {
      type: "range", min: "0", max: String(Math.max(count - 1, 0)), value: String(value), "aria-label": label,
      on: { input: () => move(Number(slider.value)) },
    });
    const button = (text, name, click) => create("button", { type: "button", "aria-label": name, title: name, text, on: { click } });
    const back = button("◀", `Back: ${label}`, () => move((position + count - 1) % count));
    const play = button("▶▶ play", `Play: ${label}`, () => (timer === null ? start() : stop()));
    const forward = button("▶", `Next: ${label}`, () => move((position + 1) % count));
    play.classList.add("view-play");
    const words = create("output", { class: "view-position" });

    function start() {
      play.textContent = "❚❚ pause";
      play.setAttribute("aria-label", `Pause: ${label}`);
      timer = setInterval(() => set((position + 1) % count), interval);
    }
    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "▶▶ play";
      play.setAttribute("aria-label", `Play: ${label}`);
    }
    function set(next) {
      position = next;
      slider.value = String(next);
      slider.setAttribute("aria-valuetext", describe(next));
      words.textContent = describe(next);
      onChange(next);
    }
    function move(next) {
      stop();
      set(next);
    }
    slider.addEventListener("keydown", (event) => {
      if (/^(Arrow|Home|End|Page)/.test(event.key)) event.stopPropagation(); // these keys also drive the player
    });
    words.textContent = describe(value);
    slider.setAttribute("aria-valuetext", describe(value));
    const element = create("div", { class: "view-stepper", role: "group", "aria-label": label }, back, play, forward, slider, words);
    if (count < 2) element.hidden = true;
    return { element, set: move, stop };
  }

  /** Black or white, whichever reads better on an "rgb(r, g, b)" background. */
  function inkOn(colour) {
    const parts = (colour.match(/[\d.]+/g) || [255, 255, 255]).map(Number);
    const linear = parts.slice(0, 3).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 ? "#000" : "#fff";
  }

  const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

  /** How to write all numbers up to `largest` in magnitude shortly: {write(value), unit}, where the unit is "" or " (× 10⁻³)". */
  function shortly(largest) {
    const power = Math.floor(Math.log10(largest));
    const plain = power >= -1 && power < 4;
    const decimals = plain ? Math.max(0, 2 - Math.max(power, 0)) : 2;
    const scale = plain ? 1 : 10 ** power;
    const unit = plain ? "" : ` (× 10${[...String(power)].map((c) => RAISED[c]).join("")})`;
    const write = (value) => {
      if (value === 0) return "0";
      if (!Number.isFinite(value)) return explain.number(value);
      const text = (Math.abs(value) / scale).toFixed(decimals);
      return `${value < 0 && Number(text) !== 0 ? "−" : ""}${Number.isInteger(value) && plain ? String(Math.abs(value)) : text}`;
    };
    return { write, unit };
  }

  /**
   * A small table of numbers on coloured ground. `at(row, column)` may give undefined (left empty). `kind`: "value" or "gradient".
   * `mark(row, column)` true rings a cell. `limit` sets the colour scale and the number of digits, `range`: [black, white].
   */
  function grid({ rows, columns, at, caption, kind = "value", limit: largest = 1, mark = null, range = null }) {
    const { write, unit } = shortly(largest);
    const table = create("table", { class: `view-grid is-${kind}` }, create("caption", { text: caption + unit }));
    const body = create("tbody", {});
    for (let row = 0; row < rows; row += 1) {
      const line = create("tr", {});
      for (let column = 0; column < columns; column += 1) {
        const value = at(row, column);
        const cell = create("td", { text: value === undefined ? "" : write(value) });
        if (value !== undefined) {
          const ground = range ? explain.grey(value, ...range) : explain.colour(value, largest);
          cell.style.backgroundColor = ground;
          cell.style.color = inkOn(ground);
          cell.dataset.exact = String(value);
        }
        if (mark && mark(row, column)) cell.classList.add("is-marked");
        line.append(cell);
      }
      body.append(line);
    }
    table.append(body);
    return table;
  }

  /** Whether the view fills the window. */
  const isLarge = () => document.body.classList.contains("view-is-large");

  /** [lowest, highest] of an image that the network was given, which is shown in black and white; null for other tensors. */
  function pictureRange(context, argument) {
    const [tensor, node] = [context.input(argument), context.inputNode(argument)];
    if (node.kind !== "input" || ![1, 3].includes(tensor.shape[1])) return null;
    return tensor.data.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  }

  /** Index of the largest magnitude among `count` numbers: the most telling place to begin at. */
  function strongest(count, at) {
    let best = 0;
    for (let i = 1; i < count; i += 1) if (Math.abs(at(i)) > Math.abs(at(best))) best = i;
    return best;
  }

  /**
   * A picture of a plane of numbers with a caption, made by explain.heatmap. A click, or Enter, calls `onClick(row, column)`.
   * Returns {figure, highlight(marks)}. `size`: pixels of its longer side, at most. `range`: [black, white], for pictures.
   */
  function map({ caption, tensor, rows, columns, onClick = null, onHover = null, kind = "value", size = 168, grey = null, range = null, ...options }) {
    let over = null;
    const asPicture = grey ?? (kind === "value" && nonNegative(tensor));
    let largest = 0; // of this plane alone, so that a faint one can be seen too
    for (let i = 0; i < rows; i += 1) for (let j = 0; j < columns; j += 1) largest = Math.max(largest, Math.abs(options.at(i, j) ?? 0) || 0);
    largest ||= 1;
    const picture = explain.heatmap({
      ...(range ? { grey: true, low: range[0], high: range[1] } : asPicture ? { grey: true, low: 0, high: largest } : { limit: largest }),
      ...options, rows, columns, label: caption,
      onHover(row, column) {
        over = row === null ? null : [row, column];
        if (onHover) onHover(over);
      },
    });
    const larger = isLarge() ? 2.4 : 1;
    const scale = larger * Math.min(28, size / Math.max(rows, columns));
    picture.element.style.aspectRatio = "auto";
    picture.element.style.width = `${Math.max(14, columns * scale)}px`;
    picture.element.style.height = `${Math.max(14, rows * scale)}px`;
    const figure = create("figure", { class: `view-map is-${kind}` }, picture.element, create("figcaption", { text: caption }));
    if (onClick) {
      picture.element.classList.add("is-clickable");
      picture.element.addEventListener("click", () => over && onClick(...over));
      picture.element.addEventListener("keydown", (event) => event.key === "Enter" && over && onClick(...over));
    }
    return { figure, highlight: picture.highlight };
  }

  /** "sum = 0.5 ✓", checked against the engine's number; "?" where that is null, not yet known; unchecked where there is none. */
  function total({ name, computed, engine, kind = "value", scale = 1 }) {
    const known = engine !== undefined && engine !== null;
    const near = known && (Object.is(computed, engine) || Math.abs(computed - engine) <= 1e-4 * Math.max(Math.abs(engine), scale, 1e-30));
    const hidden = engine === null;
    const number = create("strong", { class: `is-${kind} view-total`, text: hidden ? "?" : explain.number(known ? engine : computed) });
    if (!hidden) number.dataset.computed = String(computed);
    if (known) number.dataset.exact = String(engine);
    const note = !known ? "" : near ? " ✓ as the engine has it" : ` ✗ the products here add up to ${explain.number(computed)}`;
    return create("p", { class: "view-sum" }, `${name} = `, number, create("span", { class: "view-note", text: note }));
  }

  /** Rows of (words, number) with a bar for each, the largest magnitudes first where there are more than `most`. */
  function contributions({ caption, parts, kind = "value", most = 8, sort = false, bars = true }) {
    const order = parts.map((_, i) => i);
    if (sort || parts.length > most) order.sort((a, b) => Math.abs(parts[b].value) - Math.abs(parts[a].value));
    const shown = order.slice(0, most);
    const rest = order.slice(most).reduce((sum, i) => sum + parts[i].value, 0);
    const largest = Math.max(...parts.map((p) => Math.abs(p.value)), Math.abs(rest), 1e-30);
    const table = create("table", { class: `view-parts is-${kind}` }, create("caption", { text: caption }));
    const body = create("tbody", {});
    const row = (words, value) => {
      const bar = create("span", { class: `view-bar ${value < 0 ? "is-negative" : ""}` });
      bar.style.width = `${(100 * Math.abs(value)) / largest}%`;
      const number = create("td", { class: "view-number", text: explain.number(value) });
      number.dataset.exact = String(value);
      body.append(create("tr", {}, create("th", { scope: "row", text: words }), number, bars ? create("td", { class: "view-bars" }, bar) : null));
    };
    for (const i of shown) row(parts[i].words, parts[i].value);
    if (order.length > most) row(`the other ${order.length - most}`, rest);
    table.append(body);
    return table;
  }

  /** dL/dbias: the bias was added everywhere, so its gradient is the sum of the gradients there. `terms(i)`: [{words, value}] of bias i. */
  function biasGradient(state, context, again, { gradient, terms, place }) {
    state.bias ??= strongest(gradient.size, (i) => gradient.data[i]);
    const added = terms(state.bias);
    return [
      say(`The bias was added to every ${place}, so it gets the sum of their gradients.`),
      row(choice({
        label: "bias", count: gradient.size, value: state.bias,
        onChange(value) {
          state.bias = value;
          again();
        },
      })),
      contributions({ caption: `the largest of ${added.length} gradients`, parts: added, kind: "gradient", sort: true }),
      total({
        name: `gradient of bias [${state.bias}]`, kind: "gradient", computed: added.reduce((sum, t) => sum + t.value, 0),
        engine: context.known.gradient ? gradient.data[state.bias] : null, scale: added.reduce((sum, t) => sum + Math.abs(t.value), 0),
      }),
    ];
  }

  const row = (...children) => create("div", { class: "view-row" }, ...children.filter(Boolean));
  const say = (text) => create("p", { class: "view-words", text });

  /**
   * The handlers of a view that draws itself anew when the pass or what is known changes. `draw(state, context, again)` returns the
   * elements to show and may set `state.stop`, which is called before the next drawing.
   */
  function redrawn(container, context, draw) {
    const state = { stop: null };
    let seen = "";
    const signature = (c) => `${c.pass} ${c.known.output} ${c.known.gradient} ${isLarge()}`;
    function again() {
      if (state.stop) state.stop();
      state.stop = null;
      const focus = container.contains(document.activeElement) ? document.activeElement : null;
      const name = focus && (focus.getAttribute("aria-label") || focus.textContent);
      container.replaceChildren(...draw(state, context, again).filter(Boolean));
      if (name) {
        const same = [...container.querySelectorAll("button, input, select")].find(
          (e) => (e.getAttribute("aria-label") || e.textContent) === name,
        );
        if (same) same.focus();
      }
    }
    seen = signature(context);
    again();
    return {
      update(next) {
        context = next;
        if (signature(next) !== seen) {
          seen = signature(next);
          again();
        }
      },
      destroy() {
        if (state.stop) state.stop();
      },
    };
  }

  /** Pairs from an attribute that is one number or several: pair(2) and pair([2, 2]) are [2, 2]. */
  const pair = (value) => (Array.isArray(value) ? (value.length === 1 ? [value[0], value[0]] : value) : [value, value]);

  /** Whether a tensor is there with all of its elements. */
  const whole = (tensor) => Boolean(tensor) && tensor.complete && tensor.size > 0;

  explain.parts = {
    whole, strongest, biasGradient, pictureRange, limit, nonNegative, choice, tabs, stepper, inkOn, grid, map, total, contributions, row, say, redrawn, pair,
  };
})(globalThis.explain);
