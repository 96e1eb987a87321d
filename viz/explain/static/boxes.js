((explain) => {
  const GLYPHS = {
    add: "+",
    sub: "−",
    mul: "×",
    div: "÷",
    neg: "−( )",
    sum: "∑",
    exp: "eˣ",
    log: "ln",
    sqrt: "√",
    square: "( )²",
    reciprocal: "1/x",
    pow: "xʸ",
    matmul: "@",
    mm: "@",
    maximum: "max",
    minimum: "min",
    abs: "| |",
  };
  const MOST_LETTERS = 22;

  const clipped = (text, most = MOST_LETTERS) => (text.length > most ? `…${text.slice(text.length - most + 1)}` : text);
  const widthOf = (text, size) =>
    [...text].reduce((sum, letter) => sum + (letter > "\u2e80" ? 1 : letter >= "A" && letter <= "Z" ? 0.7 : 0.57), 0) * size;

  /** "features.0.weight" as ["features.0", "weight"]. */
  const placeAndName = (node) => {
    const name = node.name ?? node.symbol + node.subscript;
    const dot = name.lastIndexOf(".");
    return dot > 0 && dot < name.length - 1 ? [name.slice(0, dot), name.slice(dot + 1)] : ["", name];
  };

  /** What stands in a box: [text, class] lines. */
  const linesOf = (box) => {
    if (box.terminal) return [[box.node.name ?? "result", "box-name"]];
    if (box.cluster)
      return [
        [`+ ${clipped(box.cluster.label)}`, "box-name"],
        [clipped(box.cluster.summary, 26), "box-detail"],
      ];
    const { node } = box;
    const shape = node.shape.length ? explain.shape(node.shape) : "";
    if (node.kind === "number") return [[node.name, "box-name"]];
    if (node.kind !== "operator") {
      const [place, last] = placeAndName(node);
      const details = [node.cluster ? "" : clipped(place), shape].filter(Boolean).join(" · ");
      return [[clipped(last), "box-name"], ...(details ? [[details, "box-detail"]] : [])];
    }
    const glyph = GLYPHS[node.op];
    const title = glyph ? [[glyph, "box-glyph"]] : [[clipped(node.label), "box-name"]];
    const called = clipped(node.name ?? node.symbol + node.subscript);
    return [...title, [shape ? `${called} · ${shape}` : called, "box-detail"]];
  };

  const HEIGHTS = { "box-name": 20, "box-glyph": 26, "box-detail": 16 };
  const SIZES = { "box-name": 15, "box-glyph": 22, "box-detail": 12 };

  /** What a box holds pictures of: its node's value; of a closed layer, the value of its last operator that somebody else uses. */
  const pictured = (model, box) => {
    if (box.terminal) return null;
    if (!box.cluster) return model.valueOf(box.node);
    const inside = new Set(box.members);
    const used = (node) =>
      model.data.outputs.includes(node) || model.consumers.get(node).some((edge) => !inside.has(edge.target));
    const last = box.members.findLast((node) => model.nodes.get(node).kind === "operator" && used(node));
    return last ? model.valueOf(model.nodes.get(last)) : null;
  };

  /** The lines of a box, and the room it needs, with that for the sum of its gradients where it is used more than once. */
  const measure = (model, box) => {
    const lines = linesOf(box);
    const total = box.node && !box.terminal && model.sharedNodes.has(box.node.id) ? model.gradientOf(box.node) : null;
    if (box.terminal) return { lines, width: Math.max(30, widthOf(lines[0][0], 15) + 14), height: 30 };
    const width = Math.max(...lines.map(([text, kind]) => widthOf(text, SIZES[kind]))) + 24;
    const totalWidth = total ? widthOf(`∑ ${total.brief}`, 14) + 16 : 0;
    const height = lines.reduce((sum, [, kind]) => sum + HEIGHTS[kind], 0) + 14 + (total ? 18 : 0);
    const least = box.node?.kind === "number" ? 26 : 54;
    const tensor = pictured(model, box);
    const picture = explain.thumbnails.sizeOf(tensor);
    return {
      lines,
      tensor: picture ? tensor : null,
      picture,
      width: Math.max(least, width, totalWidth, picture ? picture.width + 24 : 0),
      height: (box.node?.kind === "number" ? 28 : Math.max(40, height)) + (picture ? picture.height + 2 : 0),
    };
  };

  /** The width a wire's numbers need, known or not yet known. */
  const labelSize = (model, wire, horizontal) => {
    const value = model.valueOf(wire.node, wire.output);
    const gradient = model.wireGradient(wire)?.tensor;
    const widths = [value, gradient].map((tensor) => (tensor ? Math.max(22, widthOf(tensor.brief, 14) + 8) : 22));
    return horizontal ? { width: Math.max(38, ...widths), height: 40 } : { width: 2 * Math.max(...widths) + 8, height: 24 };
  };

  explain.boxes = { clipped, HEIGHTS, labelSize, measure, widthOf };
})(globalThis.explain);
