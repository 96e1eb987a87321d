/* Softmax and cross-entropy: scores, their exponentials, probabilities, the loss; going back, p - y. */
((explain) => {
  const { create, parts } = explain;

  /** Rows of `scores` along the last axis, or along axis `dim` of a 2-D tensor. */
  function line(tensor, dim, n) {
    const axis = dim < 0 ? tensor.shape.length + dim : dim;
    const size = tensor.shape[axis] ?? 1;
    const inner = tensor.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
    const start = Math.floor(n / inner) * size * inner + (n % inner);
    return Array.from({ length: size }, (_, k) => tensor.data[start + k * inner]);
  }

  /** A table with one row for each class; columns are {name, values, kind, bar}. `mark` rings a class. */
  function table({ caption, columns, mark, order }) {
    const head = create("tr", {}, create("th", { scope: "col", text: "class" }), ...columns.map((c) => create("th", { scope: "col", text: c.name })));
    const body = create("tbody", {});
    for (const k of order) {
      const cells = columns.map((c) => {
        const value = c.values[k];
        const cell = create("td", { class: `view-number is-${c.kind}`, text: value === undefined ? "?" : explain.number(value, c.digits ?? 4) });
        if (value !== undefined) cell.dataset.exact = String(value);
        if (c.bar && value !== undefined) {
          const largest = Math.max(...c.values.map((v) => Math.abs(v)), 1e-30);
          const bar = create("span", { class: `view-bar ${value < 0 ? "is-negative" : ""}` });
          bar.style.width = `${(100 * Math.abs(value)) / largest}%`;
          cell.append(create("span", { class: "view-under" }, bar));
        }
        return cell;
      });
      const name = create("th", { scope: "row", text: mark === k ? `${k} (true)` : String(k) });
      body.append(create("tr", mark === k ? { class: "is-marked" } : {}, name, ...cells));
    }
    return create("div", { class: "view-scroll", tabindex: "0", role: "region", "aria-label": caption },
      create("table", { class: "view-classes" }, create("caption", { text: caption }), create("thead", {}, head), body));
  }

  /** All classes, or the right one and those with the largest probability. */
  function ordered(probabilities, mark, most = 20) {
    const all = probabilities.map((_, k) => k);
    if (all.length <= most) return all;
    const best = [...all].sort((a, b) => probabilities[b] - probabilities[a]).slice(0, most);
    return (mark === undefined || best.includes(mark) ? best : [mark, ...best.slice(0, most - 1)]).sort((a, b) => a - b);
  }

  function drawLoss(state, context, again) {
    const scores = context.input("input");
    const { attributes } = context.node;
    const targets = context.input("target");
    const weight = context.input("weight");
    const spread = attributes.label_smoothing || 0;
    const axis = scores.shape.length > 1 ? 1 : 0;
    const count = scores.size / scores.shape[axis];
    state.n = Math.min(state.n ?? 0, count - 1);
    const { n } = state;
    const s = line(scores, axis, n);
    const right = targets.data[n];
    const largest = Math.max(...s);
    const powers = s.map((v) => Math.exp(v - largest));
    const sum = powers.reduce((a, b) => a + b, 0);
    const engine = context.outputs && parts.whole(context.outputs[1]) ? line(context.outputs[1], axis, n) : null;
    const p = engine || powers.map((v) => v / sum);
    const y = s.map((_, k) => (k === right ? 1 - spread : 0) + spread / s.length);
    const classWeight = s.map((_, k) => (weight ? weight.data[k] : 1));
    const ignored = right === attributes.ignore_index;
    const order = ordered(p, right);
    const all = [...Array(count).keys()];
    const weights = (k) => (weight ? weight.data[targets.data[k]] : 1);
    const total = attributes.reduction === "mean" ? all.reduce((a, k) => a + (targets.data[k] === attributes.ignore_index ? 0 : weights(k)), 0) : 1;
    const own = ignored ? 0 : -s.reduce((a, _, k) => a + classWeight[k] * y[k] * (s[k] - largest - Math.log(sum)), 0);
    const pick = parts.choice({
      label: "example", count, value: n,
      onChange(value) {
        state.n = value;
        again();
      },
    });
    const gradient = context.inputGradient("input");
    if (context.pass === "backward" && parts.whole(gradient)) {
      const upstream = context.outputGradient && context.outputGradient.data.length === 1 ? context.outputGradient.data[0]
        : context.outputGradient ? context.outputGradient.data[n] : 1;
      const mass = y.reduce((a, v, k) => a + v * classWeight[k], 0);
      const g = line(gradient, axis, n);
      const factor = ignored ? 0 : upstream / total;
      const expected = p.map((v, k) => factor * (v * mass - y[k] * classWeight[k]));
      const k = order.includes(right) ? right : order[0];
      const columns = [
        { name: "p", values: p, kind: "value", bar: true },
        { name: spread ? "y, smoothed" : "y", values: y, kind: "value" },
        { name: `${factor === 1 ? "p − y" : `(p − y) × ${explain.number(factor, 3)}`}${weight ? ", weighted" : ""}`,
          values: context.known.gradient ? g : [], kind: "gradient", bar: true },
      ];
      return [
        pick,
        parts.say("The gradient of each score is what the network believes less what is true: p − y. The right class is pushed up, the others down, each by its own probability."),
        table({ caption: "gradient of the scores", columns, mark: right, order }),
        parts.total({ name: `gradient of score ${k}`, kind: "gradient", computed: expected[k], engine: context.known.gradient ? g[k] : null }),
        count > 1 && attributes.reduction === "mean" ? parts.say(`The mean over ${count} examples divides every gradient by ${explain.number(total)}.`) : null,
      ];
    }
    const columns = [
      { name: "score s", values: s, kind: "value" },
      { name: "exp(s − max)", values: powers, kind: "value" },
      { name: "p = exp / sum", values: context.known.output ? p : [], kind: "value", bar: true },
    ];
    const losses = context.outputs[0];
    const single = attributes.reduction === "none" || count === 1;
    return [
      pick,
      table({ caption: "from scores to probabilities", columns, mark: right, order }),
      parts.say(`The exponentials add up to ${explain.number(sum)}. The largest score, ${explain.number(largest)}, is taken off first so that none overflows; the probabilities are the same.`),
      ignored ? parts.say("This example is ignored.") : parts.total({
        name: spread || weight ? "loss of this example" : `loss = −ln p[${right}] = −ln ${explain.number(p[right])}`, computed: single && attributes.reduction === "mean" ? own / total : own,
        engine: !context.known.output ? null : single ? losses.data[attributes.reduction === "none" ? n : 0] : undefined,
      }),
      single ? null : parts.say(`The loss is the ${attributes.reduction} over ${count} examples: ${context.known.output ? explain.number(losses.data[0]) : "?"}.`),
    ];
  }

  function drawSoftmax(state, context, again) {
    const scores = context.input("input");
    const isLog = context.node.op === "log_softmax";
    const { dim } = context.node.attributes;
    const axis = dim < 0 ? scores.shape.length + dim : dim;
    const count = scores.size / scores.shape[axis];
    state.n = Math.min(state.n ?? 0, count - 1);
    const { n } = state;
    const s = line(scores, axis, n);
    const out = line(context.output, axis, n);
    const largest = Math.max(...s);
    const powers = s.map((v) => Math.exp(v - largest));
    const sum = powers.reduce((a, b) => a + b, 0);
    const p = isLog ? out.map(Math.exp) : out;
    const order = ordered(p);
    const pick = parts.choice({
      label: "row", count, value: n,
      onChange(value) {
        state.n = value;
        again();
      },
    });
    if (context.pass === "backward" && parts.whole(context.outputGradient) && parts.whole(context.inputGradient("input"))) {
      const upstream = line(context.outputGradient, axis, n);
      const g = line(context.inputGradient("input"), axis, n);
      const mean = upstream.reduce((a, u, k) => a + u * (isLog ? 1 : p[k]), 0);
      const expected = upstream.map((u, k) => (isLog ? u - p[k] * mean : p[k] * (u - mean)));
      return [
        pick,
        parts.say(isLog
          ? "Each score's gradient is its upstream, less its probability times the sum of all upstreams."
          : "Each score's gradient is its probability times (its upstream less the mean upstream, weighted by the probabilities): raising one score lowers the other probabilities."),
        table({ caption: "gradient of the scores", mark: undefined, order, columns: [
          { name: "p", values: p, kind: "value", bar: true }, { name: "upstream u", values: upstream, kind: "gradient" },
          { name: isLog ? "u − p Σu" : "p (u − Σpu)", values: context.known.gradient ? g : [], kind: "gradient", bar: true },
        ] }),
        parts.total({ name: `gradient of score ${order[0]}`, kind: "gradient", computed: expected[order[0]], engine: context.known.gradient ? g[order[0]] : null, scale: Math.max(...upstream.map(Math.abs)) }),
      ];
    }
    return [
      pick,
      table({ caption: "from scores to probabilities", mark: undefined, order, columns: [
        { name: "score s", values: s, kind: "value" }, { name: "exp(s − max)", values: powers, kind: "value" },
        { name: isLog ? "ln(exp / sum)" : "exp / sum", values: context.known.output ? out : [], kind: "value", bar: !isLog },
      ] }),
      parts.say(`The exponentials add up to ${explain.number(sum)}.`),
      parts.total({ name: `output ${order[0]}`, computed: isLog ? s[order[0]] - largest - Math.log(sum) : powers[order[0]] / sum, engine: context.known.output ? out[order[0]] : null }),
    ];
  }

  explain.registerView(["softmax_cross_entropy"], {
    title: "From scores to the loss",
    accepts(context) {
      const target = context.input("target");
      return parts.whole(context.input("input")) && parts.whole(target) && context.outputs && context.outputs.length > 1
        && target.size * context.input("input").shape[context.input("input").shape.length > 1 ? 1 : 0] === context.input("input").size;
    },
    mount: (container, context) => parts.redrawn(container, context, drawLoss),
  });

  explain.registerView(["softmax", "log_softmax"], {
    title: "From scores to probabilities",
    accepts: (context) => parts.whole(context.input("input")) && parts.whole(context.output) && context.output.shape.length > 0,
    mount: (container, context) => parts.redrawn(container, context, drawSoftmax),
  });
})(globalThis.explain);
