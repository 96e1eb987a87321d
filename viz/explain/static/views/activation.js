/* One function applied to every element: its curve with the elements on it, the slope where they are, and the mask that ReLU makes. */
((explain) => {
  const { create, svg, parts } = explain;

  /** Error function for drawing (M. Abramowitz, I. A. Stegun, "Handbook of Mathematical Functions", 1964, 7.1.26; error below 1.5e-7). */
  function erf(x) {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const sum = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return Math.sign(x) * (1 - sum * Math.exp(-x * x));
  }

  const sigmoid = (x) => 1 / (1 + Math.exp(-x));

  /** The curves, drawn between the elements; the elements themselves are the engine's numbers. */
  const CURVES = {
    relu: (x) => Math.max(0, x),
    leaky_relu: (x, a) => (x > 0 ? x : a.negative_slope * x),
    elu: (x, a) => (x > 0 ? x : a.alpha * Math.expm1(x)),
    relu6: (x) => Math.min(6, Math.max(0, x)),
    sigmoid,
    tanh: Math.tanh,
    softplus: (x, a) => Math.log1p(Math.exp(-Math.abs(a.beta * x))) / a.beta + Math.max(x, 0),
    gelu: (x, a) => (a.approximate === "tanh" ? 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))) : 0.5 * x * (1 + erf(x / Math.SQRT2))),
    silu: (x) => x * sigmoid(x),
    softsign: (x) => x / (1 + Math.abs(x)),
    exp: Math.exp,
    log: Math.log,
    sqrt: Math.sqrt,
    square: (x) => x * x,
    abs: Math.abs,
    sin: Math.sin,
    cos: Math.cos,
    reciprocal: (x) => 1 / x,
  };
  const FLAT = { sigmoid: 0.01, tanh: 0.01 };

  /** Whether an element has a place on the chart; y is undefined while it is not known. */
  const onChart = (x, y) => Number.isFinite(x) && (y === undefined || Number.isFinite(y));

  /** How many elements are missing from the chart, in words. */
  function missing(x, y) {
    const count = x.filter((value, i) => !onChart(value, y[i])).length;
    return count ? parts.say(`${count} ${count === 1 ? "element is" : "elements are"} off the chart (not finite).`) : null;
  }

  /** The curve with up to 400 elements on it, and the tangent at the chosen one. */
  function plot({ name, curve, x, y, chosen, slope }) {
    const [width, height, margin] = [280, 150, 6];
    const reach = x.filter(Number.isFinite).reduce((a, v) => Math.max(a, Math.abs(v)), name === "exp" ? 1 : 3) * 1.08;
    const from = ["log", "sqrt"].includes(name) ? 0.001 : -reach;
    const points = [];
    for (let i = 0; i <= 200; i += 1) {
      const at = from + ((reach - from) * i) / 200;
      points.push([at, curve(at)]);
    }
    const heights = [...points.map((p) => p[1]), ...y].filter(Number.isFinite);
    let [low, high] = [Math.min(0, ...heights), Math.max(0, ...heights)];
    if (name === "reciprocal") [low, high] = [Math.max(low, -4), Math.min(high, 4)];
    const pad = 0.08 * (high - low || 1);
    [low, high] = [low - pad, high + pad];
    const px = (v) => margin + ((v + reach) / (2 * reach)) * (width - 2 * margin);
    const py = (v) => height - margin - ((v - low) / (high - low)) * (height - 2 * margin);
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "view-plot", role: "img", "aria-label": `curve of ${name} with ${x.length} elements` });
    drawing.append(svg("line", { x1: 0, x2: width, y1: py(0), y2: py(0), class: "view-axis" }));
    drawing.append(svg("line", { x1: px(0), x2: px(0), y1: 0, y2: height, class: "view-axis" }));
    let path = "";
    let drawn = false;
    for (const [at, value] of points) {
      const visible = Number.isFinite(value) && value >= low && value <= high;
      if (visible) path += `${drawn ? "L" : "M"}${px(at).toFixed(1)} ${py(value).toFixed(1)}`;
      drawn = visible;
    }
    drawing.append(svg("path", { d: path, class: "view-curve" }));
    const every = Math.ceil(x.length / 400);
    for (let i = 0; i < x.length; i += every) {
      if (onChart(x[i], y[i]) && y[i] !== undefined) drawing.append(svg("circle", { cx: px(x[i]), cy: py(y[i]), r: x.length > 60 ? 1.8 : 3, class: "view-point" }));
    }
    if (!onChart(x[chosen], y[chosen])) return drawing;
    const [cx, cy] = [px(x[chosen]), y[chosen] === undefined ? py(0) : py(y[chosen])];
    if (slope !== null && Number.isFinite(slope) && y[chosen] !== undefined) {
      const run = reach * 0.3;
      drawing.append(svg("line", {
        x1: px(x[chosen] - run), x2: px(x[chosen] + run), y1: py(y[chosen] - slope * run), y2: py(y[chosen] + slope * run), class: "view-tangent",
      }));
    }
    drawing.append(svg("line", { x1: cx, x2: cx, y1: py(0), y2: cy, class: "view-drop" }), svg("circle", { cx, cy, r: 5, class: "view-dot" }));
    return drawing;
  }

  /** A tensor's elements as one plane: its last two axes, or rows of twenty. */
  function plane(tensor, n) {
    const { shape } = tensor;
    const square = shape.length > 1 && shape.at(-2) > 1;
    const columns = square ? shape.at(-1) : Math.min(tensor.size, 20);
    const rows = square ? shape.at(-2) : Math.ceil(tensor.size / columns);
    const start = square ? n * rows * columns : 0;
    const flat = (i, j) => start + i * columns + j;
    return { rows, columns, flat, planes: square ? tensor.size / (rows * columns) : 1, at: (i, j) => (flat(i, j) < tensor.size ? tensor.data[flat(i, j)] : undefined) };
  }

  function draw(state, context, again) {
    const input = context.input("input");
    const { node, output } = context;
    const upstream = context.outputGradient;
    const gradient = context.inputGradient("input");
    const backward = context.pass === "backward" && parts.whole(upstream) && parts.whole(gradient);
    const x = [...input.data];
    const y = context.known.output ? [...output.data] : [];
    state.i ??= x.length > 1 ? parts.strongest(x.length, (i) => (backward ? gradient.data[i] : x[i])) : 0;
    state.n ??= 0;
    const curve = (v) => CURVES[node.op](v, node.attributes);
    const slopeAt = (i) => (backward && context.known.gradient && upstream.data[i] !== 0 ? gradient.data[i] / upstream.data[i] : null);
    const holder = create("div", { class: "view-detail" });
    const p = plane(input, state.n);
    const isRelu = node.op === "relu";
    const several = x.length > 1;
    const map = (tensor, caption, kind, at) => parts.map({
      tensor, kind, caption, rows: p.rows, columns: p.columns, at, size: 112,
      onClick: (i, j) => p.flat(i, j) < x.length && steps.set(p.flat(i, j)),
    });
    const on = (i, j) => (p.flat(i, j) < x.length ? (x[p.flat(i, j)] > 0 ? 1 : 0) : undefined);
    const read = (tensor, known) => (i, j) => (known && p.flat(i, j) < x.length ? tensor.data[p.flat(i, j)] : undefined);
    const maps = !several ? [] : backward
      ? [map(upstream, "upstream", "gradient", read(upstream, true)), isRelu && map(input, "mask: 1 where x > 0", "value", on), map(gradient, "gradient of the input", "gradient", read(gradient, context.known.gradient))]
      : [map(input, "input", "value", read(input, true)), isRelu && map(input, "mask: 1 where x > 0", "value", on), map(output, "output", "value", read(output, context.known.output))];
    if (isRelu && several) {
      maps[1] = map({ data: [0, 1] }, "mask: 1 where x > 0", "value", on);
    }
    const shown = maps.filter(Boolean);

    function show(i) {
      state.i = i;
      const cell = { row: Math.floor((i % (p.rows * p.columns)) / p.columns), column: i % p.columns, rows: 1, columns: 1, kind: "window" };
      for (const m of shown) m.highlight(Math.floor(i / (p.rows * p.columns)) === state.n || p.planes === 1 ? [cell] : []);
      const slope = slopeAt(i);
      const words = several ? ` of element ${i}` : "";
      holder.replaceChildren(
        plot({ name: node.op, curve, x, y, chosen: i, slope }),
        !backward
          ? parts.total({ name: `${node.op}(${explain.number(x[i])})`, computed: curve(x[i]), engine: y.length ? y[i] : null, scale: 1e-3 })
          : parts.total({
              name: slope === null ? `gradient${words}` : `upstream ${explain.number(upstream.data[i])} × slope ${explain.number(slope)}`,
              kind: "gradient", computed: gradient.data[i], engine: context.known.gradient ? gradient.data[i] : null,
            }),
      );
    }
    const steps = parts.stepper({
      label: "element", count: x.length, value: state.i, describe: (i) => `element ${i} of ${x.length}`, onChange: show, interval: 600,
    });
    state.stop = steps.stop;
    show(state.i);
    const planes = parts.choice({
      label: "plane", count: several ? p.planes : 1, value: state.n,
      onChange(value) {
        state.n = value;
        state.i = value * p.rows * p.columns;
        again();
      },
    });
    return [planes, parts.row(...shown.map((m) => m.figure)), several ? steps.element : null, holder, missing(x, y), remark(node, x, backward, upstream, gradient)];
  }

  /** What a lecturer would point at: cut off elements, flat slopes. */
  function remark(node, x, backward, upstream, gradient) {
    const share = (count) => (x.length === 1 ? "" : `${count} of ${x.length} elements (${Math.round((100 * count) / x.length)} %)`);
    if (node.op === "relu") {
      const off = x.filter((v) => v <= 0).length;
      if (x.length === 1) return parts.say(off ? "x ≤ 0: the slope is 0, so no gradient passes." : "x > 0: the slope is 1, so the gradient passes unchanged.");
      return parts.say(`${share(off)} are cut off: they give 0${backward ? ", and no gradient passes through them" : ""}.`);
    }
    const limit = FLAT[node.op];
    if (limit && backward) {
      const flat = x.filter((_, i) => upstream.data[i] !== 0 && Math.abs(gradient.data[i] / upstream.data[i]) < limit).length;
      if (x.length === 1) return flat ? parts.say("Saturated: the curve is nearly flat here, so hardly any gradient passes.") : null;
      return parts.say(`${share(flat)} are saturated: the curve is so flat there that less than 1 % of the gradient passes.`);
    }
    return null;
  }

  explain.registerView(Object.keys(CURVES), {
    title: "One function, every element",
    accepts: (context) => parts.whole(context.input("input")) && parts.whole(context.output) && context.input("input").size === context.output.size,
    mount: (container, context) => parts.redrawn(container, context, draw),
  });
})(globalThis.explain);
