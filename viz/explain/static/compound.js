((explain) => {
  const PADDING = 14;
  const TITLE = 22;

  const lineage = (cluster, parents) => {
    const line = [];
    for (let key = cluster; key !== null && key !== undefined; key = parents.get(key)) line.push(key);
    return line.reverse();
  };

  /** For one edge: the item that holds its end at every level of `line` from `depth` on, and the end itself. */
  const ends = (line, depth, box) => [...line.slice(depth), box];

  /**
   * A layout of boxes inside open clusters: every cluster is laid out alone, inner ones first, and is one item of the level around
   * it. Edges that cross a frame pass through a port on it.
   * @param boxes [{id, width, height, parent, order}]   @param frames [{id, parent, order}]
   * @param edges [{id, source, target, label: {width, height} | null, weight}], weight: how much it wants to be straight
   * @param horizontal whether the flow is to the right
   * @returns {{boxes: Map, frames: Map, edges: Map, width, height}} rectangles {x, y, width, height}; edges {points, label}
   */
  explain.compoundLayout = (boxes, frames, edges, horizontal) => {
    const turned = (size) =>
      horizontal ? { length: size.width, breadth: size.height } : { length: size.height, breadth: size.width };
    const parents = new Map(frames.map((frame) => [frame.id, frame.parent]));
    const boxParent = new Map(boxes.map((box) => [box.id, box.parent]));
    const levels = new Map([[null, { items: [], links: [] }], ...frames.map((frame) => [frame.id, { items: [], links: [] }])]);
    for (const box of boxes) levels.get(box.parent).items.push({ id: box.id, order: box.order, pin: box.pin, ...turned(box) });

    // Links of every level, and for every edge the ordered pieces it is made of.
    const pieces = new Map();
    for (const edge of edges) {
      const from = lineage(boxParent.get(edge.source), parents);
      const to = lineage(boxParent.get(edge.target), parents);
      let shared = 0;
      while (shared < Math.min(from.length, to.length) && from[shared] === to[shared]) shared += 1;
      const [starts, stops] = [ends(from, shared, edge.source), ends(to, shared, edge.target)];
      const label = edge.label ? turned(edge.label) : null;
      const list = [];
      for (let depth = starts.length - 1; depth > 0; depth -= 1) {
        const level = levels.get(starts[depth - 1]);
        const port = `out:${edge.id}`;
        level.items.push({ id: port, length: 0, breadth: 4, order: Infinity, pin: "last" });
        list.push({
          level: starts[depth - 1],
          link: { id: edge.id, source: starts[depth], target: port, label: null, weight: edge.weight },
        });
      }
      const root = shared ? from[shared - 1] : null;
      list.push({
        level: root,
        link: {
          id: edge.id,
          source: starts[0],
          target: stops[0],
          label: stops.length === 1 ? label : null,
          weight: edge.weight,
        },
      });
      for (let depth = 1; depth < stops.length; depth += 1) {
        const level = levels.get(stops[depth - 1]);
        const port = `in:${edge.id}`;
        level.items.push({ id: port, length: 0, breadth: 4, order: -1, pin: "first" });
        list.push({
          level: stops[depth - 1],
          link: {
            id: edge.id,
            source: port,
            target: stops[depth],
            label: depth === stops.length - 1 ? label : null,
            weight: edge.weight,
          },
        });
      }
      for (const piece of list) levels.get(piece.level).links.push(piece.link);
      pieces.set(edge.id, list);
    }

    // Inner levels first; each becomes an item of its parent's level.
    const depthOf = new Map(frames.map((frame) => [frame.id, lineage(frame.id, parents).length]));
    const inwards = [...frames].sort((a, b) => depthOf.get(b.id) - depthOf.get(a.id));
    const solved = new Map();
    const portOffset = (frame, port) => {
      const inner = solved.get(frame);
      const cell = inner.places.get(port);
      return cell ? cell.across - inner.breadth / 2 + (horizontal ? TITLE / 2 : 0) : 0;
    };
    const solve = (key) => {
      const { items, links } = levels.get(key);
      for (const link of links) {
        if (solved.has(link.source)) link.sourceOffset = portOffset(link.source, `out:${link.id}`);
        if (solved.has(link.target)) link.targetOffset = portOffset(link.target, `in:${link.id}`);
      }
      const result = explain.layered(items, links);
      solved.set(key, result);
      return result;
    };
    for (const frame of inwards) {
      const inner = solve(frame.id);
      const size = horizontal
        ? { length: inner.length + 2 * PADDING, breadth: inner.breadth + 2 * PADDING + TITLE }
        : { length: inner.length + 2 * PADDING + TITLE, breadth: Math.max(inner.breadth + 2 * PADDING, frame.titleWidth ?? 0) };
      levels.get(frame.parent).items.push({ id: frame.id, order: frame.order, ...size });
    }
    const whole = solve(null);

    // Absolute places from the outside in. `origin` is where a level's own coordinates begin.
    const origin = new Map([[null, { along: 0, across: 0 }]]);
    const rectangles = { boxes: new Map(), frames: new Map() };
    const rectangle = (along, across, length, breadth) =>
      horizontal
        ? { x: along - length / 2, y: across - breadth / 2, width: length, height: breadth }
        : { x: across - breadth / 2, y: along - length / 2, width: breadth, height: length };
    for (const key of [null, ...inwards.map((frame) => frame.id).reverse()]) {
      const start = origin.get(key);
      for (const cell of solved.get(key).places.values()) {
        const { item } = cell;
        const [along, across] = [start.along + cell.along, start.across + cell.across];
        if (solved.has(item.id)) {
          const inner = solved.get(item.id);
          rectangles.frames.set(item.id, rectangle(along, across, item.length, item.breadth));
          const free = item.breadth - (horizontal ? TITLE : 0) - inner.breadth;
          origin.set(item.id, {
            along: along - item.length / 2 + PADDING + (horizontal ? 0 : TITLE),
            across: across - item.breadth / 2 + free / 2 + (horizontal ? TITLE : 0),
          });
        } else rectangles.boxes.set(item.id, rectangle(along, across, item.length, item.breadth));
      }
    }
    const point = (level, along, across) => {
      const start = origin.get(level);
      return horizontal
        ? { x: start.along + along, y: start.across + across }
        : { x: start.across + across, y: start.along + along };
    };
    const drawn = new Map();
    for (const edge of edges) {
      const points = [];
      let label = null;
      for (const { level, link } of pieces.get(edge.id)) {
        for (const cell of solved.get(level).routes.get(link.id)) {
          const at = point(level, cell.along, cell.across);
          points.push({ ...at, isLabel: cell.isLabel, length: cell.isLabel ? cell.length : 0 });
          if (cell.isLabel) label = at;
        }
        if (link.target.startsWith("out:"))
          points.push(point(level, solved.get(level).length + PADDING, solved.get(level).places.get(link.target).across));
        const next = pieces.get(edge.id).find((piece) => piece.link.source === `in:${edge.id}` && piece.level === link.target);
        if (next) points.push(point(next.level, -PADDING, solved.get(next.level).places.get(next.link.source).across));
      }
      drawn.set(edge.id, { points, label });
    }
    const size = horizontal ? { width: whole.length, height: whole.breadth } : { width: whole.breadth, height: whole.length };
    return { ...rectangles, edges: drawn, ...size };
  };
})(globalThis.explain);
