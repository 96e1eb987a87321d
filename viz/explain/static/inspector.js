((explain) => {
  const { create } = explain;
  const MOST_CHANNELS = 64;
  const MODES = { table: "Numbers", heatmap: "Heat map", histogram: "Histogram", channels: "Channels" };
  const ENDINGS = { 2: "nd", 3: "rd" };
  const AXES = { 1: ["i"], 2: ["row", "column"], 3: ["c", "y", "x"], 4: ["n", "c", "y", "x"] };

  /** The numbers of one value and of its gradient. */
  class Inspector {
    constructor(state) {
      this.state = state;
      this.chosen = null; // how the reader wants tensors shown; null: as suits each
      this.mode = null;
      this.tab = "value";
      this.root = explain.byId("inspector");
      this.subject = null;
    }

    /** subject: {title, tree, value, gradient, gradientLabel}; `opener` gets the focus back. */
    open(subject, opener) {
      this.subject = subject;
      this.opener = opener;
      this.leading = [];
      if (!subject[this.tab]) this.tab = subject.value ? "value" : "gradient";
      this.root.hidden = false;
      this.#build();
      this.root.scrollIntoView({ block: "nearest", behavior: explain.reducedMotion() ? "auto" : "smooth" });
    }

    close() {
      if (this.root.hidden) return;
      this.root.hidden = true;
      this.subject = null;
      this.state.select(null);
      this.opener?.focus?.({ preventScroll: true });
    }

    get tensor() {
      return this.subject[this.tab];
    }

    /** The play went on: a gradient that is being asked for is hidden. */
    refresh() {
      if (this.subject) this.#build();
    }

    #tabs() {
      const { subject } = this;
      const tab = (name, label) =>
        create("button", {
          type: "button",
          role: "tab",
          id: `tab-${name}`,
          class: name === "value" ? "is-value" : "is-gradient",
          "aria-selected": String(this.tab === name),
          tabindex: this.tab === name ? 0 : -1,
          disabled: !subject[name],
          text: label,
          on: { click: () => this.#choose({ tab: name }) },
        });
      const tabs = create(
        "div",
        { role: "tablist", "aria-label": "Value or gradient" },
        tab("value", "value"),
        tab("gradient", subject.gradientLabel ?? "gradient"),
      );
      tabs.addEventListener("keydown", (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        event.preventDefault();
        event.stopPropagation();
        const other = this.tab === "value" ? "gradient" : "value";
        if (subject[other]) this.#choose({ tab: other }, `tab-${other}`);
      });
      return tabs;
    }

    #choose(change, focus) {
      Object.assign(this, change);
      this.#build();
      if (focus) explain.byId(focus)?.focus();
    }

    #modesOf(tensor) {
      if (tensor.size === 1) return [];
      const modes = ["table", "heatmap", "histogram"];
      if (tensor.shape.length >= 3 && tensor.shape[tensor.shape.length - 1] > 1) modes.push("channels");
      return modes;
    }

    #build() {
      const { root, subject, tensor } = this;
      const close = create("button", {
        type: "button",
        id: "inspector-close",
        "aria-label": "Close the numbers",
        text: "×",
        on: { click: () => this.close() },
      });
      const title = create("h2", { id: "inspector-title" }, explain.math(subject.tree), ` ${subject.title}`, close);
      if (!tensor) {
        explain.fill(root, title, create("p", { text: "This value was not kept: it is random, or nothing needs it." }));
        return;
      }
      root.dataset.tensor = String(tensor.id);
      const body = create("div", { id: "inspector-body", role: "tabpanel", "aria-labelledby": `tab-${this.tab}` });
      explain.fill(root, title, this.#tabs(), body);
      if (this.tab === "gradient" && this.state.asked()) {
        body.append(create("p", { text: "Answer the quiz first." }));
        return;
      }
      if (tensor.size === 0) {
        const shape = `empty: ${tensor.dtype}, shape (${tensor.shape.join(", ")}) has no elements`;
        body.append(create("p", { class: "facts", id: "inspector-empty", text: shape }));
        return;
      }
      const modes = this.#modesOf(tensor);
      if (!modes.length) {
        body.append(
          create("p", {
            class: `single ${this.tab === "value" ? "is-value" : "is-gradient"}`,
            id: "inspector-number",
            text: tensor.exact,
          }),
          create("p", { class: "facts", text: `${tensor.dtype}, shape (${tensor.shape.join(", ")})` }),
        );
        return;
      }
      if (!modes.includes(this.chosen))
        this.mode = modes.includes("channels") ? "channels" : tensor.size > 24 && tensor.size <= 8192 ? "heatmap" : "table";
      else this.mode = this.chosen;
      const buttons = modes.map((mode) =>
        create("button", {
          type: "button",
          id: `mode-${mode}`,
          "aria-pressed": String(this.mode === mode),
          text: MODES[mode],
          on: { click: () => this.#choose({ chosen: mode }, `mode-${mode}`) },
        }),
      );
      this.readout = create(
        "p",
        { id: "inspector-readout" },
        create("span", { id: "inspector-position" }),
        " ",
        create("span", { id: "inspector-number", class: this.tab === "value" ? "is-value" : "is-gradient" }),
      );
      body.append(
        create("div", { class: "modes", role: "group", "aria-label": "Show as" }, ...buttons),
        this.#facts(tensor),
        this.#leadingControls(tensor),
        this.#content(tensor),
        this.readout,
      );
      this.#read(null);
    }

    #facts(tensor) {
      const { stats } = tensor;
      const number = explain.number;
      const missing = stats.nan + stats.infinite;
      const of = missing ? " (finite elements)" : "";
      const none = missing === tensor.size && "no element is finite";
      const facts = [
        ["shape", `${explain.shape(tensor.shape)} ${tensor.dtype}`],
        ["range", none || `${number(stats.minimum)} to ${number(stats.maximum)}${of}`],
        ["mean", none || `${number(stats.mean)} ± ${number(stats.deviation)}${of}`],
        ["norm", number(stats.norm)],
        ["zeros", `${Math.round((100 * stats.zeros) / tensor.size)} %`],
        ["NaN", stats.nan],
        ["infinite", stats.infinite],
        ["stored", tensor.complete ? "" : `the first ${explain.shape(tensor.stored)}; the figures are of all`],
        ["pictures", this.#sampling(tensor)],
      ];
      const shown = facts.filter(([, text]) => text);
      return create(
        "dl",
        { class: "facts" },
        ...shown.flatMap(([name, text]) => [create("dt", { text: name }), create("dd", { text })]),
      );
    }

    /** How the whole picture was thinned out, in words; "" where there is none, or it is not shown. */
    #sampling(tensor) {
      if (!tensor.picture || !["heatmap", "channels"].includes(this.mode)) return "";
      const [down, across] = tensor.picture.steps;
      const every = (step, word) => (step === 1 ? `every ${word}` : `every ${step}${ENDINGS[step] ?? "th"} ${word}`);
      const what = down === across ? every(down, "element along each side") : `${every(down, "row")}, ${every(across, "column")}`;
      const of = tensor.shape.length > 2 && tensor.picture.planes < tensor.shape.at(-3) ? ` of the first ${tensor.picture.planes} planes` : "";
      return `${what}${of}, rounded`;
    }

    /** The thinned-out picture where it stands for the planes at `leading`: {rows, columns, at, indices}, or null. */
    #sampled(tensor, leading) {
      const { picture } = tensor;
      const plane = tensor.shape.length > 2 ? (leading[leading.length - 1] ?? 0) : 0;
      if (!picture || plane >= picture.planes || leading.slice(0, -1).some((index) => index > 0)) return null;
      return {
        rows: picture.rows,
        columns: picture.columns,
        at: (row, column) => picture.at(plane, row, column),
        indices: (row, column) => [...leading, row * picture.steps[0], column * picture.steps[1]],
        about: (row, column) => picture.at(plane, row, column),
      };
    }

    /** Steppers for the axes before the last two (before the last three for channels). */
    #leadingControls(tensor) {
      const shown = this.mode === "channels" ? 3 : 2;
      const count = this.mode === "histogram" ? 0 : Math.max(0, tensor.shape.length - shown);
      const pictured = this.mode === "heatmap" && tensor.picture;
      const extent = (axis) =>
        pictured && axis === tensor.shape.length - 3 ? Math.max(tensor.stored[axis], pictured.planes) : tensor.stored[axis];
      this.leading = Array.from({ length: count }, (_, axis) => Math.min(this.leading[axis] ?? 0, extent(axis) - 1));
      const names = AXES[tensor.shape.length] ?? tensor.shape.map((_, axis) => `axis ${axis}`);
      const controls = this.leading.map((index, axis) => {
        const input = create("input", {
          type: "number",
          min: 0,
          max: extent(axis) - 1,
          value: index,
          "aria-label": `index ${names[axis]}, 0 to ${extent(axis) - 1}`,
        });
        input.addEventListener("change", () => {
          this.leading[axis] = Math.max(0, Math.min(extent(axis) - 1, Math.round(Number(input.value)) || 0));
          this.#build();
        });
        return tensor.shape[axis] > 1 ? create("label", { class: "compact", text: `${names[axis]} ` }, input) : null;
      });
      return create("div", { class: "leading" }, ...controls);
    }

    #content(tensor) {
      if (this.mode === "histogram") return this.#histogram(tensor);
      if (this.mode === "channels") return this.#channels(tensor);
      const grid = (this.mode === "heatmap" && this.#sampled(tensor, this.leading)) || this.#grid(tensor, this.leading);
      const label = `${this.tab} ${this.subject.title}, ${grid.rows} rows, ${grid.columns} columns`;
      if (this.mode === "table") {
        const table = explain.numberTable({ ...grid, label, onFocus: (row, column) => this.#read(grid.indices(row, column)) });
        return table.element;
      }
      const map = explain.heatmap({
        ...grid,
        label,
        limit: this.#limit(tensor),
        onHover: (row, column) => this.#hover(map, grid, row, column),
      });
      return create("div", { class: "map-box" }, map.element, this.#scale(tensor));
    }

    #hover(map, grid, row, column) {
      if (!this.subject) return; // closed under the pointer
      map.highlight(row === null ? [] : [{ row, column }]);
      this.#read(row === null ? null : grid.indices(row, column), row === null ? undefined : grid.about?.(row, column));
    }

    #limit(tensor) {
      return Math.max(Math.abs(tensor.stats.minimum), Math.abs(tensor.stats.maximum));
    }

    #scale(tensor) {
      const limit = this.#limit(tensor);
      const bar = create("span", { class: "scale-bar", "aria-hidden": "true" });
      const stops = [-1, -0.5, -0.1, 0, 0.1, 0.5, 1].map((share) => explain.colour(share * limit, limit));
      bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
      return create("p", { class: "scale" }, explain.number(-limit, 3), bar, explain.number(limit, 3));
    }

    /** The last two axes as rows and columns; a vector wraps into lines. */
    #grid(tensor, leading) {
      const rank = tensor.shape.length;
      if (rank === 1) {
        const length = tensor.stored[0];
        const columns = length <= 16 ? length : Math.min(16, Math.ceil(Math.sqrt(length * 2)));
        const place = (row, column) => row * columns + column;
        return {
          rows: Math.ceil(length / columns),
          columns,
          at: (row, column) => tensor.at(place(row, column)),
          indices: (row, column) => (place(row, column) < length ? [place(row, column)] : null),
        };
      }
      const [rows, columns] = tensor.stored.slice(-2);
      return {
        rows,
        columns,
        at: (row, column) => tensor.at(...leading, row, column),
        indices: (row, column) => [...leading, row, column],
      };
    }

    #histogram(tensor) {
      const { minimum, maximum } = tensor.stats;
      const counts = tensor.entry.histogram ?? explain.countBins(tensor.data, minimum, maximum, 20);
      return explain.histogram(
        counts,
        minimum,
        maximum,
        `Histogram of the ${this.tab} ${this.subject.title}: ${tensor.size} numbers, ${explain.number(minimum)} to ${explain.number(maximum)}`,
      );
    }

    #channels(tensor) {
      const rank = tensor.shape.length;
      const axis = rank - 3;
      const sampled = this.#sampled(tensor, [...this.leading, 0]);
      const count = Math.min(sampled ? tensor.picture.planes : tensor.stored[axis], MOST_CHANNELS);
      const [rows, columns] = sampled ? [sampled.rows, sampled.columns] : tensor.stored.slice(-2);
      const isPicture = this.tab === "value" && tensor.stats.minimum >= 0;
      const box = create("div", { class: "channels" });
      const cell = Math.max(2, Math.floor((count === 1 ? 280 : count <= 6 ? 130 : 84) / Math.max(rows, columns)));
      for (let channel = 0; channel < count; channel += 1) {
        const plain = (row, column) => [...this.leading, channel, row, column];
        const grid = this.#sampled(tensor, [...this.leading, channel]) ?? {
          indices: plain,
          at: (row, column) => tensor.at(...plain(row, column)),
        };
        const map = explain.heatmap({
          rows,
          columns,
          cell,
          at: grid.at,
          grey: isPicture,
          low: 0,
          high: tensor.stats.maximum,
          limit: this.#limit(tensor),
          label: `channel ${channel}`,
          onHover: (row, column) => this.#hover(map, grid, row, column),
        });
        box.append(create("figure", {}, map.element, create("figcaption", { text: String(channel) })));
      }
      const more =
        tensor.shape[axis] > count
          ? create("p", { class: "facts", text: `The first ${count} of ${tensor.shape[axis]} channels.` })
          : null;
      return create("div", {}, box, isPicture ? null : this.#scale(tensor), more);
    }

    /** Says which element is pointed at; `about` is its number in a picture, rounded, where the exact one is not stored. */
    #read(indices, about) {
      const { tensor } = this;
      const value = indices && tensor.at(...indices);
      const [position, number] = this.readout.querySelectorAll("span");
      position.textContent = indices ? `[${indices.join(", ")}]` : "Point at an element, or walk with the arrow keys.";
      const rounded = about === undefined ? "" : Number.isNaN(about) ? "not finite" : `≈ ${explain.number(about, 3)}`;
      number.textContent = indices && value !== undefined ? explain.exact(value, tensor.dtype) : rounded;
      this.state.select(indices ? { tensor, indices } : null);
    }
  }

  /** How many of the finite numbers fall into each of `bins` equal parts between low and high. */
  explain.countBins = (data, low, high, bins) => {
    const counts = new Array(bins).fill(0);
    for (const value of data) {
      if (Number.isFinite(value))
        counts[high > low ? Math.min(bins - 1, Math.floor(((value - low) / (high - low)) * bins)) : 0] += 1;
    }
    return counts;
  };

  explain.Inspector = Inspector;
})(globalThis.explain);
