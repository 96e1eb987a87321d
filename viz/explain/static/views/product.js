/* Matrix products: every element of the result is a row times a column, added up. The gradients are matrix products too. */
((explain) => {
  const { create, parts } = explain;

  /** A tensor read as (batch, rows, columns) of `shape`: at(n, row, column), and the tensor's own indices of that element. */
  function matrix(tensor, { shape = tensor.shape, turned = false, column = false } = {}) {
    const [rows, columns] = shape.length === 1 ? (column ? [shape[0], 1] : [1, shape[0]]) : shape.length === 0 ? [1, 1] : shape.slice(-2);
    const batch = tensor.size / (rows * columns);
    const offset = (n, i, j) => (n % batch) * rows * columns + i * columns + j;
    const indices = (n, i, j) => {
      const found = [];
      let flat = offset(n, i, j);
      for (let axis = tensor.shape.length - 1; axis >= 0; axis -= 1) {
        found.unshift(flat % tensor.shape[axis]);
        flat = Math.floor(flat / tensor.shape[axis]);
      }
      return found;
    };
    const read = { tensor, batch, rows, columns, at: (n, i, j) => tensor.data[offset(n, i, j)], indices };
    return turned ? transpose(read) : read;
  }

  function transpose(m) {
    return { ...m, rows: m.columns, columns: m.rows, at: (n, i, j) => m.at(n, j, i), indices: (n, i, j) => m.indices(n, j, i) };
  }

  /** All leading axes of a tensor as rows: what a linear layer does to its input. */
  function asRows(tensor) {
    if (!tensor) return null;
    const columns = tensor.shape.at(-1);
    return matrix(tensor, { shape: [tensor.size / columns, columns] });
  }

  /** Names and matrices of the product a node computes: left (rows × inner) times right (inner × columns), plus bias. */
  function operands(context) {
    const { op } = context.node;
    if (op === "linear") {
      return {
        names: ["input", "weight"], words: ["input", "weightᵀ"], symbols: ["x", "W"], weightTurned: true,
        left: asRows(context.input("input")), right: matrix(context.input("weight"), { turned: true }), out: asRows(context.output),
        upstream: asRows(context.outputGradient),
        leftGradient: asRows(context.inputGradient("input")),
        rightGradient: context.inputGradient("weight") && matrix(context.inputGradient("weight"), { turned: true }),
        bias: context.input("bias"),
      };
    }
    const second = { matmul: "other", mm: "mat2", bmm: "mat2" }[op];
    const [a, b] = [context.input("input"), context.input(second)];
    const rows = a.shape.length === 1 ? 1 : a.shape.at(-2);
    const columns = b.shape.length === 1 ? 1 : b.shape.at(-1);
    const lead = (b.shape.length > a.shape.length ? b.shape : a.shape).slice(0, -2);
    const shaped = (t) => t && matrix(t, { shape: [...lead, rows, columns] });
    return {
      names: ["input", second], words: ["left", "right"], symbols: ["A", "B"],
      left: matrix(a), right: matrix(b, { column: true }), out: shaped(context.output), upstream: shaped(context.outputGradient),
      leftGradient: context.inputGradient("input") && matrix(context.inputGradient("input")),
      rightGradient: context.inputGradient(second) && matrix(context.inputGradient(second), { column: true }),
      bias: null,
    };
  }

  function picture(m, n, caption, options) {
    return parts.map({
      tensor: m.tensor, rows: m.rows, columns: m.columns, caption, size: 100, at: (i, j) => m.at(n, i, j), grey: false, ...options,
    });
  }

  /** One product left × right = result, with an element of the result chosen and taken apart. */
  function productView(state, key, context, { n, left, right, result, known, kinds, captions, word, extra = null, sumOver = 1 }) {
    const detail = create("div", { class: "view-detail" });
    const count = result.rows * result.columns;
    state[key] ??= parts.strongest(count, (p) => result.at(n, Math.floor(p / result.columns), p % result.columns));
    const place = (p) => [Math.floor(p / result.columns), p % result.columns];
    const hover = (m) => (over) => over && context.select(m.tensor, m.indices(n, ...over));
    const first = picture(left, n, captions[0], { kind: kinds[0], onHover: hover(left) });
    const second = picture(right, n, captions[1], { kind: kinds[1], onHover: hover(right) });
    const third = picture(result, n, captions[2], {
      kind: kinds[2], at: (i, j) => (known ? result.at(n, i, j) : undefined), onHover: hover(result),
      onClick: (i, j) => steps.set(i * result.columns + j),
    });

    function show(p) {
      state[key] = p;
      const [i, j] = place(p);
      first.highlight([{ row: i, column: 0, rows: 1, columns: left.columns, kind: "window" }]);
      second.highlight([{ row: 0, column: j, rows: right.rows, columns: 1, kind: "window" }]);
      third.highlight([{ row: i, column: j, rows: 1, columns: 1, kind: "window" }]);
      const terms = [];
      for (let b = 0; b < sumOver; b += 1) {
        for (let k = 0; k < left.columns; k += 1) {
          const [one, other] = [left.at(n + b, i, k), right.at(n + b, k, j)];
          terms.push({ words: `${explain.number(one, 3)} × ${explain.number(other, 3)}`, value: one * other });
        }
      }
      if (extra) terms.push(extra(i, j));
      const scale = terms.reduce((sum, t) => sum + Math.abs(t.value), 0);
      detail.replaceChildren(
        parts.contributions({
          caption: terms.length > 12 ? `the largest of ${terms.length} products` : "row times column", parts: terms,
          kind: kinds[2], most: terms.length > 12 ? 8 : 12,
        }),
        parts.total({
          name: `${word} [${result.indices(n, i, j).join(", ")}]`, kind: kinds[2], scale, computed: terms.reduce((sum, t) => sum + t.value, 0),
          engine: known ? result.at(n, i, j) : null,
        }),
      );
    }
    const steps = parts.stepper({
      label: "element of the result", count, value: state[key], describe: (p) => `row ${place(p)[0]}, column ${place(p)[1]}`,
      onChange: show, interval: 700,
    });
    state.stop = steps.stop;
    show(state[key]);
    const sign = (text) => create("span", { class: "view-sign", text });
    return [steps.element, parts.row(first.figure, sign("×"), second.figure, sign("="), third.figure), detail];
  }

  function draw(state, context, again) {
    const o = operands(context);
    state.n = Math.min(state.n ?? 0, o.out.batch - 1);
    const { n } = state;
    const batch = parts.choice({
      label: "matrix of the batch", count: o.out.batch, value: n,
      onChange(value) {
        state.n = value;
        again();
      },
    });
    const ways = [];
    if (context.pass === "backward" && o.upstream && parts.whole(context.outputGradient)) {
      if (o.leftGradient) {
        ways.push([`to the ${o.words[0]}`, () => productView(state, "a", context, {
          n: o.left.batch === 1 ? 0 : n, left: o.upstream, right: transpose(o.right), result: o.leftGradient, known: context.known.gradient,
          kinds: ["gradient", "value", "gradient"], captions: ["upstream", o.weightTurned ? "weight" : `${o.symbols[1]}ᵀ`, "gradient"],
          sumOver: o.left.batch === 1 ? o.out.batch : 1,
          word: `gradient of ${o.names[0]}`,
        })]);
      }
      if (o.rightGradient) {
        const shared = o.right.batch === 1 ? o.out.batch : 1;
        ways.push([o.weightTurned ? "to the weight" : `to the ${o.words[1]}`, () => (o.weightTurned
          ? productView(state, "b", context, {
              n, left: transpose(o.upstream), right: o.left, result: transpose(o.rightGradient), known: context.known.gradient,
              kinds: ["gradient", "value", "gradient"], captions: ["upstreamᵀ", "input", "gradient"],
              word: "gradient of weight",
            })
          : productView(state, "b", context, {
              n: shared > 1 ? 0 : n, left: transpose(o.left), right: o.upstream, result: o.rightGradient, known: context.known.gradient,
              kinds: ["value", "gradient", "gradient"], captions: [`${o.symbols[0]}ᵀ`, "upstream", "gradient"], sumOver: shared,
              word: `gradient of ${o.names[1]}`,
            }))]);
      }
    }
    if (o.bias && ways.length > 0 && parts.whole(context.inputGradient("bias"))) {
      const terms = (j) => Array.from({ length: o.upstream.rows }, (_, i) => ({ words: `row ${i}`, value: o.upstream.at(0, i, j) }));
      ways.push(["to the bias", () => parts.biasGradient(state, context, again, { gradient: context.inputGradient("bias"), terms, place: "row of the output" })]);
    }
    if (ways.length === 0) {
      return [batch, ...productView(state, "f", context, {
        n, left: o.left, right: o.right, result: o.out, known: context.known.output, kinds: ["value", "value", "value"],
        captions: [o.words[0], o.words[1], "output"], word: "output",
        extra: o.bias ? (i, j) => ({ words: "bias", value: o.bias.data[j] }) : null,
      })];
    }
    state.way = Math.min(state.way ?? 0, ways.length - 1);
    const chosen = parts.tabs({
      label: "which gradient", names: ways.map((w) => w[0]), value: state.way,
      onChange(i) {
        state.way = i;
        again();
      },
    });
    return [chosen, batch, ...ways[state.way][1]()];
  }

  explain.registerView(["linear", "matmul", "mm", "bmm"], {
    title: "Row times column",
    accepts(context) {
      const names = { linear: ["input", "weight"], matmul: ["input", "other"] }[context.node.op] || ["input", "mat2"];
      const tensors = names.map((name) => context.input(name));
      if (![...tensors, context.output].every(parts.whole)) return false;
      const [a, b] = tensors.map((t) => t.shape.slice(0, -2).join());
      return context.node.op === "linear" || a === b || b === "" || a === "";
    },
    mount: (container, context) => parts.redrawn(container, context, draw),
  });
})(globalThis.explain);
