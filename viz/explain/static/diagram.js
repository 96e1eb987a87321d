((explain) => {
  const { svg } = explain;
  const { clipped, HEIGHTS, labelSize, measure, widthOf } = explain.boxes;

  const arrowHead = (id, size, className) =>
    svg(
      "marker",
      {
        id,
        viewBox: "0 0 8 8",
        refX: 7,
        refY: 4,
        markerWidth: size,
        markerHeight: size,
        markerUnits: "userSpaceOnUse",
        orient: "auto-start-reverse",
      },
      svg("path", { d: "M0 0 L8 4 L0 8 z", class: className }),
    );

  /** The picture of the graph as it is folded. Emits `pick` events with {box} or {wire}. */
  class Diagram extends EventTarget {
    constructor(root, model) {
      super();
      this.root = root;
      this.model = model;
      this.content = svg("g", { id: "diagram-content" });
      root.append(
        svg("defs", {}, arrowHead("arrow", 10, "arrow-head"), arrowHead("arrow-back", 15, "arrow-head-back")),
        this.content,
      );
    }

    /** Lays everything out again, to the right or downwards, whichever shows more in a stage of this size. */
    build(stage) {
      const { model } = this;
      const sizes = new Map([...model.boxes.values()].map((box) => [box.id, measure(model, box)]));
      const boxes = [...model.boxes.values()].map((box) => ({
        id: box.id,
        parent: box.parent,
        order: box.order,
        width: sizes.get(box.id).width,
        height: sizes.get(box.id).height,
        pin: box.terminal ? "last" : undefined,
      }));
      const frames = [...model.frames.values()].map((frame) => ({
        id: frame.id,
        parent: frame.parent,
        order: frame.order,
        titleWidth: widthOf(frame.cluster.label, 13) + 40,
      }));
      const edges = (horizontal) =>
        model.wires.map((wire) => ({
          id: wire.id,
          source: wire.source,
          target: wire.target,
          label: wire.node.kind === "number" ? null : labelSize(model, wire, horizontal),
          weight: wire.node.kind === "operator" ? 3 : 0.3,
        }));
      const fit = (layout) => Math.min(stage.width / (layout.width + 40), stage.height / (layout.height + 40), 1.4);
      const across = explain.compoundLayout(boxes, frames, edges(true), true);
      const down = explain.compoundLayout(boxes, frames, edges(false), false);
      this.horizontal = stage.width >= 560 && fit(across) >= 0.8 * fit(down);
      this.layout = this.horizontal ? across : down;
      explain.byId("stage").dataset.flow = this.horizontal ? "right" : "down";
      this.sizes = sizes;
      this.#draw();
    }

    #draw() {
      const { layout, model } = this;
      this.boxes = new Map();
      this.wires = new Map();
      this.frames = new Map();
      const [frameLayer, wireLayer, titleLayer, labelLayer, boxLayer] = ["frames", "wires", "titles", "labels", "boxes"].map(
        (name) => svg("g", { class: name }),
      );
      for (const [id, frame] of model.frames) {
        const area = layout.frames.get(id);
        frameLayer.append(
          svg("rect", { class: "frame-area", x: area.x, y: area.y, width: area.width, height: area.height, rx: 12 }),
        );
        titleLayer.append(this.#frameTitle(id, frame, area));
      }
      for (const wire of model.wires) this.#wire(wire, wireLayer, labelLayer);
      const inOrder = [...model.boxes.values()].sort((a, b) => a.order - b.order);
      for (const box of inOrder) boxLayer.append(this.#box(box, layout.boxes.get(box.id)));
      explain.fill(this.content, frameLayer, wireLayer, titleLayer, labelLayer, boxLayer);
      this.paint();
    }

    #activates(element, act) {
      element.addEventListener("click", (event) => {
        event.stopPropagation();
        act();
      });
      element.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        event.stopPropagation();
        act();
      });
    }

    #frameTitle(id, frame, area) {
      const text = `− ${clipped(frame.cluster.label, Math.max(8, Math.floor(area.width / 9)))}`;
      const title = svg(
        "g",
        {
          class: "frame-title",
          role: "button",
          tabindex: 0,
          "aria-expanded": "true",
          "aria-label": `layer ${frame.cluster.label}, open; close it`,
          "data-cluster": id,
        },
        svg("rect", {
          x: area.x + 4,
          y: area.y + 3,
          width: Math.min(widthOf(text, 13) * 1.1 + 14, area.width - 8),
          height: 20,
          rx: 5,
        }),
        svg("text", { x: area.x + 11, y: area.y + 17, text }),
      );
      this.#activates(title, () => this.#emit({ cluster: id }));
      this.frames.set(id, title);
      return title;
    }

    #box(box, area) {
      const { lines, tensor, picture } = this.sizes.get(box.id);
      const kind = box.terminal ? "terminal" : box.cluster ? "layer" : box.node.kind;
      const attributes = { class: `box is-${kind}`, transform: `translate(${area.x} ${area.y})` };
      if (box.terminal) Object.assign(attributes, { "aria-hidden": "true", "data-terminal": box.node.id });
      else
        Object.assign(attributes, {
          role: "button",
          tabindex: 0,
          ...(box.cluster ? { "data-cluster": box.id, "aria-expanded": "false" } : { "data-node": box.id }),
        });
      const group = svg("g", attributes);
      if (box.cluster)
        group.append(svg("rect", { class: "box-stack", x: 4, y: 4, width: area.width, height: area.height, rx: 9 }));
      const round =
        kind === "operator" || kind === "layer"
          ? 9
          : kind === "input" || kind === "terminal"
            ? Math.min(area.height / 2, 24)
            : 2;
      group.append(svg("rect", { class: "box-area", width: area.width, height: area.height, rx: round }));
      const total = lines.reduce((sum, [, style]) => sum + HEIGHTS[style], 0);
      const isShared = box.node && !box.terminal && this.model.sharedNodes.has(box.node.id);
      let y = (area.height - total - (isShared ? 18 : 0) - (picture ? picture.height + 2 : 0)) / 2;
      for (const [text, style] of lines) {
        y += HEIGHTS[style];
        group.append(
          svg("text", { class: style, x: area.width / 2, y: y - HEIGHTS[style] * 0.28, "text-anchor": "middle", text }),
        );
      }
      const parts = { group, box, area, tensor };
      if (picture) {
        const place = { x: (area.width - picture.width) / 2, y: area.height - picture.height - 8, ...picture };
        parts.picture = svg("image", { class: "thumbnails", preserveAspectRatio: "none", "aria-hidden": "true", ...place });
        group.append(parts.picture);
      }
      if (box.node && !box.terminal) {
        parts.value = svg("text", { class: "node-value is-value", x: area.width / 2, y: 0, "aria-hidden": "true" });
        parts.gradient = svg("text", {
          class: `node-gradient is-gradient${isShared ? " is-total" : ""}`,
          x: area.width / 2,
          y: y + 12,
          "text-anchor": "middle",
          "aria-hidden": "true",
        });
        group.append(parts.value, parts.gradient);
      }
      if (!box.terminal) this.#activates(group, () => this.#emit(box.cluster ? { cluster: box.id } : { box }));
      this.boxes.set(box.id, parts);
      return group;
    }

    /** Draws the pictures in the boxes, in the colours of the theme. */
    paint() {
      for (const { picture, tensor } of this.boxes.values()) picture?.setAttribute("href", explain.thumbnails.draw(tensor));
    }

    #wire(wire, wireLayer, labelLayer) {
      const { points, label } = this.layout.edges.get(wire.id);
      const [source, target] = [this.layout.boxes.get(wire.source), this.layout.boxes.get(wire.target)];
      const path = svg("path", { class: "wire", d: this.#path(source, points, target), "marker-end": "url(#arrow)" });
      const gradientPath = svg("path", { class: "wire-back", d: this.#path(source, points, target) });
      const group = svg("g", { class: "wire-group", "data-edge": wire.id }, path, gradientPath);
      wireLayer.append(group);
      const parts = { wire, group, at: this.model.wireGradient(wire) };
      if (label) {
        const size = labelSize(this.model, wire, this.horizontal);
        const cut = svg("rect", {
          class: "label-cut",
          x: label.x - size.width / 2,
          y: label.y - size.height / 2,
          width: size.width,
          height: size.height,
          rx: 4,
        });
        const [above, below] = this.horizontal
          ? [
              { x: label.x, y: label.y - 6, "text-anchor": "middle" },
              { x: label.x, y: label.y + 16, "text-anchor": "middle" },
            ]
          : [
              { x: label.x - 7, y: label.y + 5, "text-anchor": "end" },
              { x: label.x + 7, y: label.y + 5, "text-anchor": "start" },
            ];
        parts.value = svg("text", { class: "edge-value is-value", ...above });
        parts.gradient = svg("text", { class: "edge-gradient is-gradient", ...below });
        const labelGroup = svg("g", { class: "edge-label", "data-edge": wire.id }, cut, parts.value, parts.gradient);
        labelGroup.addEventListener("click", (event) => {
          event.stopPropagation();
          this.#emit({ wire });
        });
        parts.label = labelGroup;
        labelLayer.append(labelGroup);
      }
      this.wires.set(wire.id, parts);
    }

    #path(source, points, target) {
      const along = this.horizontal ? "x" : "y";
      const middle = (area) => ({ x: area.x + area.width / 2, y: area.y + area.height / 2 });
      const aim = (area, toward) => {
        const centre = middle(area);
        const half = this.horizontal ? area.height / 2 - 9 : area.width / 2 - 12;
        const sideways = this.horizontal ? toward.y - centre.y : toward.x - centre.x;
        const offset = Math.max(-Math.max(half, 0), Math.min(Math.max(half, 0), sideways));
        return this.horizontal ? { x: centre.x, y: centre.y + offset } : { x: centre.x + offset, y: centre.y };
      };
      const start = aim(source, points[0] ?? middle(target));
      const stop = aim(target, points[points.length - 1] ?? middle(source));
      start[along] += (this.horizontal ? source.width : source.height) / 2;
      stop[along] -= (this.horizontal ? target.width : target.height) / 2 + 1;
      const through = points.flatMap((p) =>
        p.length
          ? [
              { ...p, [along]: p[along] - p.length / 2 },
              { ...p, [along]: p[along] + p.length / 2 },
            ]
          : [p],
      );
      let d = `M${start.x.toFixed(1)} ${start.y.toFixed(1)}`;
      let before = start;
      for (const next of [...through, stop]) {
        const straight = this.horizontal ? Math.abs(next.y - before.y) < 0.5 : Math.abs(next.x - before.x) < 0.5;
        if (straight) d += ` L${next.x.toFixed(1)} ${next.y.toFixed(1)}`;
        else {
          const half = (before[along] + next[along]) / 2;
          const [a, b] = this.horizontal
            ? [`${half.toFixed(1)} ${before.y.toFixed(1)}`, `${half.toFixed(1)} ${next.y.toFixed(1)}`]
            : [`${before.x.toFixed(1)} ${half.toFixed(1)}`, `${next.x.toFixed(1)} ${half.toFixed(1)}`];
          d += ` C${a} ${b} ${next.x.toFixed(1)} ${next.y.toFixed(1)}`;
        }
        before = next;
      }
      return d;
    }

    #emit(detail) {
      this.dispatchEvent(new CustomEvent("pick", { detail }));
    }

    /**
     * Shows what the play has reached.
     * @param reached {value(nodeId), gradient(nodeId), edge(raw index)}, all true or false
     * @param current {boxes: Set, wires: Set, pass} to light, and `asked`: wires whose number is being asked for
     */
    show(reached, current) {
      const { model } = this;
      for (const [id, parts] of this.boxes) {
        const lit = current.boxes.has(id);
        parts.group.classList.toggle("is-lit", lit);
        parts.group.classList.toggle("is-backward", lit && current.pass === "backward");
        if (parts.box.terminal) continue;
        const computed = parts.box.members.filter((node) => model.nodes.get(node).kind === "operator");
        const known = (computed.length ? computed : parts.box.members).every((node) => reached.value(node));
        parts.group.classList.toggle("is-waiting", !known);
        parts.group.setAttribute("aria-label", model.describe(parts.box, reached));
        if (lit) parts.group.setAttribute("aria-current", "step");
        else parts.group.removeAttribute("aria-current");
        if (!parts.box.node) continue;
        const { node } = parts.box;
        this.#number(parts.value, reached.value(node.id) ? model.valueOf(node) : null, "");
        this.#number(
          parts.gradient,
          reached.gradient(node.id) ? model.gradientOf(node) : null,
          model.sharedNodes.has(node.id) ? "∑ " : "",
        );
      }
      for (const [id, parts] of this.wires) {
        const gradient = parts.at && parts.at.tensor && reached.edge(parts.at.at);
        const lit = current.wires.has(id);
        parts.group.classList.toggle("has-gradient", Boolean(gradient));
        parts.group.classList.toggle("is-lit", lit);
        parts.group.classList.toggle("is-backward", lit && current.pass === "backward");
        parts.group.classList.toggle("is-waiting", !reached.value(parts.wire.node.id));
        if (!parts.label) continue;
        parts.label.classList.toggle("is-lit", lit);
        this.#number(
          parts.value,
          reached.value(parts.wire.node.id) ? model.valueOf(parts.wire.node, parts.wire.output) : null,
          "",
        );
        this.#number(parts.gradient, gradient ? parts.at.tensor : null, "");
        if (current.asked.has(id)) parts.gradient.textContent = "?";
      }
    }

    #number(element, tensor, prefix) {
      if (!element) return;
      element.textContent = tensor ? prefix + tensor.brief : "";
      if (tensor) element.dataset.exact = tensor.exact;
      else delete element.dataset.exact;
    }

    /** Where a box is, in the picture's own coordinates. */
    area(id) {
      return this.layout.boxes.get(id) ?? this.layout.frames.get(id) ?? null;
    }
  }

  explain.Diagram = Diagram;
})(globalThis.explain);
