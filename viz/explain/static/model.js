((explain) => {
  /** The graph of the page as it is folded now: which boxes are seen, which steps they take, and what the play has reached. */
  class Model extends EventTarget {
    constructor(data) {
      super();
      this.data = data;
      this.nodes = new Map(data.nodes.map((node, order) => [node.id, { ...node, order }]));
      this.edges = new Map(data.edges.map((edge) => [edge.id, edge]));
      this.clusters = new Map(data.clusters.map((cluster) => [cluster.id, cluster]));
      this.open = new Set(data.clusters.filter((cluster) => !cluster.collapsed).map((cluster) => cluster.id));
      this.inputs = new Map(data.nodes.map((node) => [node.id, []]));
      this.consumers = new Map(data.nodes.map((node) => [node.id, []]));
      for (const edge of data.edges) {
        this.inputs.get(edge.target).push(edge);
        this.consumers.get(edge.source).push(edge);
      }
      this.#times();
      this.#fold();
    }

    /** When, in raw steps, every value and gradient is known. */
    #times() {
      this.valueAt = new Map();
      this.gradientAt = new Map();
      this.edgeAt = new Map();
      this.sharedNodes = new Set();
      this.data.nodes.forEach((node) => node.kind !== "operator" && this.valueAt.set(node.id, 0));
      this.data.steps.forEach((step, i) => {
        if (step.kind === "operator") this.valueAt.set(step.node, i);
        if (step.kind === "seed") this.gradientAt.set(step.node, i);
        if (step.kind === "edge") {
          this.edgeAt.set(step.edges[0], i);
          this.gradientAt.set(this.edges.get(step.edges[0]).source, i);
        }
        if (step.kind === "sum") {
          this.gradientAt.set(step.node, i);
          this.sharedNodes.add(step.node);
        }
      });
    }

    /** The clusters around a cluster or node, outermost first. */
    lineage(cluster) {
      const line = [];
      for (let key = cluster; key; key = this.clusters.get(key).parent) line.push(key);
      return line.reverse();
    }

    /** The box that shows a node: itself, or the outermost closed cluster around it. */
    boxOf(nodeId) {
      return this.lineage(this.nodes.get(nodeId).cluster).find((key) => !this.open.has(key)) ?? nodeId;
    }

    isFolded(box) {
      return this.clusters.has(box);
    }

    /** Computes boxes, frames, wires and visible steps for the clusters that are open. */
    #fold() {
      const boxes = new Map();
      const frames = new Map();
      for (const node of this.nodes.values()) {
        const id = this.boxOf(node.id);
        const cluster = this.clusters.get(id);
        const parent = cluster ? cluster.parent : node.cluster;
        if (!boxes.has(id))
          boxes.set(id, { id, parent, order: node.order, node: cluster ? null : node, cluster: cluster ?? null, members: [] });
        boxes.get(id).members.push(node.id);
        for (const key of this.lineage(parent))
          if (!frames.has(key))
            frames.set(key, {
              id: key,
              parent: this.clusters.get(key).parent,
              order: node.order,
              cluster: this.clusters.get(key),
            });
      }
      for (const output of new Set(this.data.outputs)) {
        const node = this.nodes.get(output);
        boxes.set(`end:${output}`, { id: `end:${output}`, parent: null, order: Infinity, node, terminal: true, members: [] });
      }
      const wires = new Map();
      for (const edge of this.data.edges) {
        const [source, target] = [this.boxOf(edge.source), this.boxOf(edge.target)];
        if (source === target) continue;
        const folded = this.isFolded(source) || this.isFolded(target);
        const key = folded ? `${edge.source}.${edge.output}>${target}` : edge.id;
        if (!wires.has(key))
          wires.set(key, { id: edge.id, source, target, node: this.nodes.get(edge.source), output: edge.output, edges: [] });
        wires.get(key).edges.push(edge);
      }
      for (const output of new Set(this.data.outputs)) {
        const source = this.boxOf(output);
        wires.set(`end:${output}`, {
          id: `end:${output}`,
          source,
          target: `end:${output}`,
          node: this.nodes.get(output),
          output: 0,
          edges: [],
          terminal: true,
        });
      }
      this.boxes = boxes;
      this.frames = frames;
      this.wires = [...wires.values()];
      this.steps = [];
      this.data.steps.forEach((step, raw) => {
        const box = step.node ? this.boxOf(step.node) : null;
        const before = this.steps[this.steps.length - 1];
        if (box && this.isFolded(box) && before && before.box === box && before.pass === step.pass) before.raw.push(raw);
        else this.steps.push({ box, pass: step.pass, raw: [raw] });
      });
    }

    /** Opens or closes a cluster. */
    toggle(cluster) {
      if (!this.open.delete(cluster)) this.open.add(cluster);
      this.#fold();
      this.dispatchEvent(new Event("fold"));
    }

    /** The visible step that holds a raw step. */
    indexOfRaw(raw) {
      let index = this.steps.findIndex((step) => step.raw[step.raw.length - 1] >= raw);
      if (index < 0) index = this.steps.length - 1;
      return index;
    }

    /** The step's data: the last raw step of a visible one. */
    stepData(index) {
      const { raw } = this.steps[index];
      return this.data.steps[raw[raw.length - 1]];
    }

    valueOf(node, output = 0) {
      return explain.tensor(node.values.length ? node.values[output] : node.value);
    }

    gradientOf(node, output = 0) {
      return explain.tensor(node.grads.length ? node.grads[output] : node.grad);
    }

    /** What a wire shows below itself: the gradient that its uses contribute; null where several tensors would have to be added. */
    wireGradient(wire) {
      if (wire.terminal)
        return {
          tensor: explain.tensor(this.seedOf(wire.node)),
          at: this.data.steps.findIndex((step) => step.kind === "seed" && step.node === wire.node.id),
        };
      const flowing = wire.edges.filter((edge) => edge.grad !== null);
      if (!flowing.length) return null;
      const at = Math.max(...flowing.map((edge) => this.edgeAt.get(edge.id) ?? Infinity));
      if (flowing.length === 1) return { tensor: explain.tensor(flowing[0].grad), at };
      const all = this.consumers.get(wire.node.id).filter((edge) => edge.output === wire.output && edge.grad !== null);
      return all.length === flowing.length ? { tensor: this.gradientOf(wire.node, wire.output), at } : null;
    }

    /** The gradient that an output starts with: all ones, which is its own gradient where nothing else uses it. */
    seedOf(node) {
      const uses = this.consumers.get(node.id).filter((edge) => edge.grad !== null);
      return uses.length ? null : node.grads.length ? node.grads[0] : node.grad;
    }

    /** Words for a box, for screen readers. `reached` says what the play has come to. */
    describe(box, reached) {
      if (box.cluster) return `layer ${box.cluster.label}: ${box.cluster.summary}; closed`;
      const { node } = box;
      const parts = [
        node.kind === "operator"
          ? `${node.name ?? node.symbol + node.subscript} = ${node.label}`
          : `${node.kind} ${node.name ?? node.symbol}`,
      ];
      if (node.shape.length) parts.push(`shape ${node.shape.join(" by ")}`);
      const [value, gradient] = [this.valueOf(node), this.gradientOf(node)];
      if (value && reached.value(node.id))
        parts.push(value.size === 1 ? `value ${value.brief}` : `norm ${explain.number(value.stats.norm)}`);
      if (gradient && reached.gradient(node.id))
        parts.push(gradient.size === 1 ? `gradient ${gradient.brief}` : `gradient norm ${explain.number(gradient.stats.norm)}`);
      return parts.join(", ");
    }
  }

  explain.Model = Model;
})(globalThis.explain);
