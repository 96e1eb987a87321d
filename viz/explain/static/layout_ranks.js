((explain) => {
  /**
   * Ranks of a layered layout: every link goes at least two ranks on, so that its label has a rank of its own in between. Items
   * without incoming links stand as late as their links allow, except those that are pinned to the first rank.
   */
  const assignRanks = (items, links) => {
    const into = new Map(items.map((item) => [item.id, []]));
    const outOf = new Map(items.map((item) => [item.id, []]));
    for (const link of links) {
      into.get(link.target).push(link);
      outOf.get(link.source).push(link);
    }
    const waiting = new Map(items.map((item) => [item.id, into.get(item.id).length]));
    const ready = items.filter((item) => waiting.get(item.id) === 0).map((item) => item.id);
    const rank = new Map(items.map((item) => [item.id, 0]));
    const order = [];
    for (let i = 0; i < ready.length; i += 1) {
      order.push(ready[i]);
      for (const link of outOf.get(ready[i])) {
        rank.set(link.target, Math.max(rank.get(link.target), rank.get(ready[i]) + 2));
        waiting.set(link.target, waiting.get(link.target) - 1);
        if (waiting.get(link.target) === 0) ready.push(link.target);
      }
    }
    const last = Math.max(0, ...rank.values());
    for (const item of items) if (item.pin === "last") rank.set(item.id, last);
    const byId = new Map(items.map((item) => [item.id, item]));
    for (const id of order.reverse()) {
      const item = byId.get(id);
      const targets = outOf.get(id).map((link) => rank.get(link.target));
      if (targets.length && !into.get(id).length && item.pin !== "first") rank.set(id, Math.min(...targets) - 2);
    }
    return rank;
  };

  /** Cells (items, labels and bends) by rank, and the hops between cells of neighbouring ranks. */
  const makeCells = (items, links, rank) => {
    const cells = items.map((item, i) => ({
      id: item.id,
      item,
      rank: rank.get(item.id),
      order: item.order ?? i,
      breadth: item.breadth,
    }));
    const byItem = new Map(cells.map((cell) => [cell.id, cell]));
    const hops = [];
    const routes = new Map();
    for (const link of links) {
      const [from, to] = [byItem.get(link.source), byItem.get(link.target)];
      const route = [];
      let before = from;
      for (let r = from.rank + 1; r < to.rank; r += 1) {
        const isLabel = r === to.rank - 1 && link.label;
        const cell = {
          id: `${link.id}@${r}`,
          rank: r,
          order: (from.order + to.order) / 2,
          breadth: isLabel ? link.label.breadth : 6,
          length: isLabel ? link.label.length : 0,
          link,
          isLabel,
        };
        cells.push(cell);
        route.push(cell);
        hops.push({ from: before, to: cell, link });
        before = cell;
      }
      hops.push({ from: before, to, link });
      routes.set(link.id, route);
    }
    return { cells, byItem, hops, routes };
  };

  const crossings = (ranks, index) => {
    let count = 0;
    for (const cells of ranks) {
      const pairs = [];
      for (const cell of cells) for (const next of cell.next) pairs.push([index.get(cell), index.get(next)]);
      for (let i = 0; i < pairs.length; i += 1) {
        for (let j = i + 1; j < pairs.length; j += 1)
          if ((pairs[i][0] - pairs[j][0]) * (pairs[i][1] - pairs[j][1]) < 0) count += 1;
      }
    }
    return count;
  };

  /** Orders the cells of every rank so that few hops cross: sweeps by the mean place of the neighbours; the best order seen stays. */
  const orderRanks = (cells, hops) => {
    for (const cell of cells) [cell.next, cell.previous] = [[], []];
    for (const hop of hops) {
      hop.from.next.push(hop.to);
      hop.to.previous.push(hop.from);
    }
    const ranks = [];
    for (const cell of cells) (ranks[cell.rank] ??= []).push(cell);
    for (let r = 0; r < ranks.length; r += 1) ranks[r] ??= [];
    for (const rank of ranks) rank.sort((a, b) => a.order - b.order || (a.id < b.id ? -1 : 1));
    const index = new Map();
    const number = (rank) => rank.forEach((cell, i) => index.set(cell, i));
    ranks.forEach(number);
    let best = ranks.map((rank) => [...rank]);
    let fewest = crossings(ranks, index);
    const sweeps = cells.length > 900 ? 4 : 14;
    for (let sweep = 0; sweep < sweeps && fewest > 0; sweep += 1) {
      const down = sweep % 2 === 0;
      const walk = down ? ranks : [...ranks].reverse();
      for (const rank of walk) {
        const place = new Map(
          rank.map((cell) => {
            const near = down ? cell.previous : cell.next;
            return [cell, near.length ? near.reduce((sum, other) => sum + index.get(other), 0) / near.length : index.get(cell)];
          }),
        );
        rank.sort((a, b) => place.get(a) - place.get(b) || index.get(a) - index.get(b));
        number(rank);
      }
      const count = crossings(ranks, index);
      if (count < fewest) [fewest, best] = [count, ranks.map((rank) => [...rank])];
    }
    return best;
  };

  explain.ranking = { assignRanks, makeCells, orderRanks };
})(globalThis.explain);
