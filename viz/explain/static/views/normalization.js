/* Batch and layer normalisation: the spread of the numbers before and after, and one element on its way. */
((explain) => {
  const { create, svg, parts } = explain;

  /** The groups that are normalised together, and which weight each of their elements has. */
  function groups(context) {
    const input = context.input("input");
    const { op } = context.node;
    if (op.startsWith("batch_norm")) {
      const [batch, channels] = input.shape;
      const inner = input.size / (batch * channels);
      return {
        word: "channel", count: channels, size: batch * inner,
        place: (c, k) => (Math.floor(k / inner) * channels + c) * inner + (k % inner), weightOf: (c) => c,
      };
    }
    const size = input.shape.slice(-context.node.attributes.axes).reduce((a, b) => a * b, 1);
    return { word: "row", count: input.size / size, size, place: (r, k) => r * size + k, weightOf: (_, k) => k };
  }

  function moments(values) {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    return { mean, deviation: Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length) };
  }

  /** A histogram with its mean as a line and one deviation to each side as a band; `low` and `high` bound the axis. */
  function histogram({ caption, values, low, high, kind = "value", at = null }) {
    const [width, height, bins] = [240, 74, Math.min(30, Math.max(6, Math.round(Math.sqrt(values.length) * 2)))];
    const span = high - low || 1;
    const x = (v) => ((v - low) / span) * width;
    const counts = new Array(bins).fill(0);
    const finite = values.filter(Number.isFinite);
    for (const v of finite) counts[Math.min(bins - 1, Math.max(0, Math.floor(((v - low) / span) * bins)))] += 1;
    const most = Math.max(...counts, 1);
    const { mean, deviation } = moments(values);
    const missing = values.length - finite.length;
    const off = missing ? `; ${missing} ${missing === 1 ? "element is" : "elements are"} off the chart (not finite)` : "";
    const words = `${caption}: mean ${explain.number(mean, 3)}, deviation ${explain.number(deviation, 3)}${off}`;
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${height + 14}`, class: `view-histogram is-${kind}`, role: "img", "aria-label": words });
    const [from, to] = [Math.max(0, x(mean - deviation)), Math.min(width, x(mean + deviation))];
    const centred = Number.isFinite(mean) && Number.isFinite(deviation);
    if (centred) drawing.append(svg("rect", { x: from, y: 0, width: Math.max(to - from, 1), height, class: "view-band" }));
    counts.forEach((count, i) => {
      const h = (count / most) * (height - 6);
      drawing.append(svg("rect", { x: (i * width) / bins + 0.5, y: height - h, width: width / bins - 1, height: h, class: "view-column" }));
    });
    if (centred) drawing.append(svg("line", { x1: x(mean), x2: x(mean), y1: 0, y2: height, class: "view-mean" }));
    if (low < 0 && high > 0) drawing.append(svg("line", { x1: x(0), x2: x(0), y1: height - 3, y2: height + 3, class: "view-axis" }));
    drawing.append(svg("line", { x1: 0, x2: width, y1: height, y2: height, class: "view-axis" }));
    if (at !== null && Number.isFinite(at)) drawing.append(svg("circle", { cx: x(at), cy: height, r: 4, class: "view-dot" }));
    const label = (place, anchor, text) => {
      const made = svg("text", { x: place, y: height + 12, "text-anchor": anchor, class: "view-tick" });
      made.textContent = text;
      return made;
    };
    drawing.append(label(0, "start", explain.number(low, 2)), label(width, "end", explain.number(high, 2)));
    return create("figure", { class: "view-map" }, drawing, create("figcaption", { text: words }));
  }

  const bounds = (...lists) => {
    const all = lists.flat().filter(Number.isFinite);
    return { low: all.reduce((a, b) => Math.min(a, b), 0), high: all.reduce((a, b) => Math.max(a, b), 0) };
  };

  function draw(state, context, again) {
    const g = groups(context);
    const [out, means, variances] = context.outputs;
    const { eps } = context.node.attributes;
    const [weight, bias] = [context.input("weight"), context.input("bias")];
    state.c = Math.min(state.c ?? 0, g.count - 1);
    state.k = Math.min(state.k ?? 0, g.size - 1);
    const { c } = state;
    const take = (tensor) => Array.from({ length: g.size }, (_, k) => tensor.data[g.place(c, k)]);
    const x = take(context.input("input"));
    const mean = means.data[c];
    const root = Math.sqrt(variances.data[c] + eps);
    const normal = x.map((v) => (v - mean) / root);
    const scale = (k) => (weight ? weight.data[g.weightOf(c, k)] : 1);
    const shift = (k) => (bias ? bias.data[g.weightOf(c, k)] : 0);
    const detail = create("div", { class: "view-detail" });
    const choice = parts.choice({
      label: g.word, count: g.count, value: c,
      onChange(value) {
        state.c = value;
        again();
      },
    });
    const gradient = context.inputGradient("input");
    const backward = context.pass === "backward" && parts.whole(gradient) && parts.whole(context.outputGradients?.[0] ?? context.outputGradient);
    const stepper = (show) => {
      const made = parts.stepper({
        label: "element", count: g.size, value: state.k, describe: (k) => `element ${k} of this ${g.word}`, interval: 700,
        onChange(k) {
          state.k = k;
          show(k);
        },
      });
      state.stop = made.stop;
      show(state.k);
      return made.element;
    };
    if (!backward) {
      const y = take(out);
      const wide = bounds(x, context.known.output ? y : []);
      return [
        choice,
        histogram({ caption: "before", values: x, ...wide }),
        context.known.output ? histogram({ caption: "after", values: y, ...wide }) : null,
        parts.say(`Each ${g.word} loses its own mean and is divided by its own deviation, then gets the learned scale γ and shift β.`),
        stepper((k) => detail.replaceChildren(
          parts.contributions({ caption: `element ${k} on its way`, most: 9, bars: false, parts: [
            { words: "x", value: x[k] }, { words: "mean μ", value: mean }, { words: "√(variance + ε)", value: root },
            { words: "x̂ = (x − μ) / √(…)", value: normal[k] }, { words: "γ", value: scale(k) }, { words: "β", value: shift(k) },
          ] }),
          parts.total({ name: "γ x̂ + β", computed: scale(k) * normal[k] + shift(k), engine: context.known.output ? y[k] : null, scale: Math.abs(normal[k]) + Math.abs(mean / root) }),
        )),
        detail,
      ];
    }
    const u = take(context.outputGradients?.[0] ?? context.outputGradient);
    const scaled = u.map((v, k) => v * scale(k));
    const average = scaled.reduce((a, b) => a + b, 0) / g.size;
    const along = scaled.reduce((a, v, k) => a + v * normal[k], 0) / g.size;
    const got = context.known.gradient ? take(gradient) : null;
    const wide = bounds(u, got || []);
    const [toScale, toShift] = [context.inputGradient("weight"), context.inputGradient("bias")];
    const own = g.word === "channel";
    const size = Math.max(...scaled.map(Math.abs)) / root;
    return [
      choice,
      histogram({ caption: "upstream", values: u, ...wide, kind: "gradient" }),
      got ? histogram({ caption: "gradient of the input", values: got, ...wide, kind: "gradient" }) : null,
      parts.say(`All elements share μ and the variance, so each gradient loses what would only move the mean (${explain.number(average, 3)}) or the spread (${explain.number(along, 3)} × x̂): the gradients of a ${g.word} add up to 0.`),
      own && toShift ? parts.total({ name: "gradient of β = Σ u", kind: "gradient", computed: u.reduce((a, b) => a + b, 0), engine: context.known.gradient ? toShift.data[c] : null, scale: u.reduce((a, b) => a + Math.abs(b), 0) }) : null,
      own && toScale ? parts.total({ name: "gradient of γ = Σ u x̂", kind: "gradient", computed: u.reduce((a, v, k) => a + v * normal[k], 0), engine: context.known.gradient ? toScale.data[c] : null, scale: u.reduce((a, v, k) => a + Math.abs(v * normal[k]), 0) }) : null,
      stepper((k) => detail.replaceChildren(
        parts.contributions({ caption: `element ${k}`, kind: "gradient", most: 9, parts: [
          { words: "γ u", value: scaled[k] }, { words: "− mean of γ u", value: -average }, { words: "− x̂ × mean of γ u x̂", value: -normal[k] * along },
        ] }),
        parts.total({ name: `their sum / ${explain.number(root, 3)}`, kind: "gradient", computed: (scaled[k] - average - normal[k] * along) / root, engine: got ? got[k] : null, scale: size }),
      )),
      detail,
    ];
  }

  explain.registerView(["batch_norm_with_statistics", "layer_norm_with_statistics"], {
    title: "Normalisation, before and after",
    accepts(context) {
      return parts.whole(context.input("input")) && context.outputs && context.outputs.length >= 3 && context.outputs.every(parts.whole);
    },
    mount: (container, context) => parts.redrawn(container, context, draw),
  });
})(globalThis.explain);
