((explain) => {
  const GAP = 16; // between cells of one rank
  const RANK_GAP = 12; // between ranks

  /** Places x with x[i+1] - x[i] >= gaps[i], as near to the wishes as the weighted squares can be (pool adjacent violators). */
  const spread = (wishes, weights, gaps) => {
    const shift = [0];
    for (const gap of gaps) shift.push(shift[shift.length - 1] + gap);
    const blocks = [];
    for (let i = 0; i < wishes.length; i += 1) {
      blocks.push({ mean: wishes[i] - shift[i], weight: weights[i], count: 1 });
      while (blocks.length > 1 && blocks[blocks.length - 2].mean > blocks[blocks.length - 1].mean) {
        const [b, a] = [blocks.pop(), blocks.pop()];
        const weight = a.weight + b.weight;
        blocks.push({ mean: (a.mean * a.weight + b.mean * b.weight) / weight, weight, count: a.count + b.count });
      }
    }
    const places = [];
    for (const block of blocks) for (let k = 0; k < block.count; k += 1) places.push(block.mean + shift[places.length]);
    return places;
  };

  const gapsOf = (rank) => rank.slice(1).map((cell, i) => (cell.breadth + rank[i].breadth) / 2 + GAP);

  /**
   * Sets `across` of every cell: bends and labels as straight as can be, items near the middle of their neighbours. The first
   * sweeps look one way only, so that a long chain becomes straight at once; the last ones look both ways.
   */
  const placeAcross = (ranks, hops) => {
    const [before, after] = [new Map(), new Map()];
    for (const rank of ranks) for (const cell of rank) for (const pulls of [before, after]) pulls.set(cell, []);
    for (const { from, to, link } of hops) {
      const [a, b] = [from.item ? (link.sourceOffset ?? 0) : 0, to.item ? (link.targetOffset ?? 0) : 0];
      const own = link.weight ?? 1;
      const weight = from.item && to.item ? own : from.item || to.item ? 2 * own : 8;
      after.get(from).push({ other: to, shift: b - a, weight });
      before.get(to).push({ other: from, shift: a - b, weight });
    }
    for (const rank of ranks) {
      const places = spread(rank.map(() => 0), rank.map(() => 1), gapsOf(rank)); // prettier-ignore
      rank.forEach((cell, i) => {
        cell.across = places[i];
      });
    }
    const settle = (rank, pullsOf) => {
      const wish = (cell) => {
        const pulls = pullsOf(cell);
        const total = pulls.reduce((sum, pull) => sum + pull.weight, 0);
        if (!total) return [cell.across, 0.1];
        return [pulls.reduce((sum, pull) => sum + pull.weight * (pull.other.across + pull.shift), 0) / total, total];
      };
      const wishes = rank.map(wish);
      const places = spread(wishes.map(([place]) => place), wishes.map(([, weight]) => weight), gapsOf(rank)); // prettier-ignore
      rank.forEach((cell, i) => {
        cell.across = places[i];
      });
    };
    const backwards = [...ranks].reverse();
    for (let round = 0; round < 8; round += 1) {
      for (const rank of ranks) settle(rank, (cell) => before.get(cell));
      for (const rank of backwards) settle(rank, (cell) => after.get(cell));
    }
    for (let round = 0; round < 8; round += 1) {
      for (const rank of round % 2 ? backwards : ranks) settle(rank, (cell) => [...before.get(cell), ...after.get(cell)]);
    }
  };

  /** Sets `along` of every cell: rank after rank, each as long as its longest cell. */
  const placeAlong = (ranks) => {
    let position = 0;
    for (const rank of ranks) {
      const length = Math.max(0, ...rank.map((cell) => cell.item?.length ?? cell.length ?? 0));
      for (const cell of rank) cell.along = position + length / 2;
      position += length + (length ? RANK_GAP : 2);
    }
    return Math.max(0, position - RANK_GAP);
  };

  /**
   * A layered layout of one level, in coordinates along and across the flow.
   * @param items [{id, length, breadth, order, pin: "first" | "last" | undefined}]
   * @param links [{id, source, target, label: {length, breadth} | null, sourceOffset, targetOffset, weight}]
   * @returns {{places: Map, routes: Map, length: number, breadth: number}} centres of items, and of the cells of every link
   */
  explain.layered = (items, links) => {
    const { assignRanks, makeCells, orderRanks } = explain.ranking;
    const rank = assignRanks(items, links);
    const { cells, byItem, hops, routes } = makeCells(items, links, rank);
    const ranks = orderRanks(cells, hops);
    placeAcross(ranks, hops);
    const length = placeAlong(ranks);
    const low = Math.min(...cells.map((cell) => cell.across - cell.breadth / 2), 0);
    const high = Math.max(...cells.map((cell) => cell.across + cell.breadth / 2), low);
    for (const cell of cells) cell.across -= low;
    return { places: byItem, routes, length, breadth: high - low };
  };
})(globalThis.explain);
