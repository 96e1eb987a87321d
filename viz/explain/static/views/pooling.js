/* Pooling: each window gives its largest element, or its mean; going back, the gradient goes to that element, or is shared out. */
((explain) => {
  const { create, parts } = explain;
  const ADAPTIVE = /^adaptive_/;

  /** Where the window of output (y, x) lies: [top, bottom) and [left, right) inside the input, and by what its sum is divided. */
  function geometry(context) {
    const [batch, channels, height, width] = context.input("input").shape;
    const [, , outHeight, outWidth] = context.output.shape;
    const { attributes, op } = context.node;
    const sizes = { batch, channels, height, width, outHeight, outWidth, padY: 0, padX: 0 };
    if (ADAPTIVE.test(op)) {
      const [startY, startX] = [(y) => Math.floor((y * height) / outHeight), (x) => Math.floor((x * width) / outWidth)];
      const [stopY, stopX] = [(y) => Math.ceil(((y + 1) * height) / outHeight), (x) => Math.ceil(((x + 1) * width) / outWidth)];
      return {
        ...sizes,
        window(y, x) {
          const [top, bottom, left, right] = [startY(y), stopY(y), startX(x), stopX(x)];
          return { top, bottom, left, right, spreadY: 1, spreadX: 1, divisor: (bottom - top) * (right - left) };
        },
      };
    }
    const [rows, columns] = parts.pair(attributes.kernel_size);
    const stride = attributes.stride === null || attributes.stride === undefined ? attributes.kernel_size : attributes.stride;
    const [stepY, stepX] = parts.pair(stride);
    const [padY, padX] = parts.pair(attributes.padding);
    const [spreadY, spreadX] = parts.pair(attributes.dilation ?? 1);
    const clip = (start, spread) => (start < 0 ? start + Math.ceil(-start / spread) * spread : start);
    return {
      ...sizes,
      window(y, x) {
        const [first, side] = [y * stepY - padY, x * stepX - padX];
        const [end, edge] = [first + (rows - 1) * spreadY + 1, side + (columns - 1) * spreadX + 1];
        const [top, left] = [clip(first, spreadY), clip(side, spreadX)];
        const [bottom, right] = [Math.min(end, height), Math.min(edge, width)];
        const padded = (Math.min(first + rows, height + padY) - first) * (Math.min(side + columns, width + padX) - side);
        const divisor = attributes.divisor_override || (attributes.count_include_pad ? padded : (bottom - top) * (right - left));
        return { top, bottom, left, right, spreadY, spreadX, divisor };
      },
    };
  }

  const rowsOf = (w) => Math.ceil((w.bottom - w.top) / w.spreadY);
  const columnsOf = (w) => Math.ceil((w.right - w.left) / w.spreadX);
  const block = (w, kind) => ({ row: w.top, column: w.left, rows: w.bottom - w.top, columns: w.right - w.left, kind });

  /** Flat position, in its plane, of the element that output (y, x) took: the engine's own indices. */
  function winner(context, n, c, y, x) {
    return context.outputs && context.outputs[1] ? context.outputs[1].at(n, c, y, x) : undefined;
  }

  function draw(state, context, again) {
    const g = geometry(context);
    const isMax = context.node.op.includes("max");
    const backward = context.pass === "backward" && parts.whole(context.outputGradient) && parts.whole(context.inputGradient("input"));
    const input = context.input("input");
    const { output } = context;
    const upstream = context.outputGradient;
    const gradient = context.inputGradient("input");
    for (const name of ["n", "c"]) state[name] ??= 0;
    const place = (p) => [Math.floor(p / g.outWidth), p % g.outWidth];
    state.p ??= parts.strongest(g.outHeight * g.outWidth, (p) => {
      const [value, coming] = [output, upstream].map((t) => (t ? t.at(state.n, state.c, ...place(p)) : 0));
      return backward ? coming * (value === 0 ? 1e-6 : 1) : value; // rather not where ReLU cut everything off
    });
    const detail = create("div", { class: "view-detail" });
    const shown = (tensor, known) => (y, x) => (known ? tensor.at(state.n, state.c, y, x) : undefined);
    const all = { rows: g.height, columns: g.width };
    const small = { rows: g.outHeight, columns: g.outWidth, onClick: (y, x) => steps.set(y * g.outWidth + x) };
    const source = backward
      ? parts.map({ ...all, tensor: gradient, kind: "gradient", caption: "gradient of the input", at: shown(gradient, context.known.gradient),
          onHover: (over) => over && context.select(gradient, [state.n, state.c, ...over]) })
      : parts.map({ ...all, tensor: input, caption: "input", at: shown(input, true),
          onHover: (over) => over && context.select(input, [state.n, state.c, ...over]) });
    const result = backward
      ? parts.map({ ...small, tensor: upstream, kind: "gradient", caption: "gradient of the output", at: shown(upstream, true),
          onHover: (over) => over && context.select(upstream, [state.n, state.c, ...over]) })
      : parts.map({ ...small, tensor: output, caption: "output", at: shown(output, context.known.output),
          onHover: (over) => over && context.select(output, [state.n, state.c, ...over]) });

    /** Small marks where the maxima came from, unless they would cover everything. */
    function origins() {
      const found = [];
      if (isMax && g.outHeight * g.outWidth <= 400) {
        for (let p = 0; p < g.outHeight * g.outWidth; p += 1) {
          const flat = winner(context, state.n, state.c, ...place(p));
          if (flat !== undefined) found.push({ row: Math.floor(flat / g.width), column: flat % g.width, rows: 1, columns: 1, kind: "dot" });
        }
      }
      return found;
    }

    function show(p) {
      state.p = p;
      const [y, x] = place(p);
      const w = g.window(y, x);
      const flat = isMax ? winner(context, state.n, state.c, y, x) : undefined;
      const took = flat === undefined ? null : { row: Math.floor(flat / g.width), column: flat % g.width };
      source.highlight([...(backward ? [] : origins()), block(w, "window"), ...(took ? [{ ...took, rows: 1, columns: 1, kind: "chosen" }] : [])]);
      result.highlight([{ row: y, column: x, rows: 1, columns: 1, kind: "window" }]);
      const at = (i, j) => [w.top + i * w.spreadY, w.left + j * w.spreadX];
      const isTook = (i, j) => took !== null && at(i, j)[0] === took.row && at(i, j)[1] === took.column;
      const same = { rows: rowsOf(w), columns: columnsOf(w), mark: isTook };
      const fits = same.columns <= 7 && same.rows <= 16;
      const values = fits
        ? parts.grid({ ...same, caption: "window", range: parts.nonNegative(input) ? [0, parts.limit(input)] : null, limit: parts.limit(input),
            at: (i, j) => input.at(state.n, state.c, ...at(i, j)) })
        : "";
      if (!backward) {
        let computed = isMax ? -Infinity : 0;
        for (let i = 0; i < same.rows; i += 1) {
          for (let j = 0; j < same.columns; j += 1) {
            const value = input.at(state.n, state.c, ...at(i, j));
            computed = isMax ? Math.max(computed, value) : computed + value / w.divisor;
          }
        }
        detail.replaceChildren(
          parts.row(values),
          parts.say(isMax && took ? `The largest element is at row ${took.row}, column ${took.column} of the input.` : `The sum of the window, divided by ${w.divisor}.`),
          parts.total({
            name: `output [${state.n}, ${state.c}, ${y}, ${x}]`, computed,
            engine: context.known.output ? output.at(state.n, state.c, y, x) : null,
          }),
        );
        return;
      }
      const arriving = upstream.at(state.n, state.c, y, x);
      const share = (i, j) => (isMax ? (isTook(i, j) ? arriving : 0) : arriving / w.divisor);
      detail.replaceChildren(
        parts.row(
          values,
          create("span", { class: "view-sign", text: "←" }),
          fits ? parts.grid({ ...same, kind: "gradient", caption: "each gets", at: share, limit: parts.limit(upstream) }) : "",
        ),
        parts.say(
          isMax
            ? `The whole gradient ${explain.number(arriving)} goes to the element that was the largest, row ${took ? took.row : "?"}, column ${took ? took.column : "?"}; the others get nothing, because changing them a little changes nothing.`
            : `The gradient ${explain.number(arriving)} is shared: each element gets 1/${w.divisor} of it, ${explain.number(arriving / w.divisor)}.`,
        ),
        arrival(took || { row: w.top, column: w.left }),
      );
    }

    /** All that one input element gets, where windows overlap: the sum that the engine has. */
    function arrival({ row, column }) {
      let computed = 0;
      let windows = 0;
      for (let p = 0; p < g.outHeight * g.outWidth; p += 1) {
        const [y, x] = place(p);
        const w = g.window(y, x);
        const within = row >= w.top && row < w.bottom && column >= w.left && column < w.right
          && (row - w.top) % w.spreadY === 0 && (column - w.left) % w.spreadX === 0;
        if (!within) continue;
        if (!isMax) computed += upstream.at(state.n, state.c, y, x) / w.divisor;
        else if (winner(context, state.n, state.c, y, x) === row * g.width + column) computed += upstream.at(state.n, state.c, y, x);
        else continue;
        windows += 1;
      }
      return parts.total({
        name: `gradient of input [${state.n}, ${state.c}, ${row}, ${column}]${windows > 1 ? `, from ${windows} windows` : ""}`,
        kind: "gradient", computed, engine: context.known.gradient ? gradient.at(state.n, state.c, row, column) : null,
      });
    }

    const set = (name) => (value) => {
      state[name] = value;
      again();
    };
    const steps = parts.stepper({
      label: "window", count: g.outHeight * g.outWidth, value: state.p,
      describe: (p) => `row ${place(p)[0]}, column ${place(p)[1]}`, onChange: show, interval: 500,
    });
    state.stop = steps.stop;
    show(state.p);
    return [
      parts.row(
        parts.choice({ label: "image", count: g.batch, value: state.n, onChange: set("n") }),
        parts.choice({ label: "channel", count: g.channels, value: state.c, onChange: set("c") }),
      ),
      steps.element,
      backward ? parts.row(result.figure, source.figure) : parts.row(source.figure, result.figure),
      detail,
    ];
  }

  explain.registerView(["max_pool2d_with_indices", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d_with_indices"], {
    title: "Pooling, window by window",
    accepts(context) {
      return [context.input("input"), context.output].every((t) => parts.whole(t) && t.shape.length === 4);
    },
    mount: (container, context) => parts.redrawn(container, context, draw),
  });
})(globalThis.explain);
