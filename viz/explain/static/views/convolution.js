/* Convolution: the filter slides over the input; in each window the products are added up. Going back, the same windows carry gradients. */
((explain) => {
  const { create, parts } = explain;

  /** Sizes and attributes of a convolution node, and where output position (y, x) finds tap (i, j) in the input. */
  function geometry(context) {
    const { shape: [batch, channels, height, width] } = context.input("input");
    const { shape: [outputs, depth, rows, columns] } = context.input("weight");
    const { attributes } = context.node;
    const [stepY, stepX] = parts.pair(attributes.stride);
    const [padY, padX] = parts.pair(attributes.padding);
    const [spreadY, spreadX] = parts.pair(attributes.dilation);
    const [, , outHeight, outWidth] = context.output.shape;
    const groupOutputs = outputs / attributes.groups;
    return {
      batch, channels, height, width, outputs, depth, rows, columns, padY, padX, spreadY, spreadX, outHeight, outWidth,
      /** Input channel that output channel o sees as its channel k. */
      channel: (o, k) => Math.floor(o / groupOutputs) * depth + k,
      row: (y, i) => y * stepY - padY + i * spreadY,
      column: (x, j) => x * stepX - padX + j * spreadX,
      inside: (y, x) => y >= 0 && y < height && x >= 0 && x < width,
      /** Output positions along one axis that read input position `at`, with the tap they read it by. */
      readersY: (at) => readers(at, stepY, padY, spreadY, rows, outHeight),
      readersX: (at) => readers(at, stepX, padX, spreadX, columns, outWidth),
    };
  }

  function readers(at, step, pad, spread, taps, size) {
    const found = [];
    for (let tap = taps - 1; tap >= 0; tap -= 1) {
      const place = at + pad - tap * spread;
      if (place % step === 0 && place / step >= 0 && place / step < size) found.push({ place: place / step, tap });
    }
    return found;
  }

  /** [black, white] of the input's numbers where they are shown so, as on its map. */
  function ground(context) {
    const input = context.input("input");
    return parts.pictureRange(context, "input") ?? (parts.nonNegative(input) ? [0, parts.limit(input)] : null);
  }

  /** The input with its padding, so that windows at the border can be seen. */
  function paddedMap(context, g, n, channel, extra) {
    const input = context.input("input");
    return parts.map({
      tensor: input,
      range: parts.pictureRange(context, "input"),
      rows: g.height + 2 * g.padY,
      columns: g.width + 2 * g.padX,
      at: (row, column) => (g.inside(row - g.padY, column - g.padX) ? input.at(n, channel, row - g.padY, column - g.padX) : 0),
      ...extra,
    });
  }

  const frame = (g) => ({ row: g.padY, column: g.padX, rows: g.height, columns: g.width, kind: "frame" });

  /** The cells that a window touches: one block, or single cells where the filter is dilated. */
  function windowCells(g, y, x) {
    if (g.spreadY === 1 && g.spreadX === 1) {
      return [{ row: g.row(y, 0) + g.padY, column: g.column(x, 0) + g.padX, rows: g.rows, columns: g.columns, kind: "window" }];
    }
    const cells = [];
    for (let i = 0; i < g.rows; i += 1) {
      for (let j = 0; j < g.columns; j += 1) {
        cells.push({ row: g.row(y, i) + g.padY, column: g.column(x, j) + g.padX, rows: 1, columns: 1, kind: "window" });
      }
    }
    return cells;
  }

  function drawForward(state, context, again) {
    const g = geometry(context);
    const input = context.input("input");
    const weight = context.input("weight");
    const bias = context.input("bias");
    const { output } = context;
    const channel = g.channel(state.o, state.k);
    const place = (p) => [Math.floor(p / g.outWidth), p % g.outWidth];
    const detail = create("div", { class: "view-detail", "aria-live": "off" });
    const source = paddedMap(context, g, state.n, channel, {
      caption: `input${g.channels > 1 ? `, channel ${channel}` : ""}${g.padY + g.padX > 0 ? ", with its padding" : ""}`,
      onHover: (over) => over && g.inside(over[0] - g.padY, over[1] - g.padX)
        && context.select(input, [state.n, channel, over[0] - g.padY, over[1] - g.padX]),
    });
    const result = parts.map({
      tensor: output,
      caption: `output, channel ${state.o}`,
      rows: g.outHeight,
      columns: g.outWidth,
      at: (y, x) => (context.known.output ? output.at(state.n, state.o, y, x) : undefined),
      onClick: (y, x) => steps.set(y * g.outWidth + x),
      onHover: (over) => over && context.select(output, [state.n, state.o, ...over]),
    });

    function show(p) {
      state.p = p;
      const [y, x] = place(p);
      source.highlight([frame(g), ...windowCells(g, y, x)]);
      result.highlight([{ row: y, column: x, rows: 1, columns: 1, kind: "window" }]);
      const seen = (k, i, j) => {
        const [row, column] = [g.row(y, i), g.column(x, j)];
        return g.inside(row, column) ? input.at(state.n, g.channel(state.o, k), row, column) : 0;
      };
      const sums = [];
      for (let k = 0; k < g.depth; k += 1) {
        let sum = 0;
        for (let i = 0; i < g.rows; i += 1) {
          for (let j = 0; j < g.columns; j += 1) sum += seen(k, i, j) * weight.at(state.o, k, i, j);
        }
        sums.push({ words: g.depth > 1 ? `channel ${g.channel(state.o, k)}` : "all products", value: sum });
      }
      if (bias) sums.push({ words: "bias", value: bias.at(state.o) });
      const same = { rows: g.rows, columns: g.columns };
      const product = (i, j) => seen(state.k, i, j) * weight.at(state.o, state.k, i, j);
      let largest = 1e-30;
      for (let i = 0; i < g.rows; i += 1) for (let j = 0; j < g.columns; j += 1) largest = Math.max(largest, Math.abs(product(i, j)));
      const tables = [
        parts.grid({ ...same, caption: "window", at: (i, j) => seen(state.k, i, j), limit: parts.limit(input), range: ground(context) }),
        create("span", { class: "view-sign", text: "×" }),
        parts.grid({ ...same, caption: "filter", at: (i, j) => weight.at(state.o, state.k, i, j), limit: parts.limit(weight) }),
        create("span", { class: "view-sign", text: "=" }),
        parts.grid({ ...same, caption: "products", at: product, limit: largest }),
      ];
      const computed = sums.reduce((sum, part) => sum + part.value, 0);
      detail.replaceChildren(
        g.columns <= 7 ? parts.row(...tables) : "",
        parts.contributions({ caption: "what is added up", parts: sums }),
        parts.total({
          name: `output [${state.n}, ${state.o}, ${y}, ${x}]`,
          computed,
          engine: context.known.output ? output.at(state.n, state.o, y, x) : null,
          scale: sums.reduce((sum, part) => sum + Math.abs(part.value), 0),
        }),
      );
    }

    const steps = parts.stepper({
      label: "position of the filter", count: g.outHeight * g.outWidth, value: state.p,
      describe: (p) => `row ${place(p)[0]}, column ${place(p)[1]}`, onChange: show, interval: 450,
    });
    state.stop = steps.stop;
    show(state.p);
    return [...choices(state, g, again), steps.element, parts.row(source.figure, result.figure), detail];
  }

  function choices(state, g, again) {
    const set = (name) => (value) => {
      state[name] = value;
      again();
    };
    return [
      parts.row(
        parts.choice({ label: "image", count: g.batch, value: state.n, onChange: set("n") }),
        parts.choice({ label: "filter (output channel)", count: g.outputs, value: state.o, onChange: set("o") }),
        parts.choice({
          label: "input channel", count: g.depth, value: state.k, describe: (k) => String(g.channel(state.o, k)), onChange: set("k"),
        }),
      ),
    ];
  }

  /** dL/dinput: the transposed convolution. Every window that read this element sends its gradient back, times the tap it read by. */
  function drawInputGradient(state, context, again) {
    const g = geometry(context);
    const weight = context.input("weight");
    const upstream = context.outputGradient;
    const gradient = context.inputGradient("input");
    const channel = g.channel(state.o, state.k);
    const detail = create("div", { class: "view-detail" });
    const first = Math.floor(channel / g.depth) * (g.outputs / context.node.attributes.groups);
    const last = first + g.outputs / context.node.attributes.groups;
    const from = parts.map({
      tensor: upstream, kind: "gradient", rows: g.outHeight, columns: g.outWidth, caption: `gradient of output channel ${state.o}`,
      at: (y, x) => upstream.at(state.n, state.o, y, x),
      onHover: (over) => over && context.select(upstream, [state.n, state.o, ...over]),
    });
    const to = parts.map({
      tensor: gradient, kind: "gradient", rows: g.height, columns: g.width, caption: `gradient of input channel ${channel}`,
      at: (row, column) => (context.known.gradient ? gradient.at(state.n, channel, row, column) : undefined),
      onClick: (row, column) => steps.set(row * g.width + column),
      onHover: (over) => over && context.select(gradient, [state.n, channel, ...over]),
    });
    const place = (p) => [Math.floor(p / g.width), p % g.width];

    function show(q) {
      state.q = q;
      const [row, column] = place(q);
      const [ys, xs] = [g.readersY(row), g.readersX(column)];
      from.highlight(ys.flatMap((y) => xs.map((x) => ({ row: y.place, column: x.place, rows: 1, columns: 1, kind: "window" }))));
      to.highlight([{ row, column, rows: 1, columns: 1, kind: "window" }]);
      const sums = [];
      for (let o = first; o < last; o += 1) sums.push({ words: `filter ${o}`, value: sentBack(context, g, state.n, o, state.k, row, column) });
      const same = { rows: ys.length, columns: xs.length, kind: "gradient" };
      const product = (i, j) =>
        upstream.at(state.n, state.o, ys[i].place, xs[j].place) * weight.at(state.o, state.k, ys[i].tap, xs[j].tap);
      const tables = [
        parts.grid({ ...same, caption: "their gradients", limit: parts.limit(upstream),
          at: (i, j) => upstream.at(state.n, state.o, ys[i].place, xs[j].place) }),
        create("span", { class: "view-sign", text: "×" }),
        parts.grid({ ...same, kind: "value", caption: "filter, turned round", limit: parts.limit(weight),
          at: (i, j) => weight.at(state.o, state.k, ys[i].tap, xs[j].tap) }),
        create("span", { class: "view-sign", text: "=" }),
        parts.grid({ ...same, caption: "products", at: product, limit: Math.max(parts.limit(upstream) * parts.limit(weight), 1e-30) }),
      ];
      detail.replaceChildren(
        ys.length * xs.length === 0 ? parts.say("No window read this element: its gradient is 0.") : "",
        xs.length > 0 && xs.length <= 7 ? parts.row(...tables) : "",
        parts.contributions({ caption: "what each filter sends back", parts: sums, kind: "gradient" }),
        parts.total({
          name: `gradient of input [${state.n}, ${channel}, ${row}, ${column}]`, kind: "gradient",
          computed: sums.reduce((sum, part) => sum + part.value, 0),
          engine: context.known.gradient ? gradient.at(state.n, channel, row, column) : null,
          scale: sums.reduce((sum, part) => sum + Math.abs(part.value), 0),
        }),
      );
    }

    const steps = parts.stepper({
      label: "element of the input", count: g.height * g.width, value: state.q,
      describe: (p) => `row ${place(p)[0]}, column ${place(p)[1]}`, onChange: show, interval: 450,
    });
    state.stop = steps.stop;
    show(state.q);
    return [
      parts.say("Every output that read this element sends its gradient back, times the weight it read it with."),
      ...choices(state, g, again), steps.element, parts.row(from.figure, to.figure), detail,
    ];
  }

  /** dL/dweight: a weight met one input element in every window; its gradient adds them up, each times its window's gradient. */
  function drawWeightGradient(state, context, again) {
    const g = geometry(context);
    const input = context.input("input");
    const upstream = context.outputGradient;
    const gradient = context.inputGradient("weight");
    const channel = g.channel(state.o, state.k);
    const detail = create("div", { class: "view-detail" });
    const source = paddedMap(context, g, state.n, channel, { caption: `input, channel ${channel}` });
    const from = parts.map({
      tensor: upstream, kind: "gradient", rows: g.outHeight, columns: g.outWidth, caption: `gradient of output channel ${state.o}`,
      at: (y, x) => upstream.at(state.n, state.o, y, x),
      onHover: (over) => {
        const [i, j] = place(state.w);
        const met = over ? [{ row: g.row(over[0], i) + g.padY, column: g.column(over[1], j) + g.padX, rows: 1, columns: 1, kind: "window" }] : [];
        source.highlight([frame(g), ...readBy(i, j), ...met]);
        if (over) context.select(upstream, [state.n, state.o, ...over]);
      },
    });
    const place = (p) => [Math.floor(p / g.columns), p % g.columns];

    /** The block of the input that this weight met, one element for each window. */
    function readBy(i, j) {
      const top = g.row(0, i) + g.padY;
      const left = g.column(0, j) + g.padX;
      const bottom = g.row(g.outHeight - 1, i) + g.padY;
      const right = g.column(g.outWidth - 1, j) + g.padX;
      return [{ row: top, column: left, rows: bottom - top + 1, columns: right - left + 1, kind: "read" }];
    }

    function show(p) {
      state.w = p;
      const [i, j] = place(p);
      source.highlight([frame(g), ...readBy(i, j)]);
      const sums = [];
      for (let n = 0; n < g.batch; n += 1) {
        for (let y = 0; y < g.outHeight; y += 1) {
          for (let x = 0; x < g.outWidth; x += 1) {
            const [row, column] = [g.row(y, i), g.column(x, j)];
            if (!g.inside(row, column)) continue;
            const value = upstream.at(n, state.o, y, x) * input.at(n, channel, row, column);
            if (value !== 0) sums.push({ words: `${g.batch > 1 ? `image ${n}, ` : ""}window ${y}, ${x}`, value });
          }
        }
      }
      const largest = parts.limit(gradient);
      detail.replaceChildren(
        parts.row(parts.grid({
          rows: g.rows, columns: Math.min(g.columns, 7), caption: "gradient of the filter", kind: "gradient", limit: largest,
          at: (a, b) => (context.known.gradient ? gradient.at(state.o, state.k, a, b) : undefined), mark: (a, b) => a === i && b === j,
        })),
        sums.length > 0
          ? parts.contributions({ caption: "gradient of a window × what the weight met there", parts: sums, kind: "gradient", most: 6 })
          : parts.say("Every product is 0 here."),
        parts.total({
          name: `gradient of weight [${state.o}, ${state.k}, ${i}, ${j}]`, kind: "gradient",
          computed: sums.reduce((sum, part) => sum + part.value, 0),
          engine: context.known.gradient ? gradient.at(state.o, state.k, i, j) : null,
          scale: sums.reduce((sum, part) => sum + Math.abs(part.value), 0),
        }),
      );
    }

    const steps = parts.stepper({
      label: "weight of the filter", count: g.rows * g.columns, value: state.w,
      describe: (p) => `row ${place(p)[0]}, column ${place(p)[1]}`, onChange: show, interval: 700,
    });
    state.stop = steps.stop;
    show(state.w);
    return [
      parts.say("This weight met one input element in every window (outlined). Its gradient adds up those elements, each times the gradient of its window."),
      ...choices(state, g, again), steps.element, parts.row(source.figure, from.figure), detail,
    ];
  }

  function drawBiasGradient(state, context, again) {
    const g = geometry(context);
    const upstream = context.outputGradient;
    const terms = (o) => {
      const found = [];
      for (let n = 0; n < g.batch; n += 1) {
        for (let p = 0; p < g.outHeight * g.outWidth; p += 1) {
          const [y, x] = [Math.floor(p / g.outWidth), p % g.outWidth];
          found.push({ words: `${g.batch > 1 ? `image ${n}, ` : ""}row ${y}, column ${x}`, value: upstream.at(n, o, y, x) });
        }
      }
      return found;
    };
    return parts.biasGradient(state, context, again, { gradient: context.inputGradient("bias"), terms, place: "element of its output channel" });
  }

  /** What filter o sends back to input element (row, column) of the channel that it sees as its channel k. */
  function sentBack(context, g, n, o, k, row, column) {
    let sum = 0;
    for (const y of g.readersY(row)) {
      for (const x of g.readersX(column)) {
        sum += context.outputGradient.at(n, o, y.place, x.place) * context.input("weight").at(o, k, y.tap, x.tap);
      }
    }
    return sum;
  }

  /** Where to begin: at the element with the strongest number, seen from the filter that matters most there. */
  function begin(state, context, g, backward) {
    for (const name of ["n", "k"]) state[name] ??= 0;
    const at = (tensor, first, second, columns) => (p) => tensor.at(first, second, Math.floor(p / columns), p % columns);
    const strongest = (tensor, first, second, rows, columns) => parts.strongest(rows * columns, at(tensor, first, second, columns));
    const [toInput, toWeight] = [context.inputGradient("input"), context.inputGradient("weight")];
    if (backward && parts.whole(toInput)) {
      state.q ??= strongest(toInput, state.n, g.channel(state.o ?? 0, state.k), g.height, g.width);
      const place = [Math.floor(state.q / g.width), state.q % g.width];
      const group = g.outputs / context.node.attributes.groups;
      state.o ??= parts.strongest(group, (o) => sentBack(context, g, state.n, o, state.k, ...place));
    }
    state.o ??= 0;
    state.p ??= strongest(context.output, state.n, state.o, g.outHeight, g.outWidth);
    if (backward && parts.whole(toWeight)) state.w ??= strongest(toWeight, state.o, state.k, g.rows, g.columns);
  }

  function draw(state, context, again) {
    const g = geometry(context);
    const backward = context.pass === "backward" && parts.whole(context.outputGradient);
    begin(state, context, g, backward);
    const ways = [];
    if (backward && parts.whole(context.inputGradient("input"))) ways.push(["to the input", drawInputGradient]);
    if (backward && parts.whole(context.inputGradient("weight"))) ways.push(["to the filter", drawWeightGradient]);
    if (backward && parts.whole(context.inputGradient("bias"))) ways.push(["to the bias", drawBiasGradient]);
    if (ways.length === 0) return drawForward(state, context, again);
    state.way = Math.min(state.way ?? 0, ways.length - 1);
    const chosen = parts.tabs({
      label: "which gradient", names: ways.map((w) => w[0]), value: state.way,
      onChange(i) {
        state.way = i;
        again();
      },
    });
    return [chosen, ...ways[state.way][1](state, context, again)];
  }

  explain.registerView(["conv2d"], {
    title: "Convolution, window by window",
    accepts(context) {
      const tensors = [context.input("input"), context.input("weight"), context.output];
      return tensors.every((t) => t && t.complete && t.shape.length === 4 && t.size > 0) && typeof context.node.attributes.padding !== "string";
    },
    mount: (container, context) => parts.redrawn(container, context, draw),
  });
})(globalThis.explain);
