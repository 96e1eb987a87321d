((explain) => {
  const { create } = explain;

  /**
   * A matrix as coloured cells on a canvas. Arrow keys walk through it.
   * @param options {rows, columns, at(row, column), limit, low, high, grey, cell (pixels, at most), label, onHover(row, column)}
   * onHover gets null, null when the pointer leaves.
   * @returns {{element, draw(), highlight(marks)}} marks: [{row, column, rows = 1, columns = 1, kind}], framed as `mark is-KIND`
   */
  explain.heatmap = (options) => {
    const { rows, columns, at, label, onHover } = options;
    const canvas = create("canvas", {
      width: Math.max(columns, 1),
      height: Math.max(rows, 1),
      role: "img",
      "aria-label": label,
      tabindex: onHover ? 0 : null,
    });
    const marks = create("div", { class: "marks", "aria-hidden": "true" });
    const element = create("div", { class: "heatmap" }, canvas, marks);
    const cell = Math.max(1, Math.min(options.cell ?? 22, Math.floor(440 / Math.max(columns, 1)) || 1));
    element.style.width = `${columns * cell}px`;
    element.style.aspectRatio = `${columns} / ${rows}`;
    let cursor = null;

    const draw = () => {
      const context = canvas.getContext("2d");
      const image = context.createImageData(columns, rows);
      const dark = explain.theme() === "dark"; // asked once: it is slow
      for (let row = 0, i = 0; row < rows; row += 1) {
        for (let column = 0; column < columns; column += 1, i += 4) {
          const value = at(row, column);
          const colour =
            value === undefined
              ? null
              : options.grey
                ? explain.greyChannels(value, options.low, options.high)
                : explain.colourChannels(value, options.limit, dark);
          if (colour) [image.data[i], image.data[i + 1], image.data[i + 2]] = colour;
          image.data[i + 3] = colour ? 255 : 0;
        }
      }
      context.putImageData(image, 0, 0);
    };

    const highlight = (list) => {
      marks.replaceChildren(
        ...list.map((mark) => {
          const frame = create("div", { class: `mark is-${mark.kind ?? "cell"}` });
          frame.style.left = `${(100 * mark.column) / columns}%`;
          frame.style.top = `${(100 * mark.row) / rows}%`;
          frame.style.width = `${(100 * (mark.columns ?? 1)) / columns}%`;
          frame.style.height = `${(100 * (mark.rows ?? 1)) / rows}%`;
          return frame;
        }),
      );
    };

    if (onHover) {
      canvas.addEventListener("pointermove", (event) => {
        const box = canvas.getBoundingClientRect();
        const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
        const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
        if (row >= 0 && row < rows && column >= 0 && column < columns) {
          cursor = [row, column];
          onHover(row, column);
        }
      });
      canvas.addEventListener("pointerleave", () => onHover(null, null));
      canvas.addEventListener("keydown", (event) => {
        const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
        if (!move) return;
        event.preventDefault();
        event.stopPropagation();
        const [row, column] = cursor ?? [0, -1];
        cursor = [Math.max(0, Math.min(rows - 1, row + move[0])), Math.max(0, Math.min(columns - 1, column + move[1]))];
        onHover(...cursor);
      });
    }
    draw();
    return { element, draw, highlight };
  };

  /** A histogram of counts between two numbers, as bars with a title each. */
  explain.histogram = (counts, low, high, label) => {
    const most = Math.max(1, ...counts);
    const width = 300;
    const step = width / counts.length;
    const bars = counts.map((count, i) => {
      const height = count ? Math.max(1.5, (110 * count) / most) : 0;
      const [from, to] = [low + ((high - low) * i) / counts.length, low + ((high - low) * (i + 1)) / counts.length];
      return explain.svg(
        "rect",
        { class: "bar", x: i * step + 0.5, y: 118 - height, width: step - 1, height },
        explain.svg("title", { text: `${explain.number(from, 3)} to ${explain.number(to, 3)}: ${count}` }),
      );
    });
    const ticks = [
      [0, low, "start"],
      [width, high, "end"],
    ].map(([x, value, anchor]) => explain.svg("text", { x, y: 134, "text-anchor": anchor, text: explain.number(value, 3) }));
    const zero =
      low < 0 && high > 0
        ? [
            explain.svg("line", {
              class: "zero",
              x1: (-low / (high - low)) * width,
              x2: (-low / (high - low)) * width,
              y1: 0,
              y2: 122,
            }),
            explain.svg("text", { x: (-low / (high - low)) * width, y: 134, "text-anchor": "middle", text: "0" }),
          ]
        : [];
    return explain.svg(
      "svg",
      { class: "histogram", viewBox: `0 0 ${width} 138`, role: "img", "aria-label": label },
      ...bars,
      explain.svg("line", { class: "axis", x1: 0, x2: width, y1: 118, y2: 118 }),
      ...zero,
      ...ticks,
    );
  };
})(globalThis.explain);
