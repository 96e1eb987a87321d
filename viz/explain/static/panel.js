((explain) => {
  const MOST_PARTS = 12;
  const PASSES = { start: "Start", forward: "Forward", backward: "Backward", end: "End" };

  const put = (id, tree, display = false) => {
    const place = explain.byId(id);
    place.hidden = !tree;
    explain.fill(place, tree ? explain.math(tree, display) : null);
    shrink(place);
  };

  /** Long formulas get smaller letters, down to a readable size; longer ones scroll. */
  const shrink = (place) => {
    place.style.fontSize = "";
    const share = place.clientWidth / place.scrollWidth;
    if (share < 1) place.style.fontSize = `${Math.max(0.66, share - 0.01)}em`;
  };

  const sourceText = (node) =>
    node?.source ? `${node.source[0]}, line ${node.source[1]}${node.source[2] ? `: ${node.source[2]}` : ""}` : "";

  /** What one step says: formula in symbols, local derivative, numbers, pattern, source line. `asked`: hide the numbers. */
  explain.showStep = (model, visible, asked) => {
    const steps = visible.raw.map((raw) => model.data.steps[raw]);
    const step = steps[steps.length - 1];
    const several = steps.length > 1;
    const cluster = visible.box && model.clusters.get(visible.box);
    explain.byId("pass").textContent = PASSES[step.pass];
    explain.byId("step").dataset.pass = step.pass;
    put("step-math", several ? null : step.math, true);
    put("step-local", several || asked ? null : step.local);
    put("step-numbers", several || asked ? null : step.numbers);
    put("step-size", several || asked ? null : step.size);
    explain.byId("step-pattern").textContent = several ? "" : step.pattern;
    explain.byId("step-why").textContent = several
      ? `${cluster.label}: ${cluster.summary}. Open its box to go through it step by step.`
      : step.why;
    const source = several ? "" : sourceText(model.nodes.get(step.node));
    explain.byId("step-source").textContent = source;
    explain.byId("step-source").hidden = !source;
    const parts = explain.byId("step-parts");
    parts.hidden = !several;
    const shown = several ? steps.slice(0, MOST_PARTS) : [];
    explain.fill(
      parts,
      ...shown.map((part) =>
        explain.create(
          "li",
          {},
          explain.math(part.math),
          part.numbers ? explain.create("div", { class: "part-numbers" }, explain.math(part.numbers)) : null,
        ),
      ),
    );
    if (steps.length > MOST_PARTS) parts.append(explain.create("li", { text: `and ${steps.length - MOST_PARTS} more` }));
  };

  /** The step in words, for the live region. `asked`: what a quiz asks for, such as "dL/da", or "". */
  explain.stepWords = (model, visible, asked) => {
    const steps = visible.raw.map((raw) => model.data.steps[raw]);
    const step = steps[steps.length - 1];
    if (steps.length > 1) {
      const cluster = model.clusters.get(visible.box);
      return `${PASSES[step.pass]}, layer ${cluster.label}, ${cluster.summary}.`;
    }
    if (asked) return `${PASSES[step.pass]}. What is ${asked}? Type it.`;
    const pattern = step.pattern ? ` ${step.pattern}.` : "";
    const phase = step.pass === "start" || step.pass === "end" ? "" : `${PASSES[step.pass]}. `;
    return `${phase}${step.text.replace(/\.$/, "")}.${pattern}`;
  };

  /** The operator view in the side panel: mounted for one node at a time, told of every step. */
  class ViewHost {
    constructor(model, state) {
      this.model = model;
      this.state = state;
      this.node = null;
      this.handlers = null;
      const button = explain.byId("view-enlarge");
      button.addEventListener("click", () => {
        const large = document.body.classList.toggle("view-is-large");
        button.setAttribute("aria-pressed", String(large));
        button.textContent = large ? "smaller" : "enlarge";
        this.handlers?.update?.(this.context);
      });
    }

    /** Shows the view of `node`, if it has one. */
    show(node) {
      const panel = explain.byId("view-panel");
      const place = explain.byId("operator-view");
      if (node && this.node === node) {
        this.context = this.#context(node);
        this.handlers?.update?.(this.context);
        return;
      }
      this.handlers?.destroy?.();
      [this.handlers, this.node] = [null, node];
      place.replaceChildren();
      const context = node && node.kind === "operator" ? this.#context(node) : null;
      const view = context && explain.viewFor(context);
      panel.hidden = !view;
      if (!view) {
        delete place.dataset.op;
        document.body.classList.remove("view-is-large");
        return;
      }
      place.dataset.op = node.op;
      explain.byId("view-title").textContent = view.title;
      this.context = context;
      this.handlers = view.mount(place, context) ?? null;
    }

    select(selection) {
      this.handlers?.select?.(selection);
    }

    #context(node) {
      const { model, state } = this;
      const edgeOf = (argument) => model.inputs.get(node.id).find((edge) => edge.argument === argument) ?? null;
      const sourceOf = (edge) => model.nodes.get(edge.source);
      return {
        node,
        input: (argument) => {
          const edge = edgeOf(argument);
          return edge && model.valueOf(sourceOf(edge), edge.output);
        },
        inputGradient: (argument) => {
          const edge = edgeOf(argument);
          return edge && explain.tensor(edge.grad);
        },
        inputNode: (argument) => {
          const edge = edgeOf(argument);
          return edge && sourceOf(edge);
        },
        output: model.valueOf(node),
        outputGradient: model.gradientOf(node),
        outputs: node.values.map((value) => explain.tensor(value)),
        outputGradients: node.grads.map((gradient) => explain.tensor(gradient)),
        // An open question stays open: the views do not show gradients then.
        pass: !state.asked() && (state.pass() === "backward" || state.pass() === "end") ? "backward" : "forward",
        argument: state.argument(node.id),
        known: { output: state.reached().value(node.id), gradient: state.reached().gradient(node.id) },
        selection: state.selection,
        select: (tensor, indices) => state.select(tensor ? { tensor, indices } : null),
        announce: explain.announce,
        reducedMotion: explain.reducedMotion(),
      };
    }
  }

  explain.ViewHost = ViewHost;
})(globalThis.explain);
