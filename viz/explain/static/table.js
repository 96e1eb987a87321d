((explain) => {
  const { create } = explain;
  const [ROW, COLUMN, HEAD] = [24, 76, 44];

  /**
   * A table of numbers that holds only the cells in sight, whatever its size. Arrow keys walk through it.
   * @param options {rows, columns, at(row, column), label, onFocus(row, column), selected: [row, column] | null}
   * @returns {{element, select(row, column)}}
   */
  explain.numberTable = (options) => {
    const { rows, columns, at, label, onFocus } = options;
    const space = create("div", { class: "table-space" });
    space.style.width = `${HEAD + columns * COLUMN}px`;
    space.style.height = `${ROW + rows * ROW}px`;
    const element = create(
      "div",
      {
        class: "number-table",
        role: "grid",
        tabindex: 0,
        "aria-label": label,
        "aria-rowcount": rows,
        "aria-colcount": columns,
      },
      space,
    );
    let chosen = [0, 0];

    const cellAt = (row, column, left, top) => {
      const value = at(row, column);
      const isChosen = row === chosen[0] && column === chosen[1];
      const cell = create("div", {
        role: "gridcell",
        id: isChosen ? `${element.id || "table"}-active` : null,
        class: `table-cell${isChosen ? " is-chosen" : ""}${value < 0 ? " is-negative" : ""}`,
        "aria-colindex": column + 1,
        "data-row": row,
        "data-column": column,
        text: value === undefined ? "…" : explain.number(value),
      });
      cell.style.left = `${left}px`;
      cell.style.top = `${top}px`;
      return cell;
    };

    const draw = () => {
      const [firstRow, firstColumn] = [Math.floor(element.scrollTop / ROW), Math.floor(element.scrollLeft / COLUMN)];
      const [lastRow, lastColumn] = [
        Math.min(rows, firstRow + Math.ceil((element.clientHeight || 260) / ROW) + 1),
        Math.min(columns, firstColumn + Math.ceil((element.clientWidth || 420) / COLUMN) + 1),
      ];
      const lines = [];
      const corner = create("div", { class: "table-head is-corner", "aria-hidden": "true" });
      corner.style.transform = `translate(${element.scrollLeft}px, ${element.scrollTop}px)`;
      for (let column = firstColumn; column < lastColumn; column += 1) {
        const head = create("div", { class: "table-head", "aria-hidden": "true", text: String(column) });
        head.style.left = `${HEAD + column * COLUMN}px`;
        head.style.top = `${element.scrollTop}px`;
        lines.push(head);
      }
      for (let row = firstRow; row < lastRow; row += 1) {
        const line = create("div", { role: "row", "aria-rowindex": row + 1 });
        const head = create("div", { class: "table-head is-row", "aria-hidden": "true", text: String(row) });
        head.style.left = `${element.scrollLeft}px`;
        head.style.top = `${ROW + row * ROW}px`;
        for (let column = firstColumn; column < lastColumn; column += 1)
          line.append(cellAt(row, column, HEAD + column * COLUMN, ROW + row * ROW));
        line.append(head);
        lines.push(line);
      }
      space.replaceChildren(...lines, corner);
      if (space.querySelector(".is-chosen")) element.setAttribute("aria-activedescendant", `${element.id || "table"}-active`);
      else element.removeAttribute("aria-activedescendant");
    };

    const choose = (row, column, scroll) => {
      chosen = [Math.max(0, Math.min(rows - 1, row)), Math.max(0, Math.min(columns - 1, column))];
      if (scroll) {
        const [top, left] = [chosen[0] * ROW, chosen[1] * COLUMN];
        if (top < element.scrollTop) element.scrollTop = top;
        else if (top + 2 * ROW > element.scrollTop + element.clientHeight)
          element.scrollTop = top + 2 * ROW - element.clientHeight;
        if (left < element.scrollLeft) element.scrollLeft = left;
        else if (left + COLUMN + HEAD > element.scrollLeft + element.clientWidth)
          element.scrollLeft = left + COLUMN + HEAD - element.clientWidth;
      }
      draw();
    };

    element.addEventListener("scroll", draw);
    element.addEventListener("keydown", (event) => {
      const page = Math.max(1, Math.floor(element.clientHeight / ROW) - 2);
      const move = {
        ArrowLeft: [0, -1],
        ArrowRight: [0, 1],
        ArrowUp: [-1, 0],
        ArrowDown: [1, 0],
        PageUp: [-page, 0],
        PageDown: [page, 0],
      }[event.key];
      if (!move) return;
      event.preventDefault();
      event.stopPropagation();
      choose(chosen[0] + move[0], chosen[1] + move[1], true);
      onFocus(...chosen);
    });
    space.addEventListener("pointermove", (event) => {
      const { row, column } = event.target.dataset;
      if (row !== undefined) onFocus(Number(row), Number(column));
    });
    space.addEventListener("click", (event) => {
      const { row, column } = event.target.dataset;
      if (row === undefined) return;
      choose(Number(row), Number(column), false);
      onFocus(...chosen);
    });
    if (options.selected) chosen = options.selected;
    new ResizeObserver(draw).observe(element);
    draw();
    return { element, select: (row, column) => choose(row, column, true) };
  };
})(globalThis.explain);
