((explain) => {
  const SMALLEST = 0.08;
  const LARGEST = 4;
  const READABLE = 0.7;
  const SMALLEST_FOLLOWED = 0.6;
  const COMFORTABLE = 1.1;
  const LARGEST_FIT = 2.2;

  /** Moves and scales the picture: wheel, two fingers, dragging, buttons; follows the step that is played where the whole is too small. */
  class Viewport {
    constructor(root, diagram) {
      this.root = root;
      this.diagram = diagram;
      this.scale = 1;
      this.x = 0;
      this.y = 0;
      this.pointers = new Map();
      root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
      root.addEventListener("pointerdown", (event) => this.#down(event));
      root.addEventListener("pointermove", (event) => this.#move(event));
      for (const type of ["pointerup", "pointercancel"])
        root.addEventListener(type, (event) => this.pointers.delete(event.pointerId));
    }

    get size() {
      const box = this.root.getBoundingClientRect();
      return { width: Math.max(box.width, 50), height: Math.max(box.height, 50) };
    }

    /** The scale at which the whole graph can be seen. */
    get scaleToFit() {
      const { width, height } = this.size;
      const { layout } = this.diagram;
      return Math.min(width / (layout.width + 40), height / (layout.height + 40), LARGEST_FIT);
    }

    /** The whole graph; or, to begin with, as much of it as can be read. */
    fit(whole = true) {
      const { width, height } = this.size;
      const { layout } = this.diagram;
      const scale = this.scaleToFit;
      this.following = !whole && scale < READABLE;
      const acrossFit = this.diagram.horizontal ? height / (layout.height + 40) : width / (layout.width + 40);
      this.scale = this.following ? Math.max(SMALLEST_FOLLOWED, Math.min(COMFORTABLE, acrossFit)) : scale;
      this.x = (width - layout.width * this.scale) / 2;
      this.y = (height - layout.height * this.scale) / 2;
      if (this.following && this.diagram.horizontal) this.x = 20;
      if (this.following && !this.diagram.horizontal) this.y = 20;
      this.#apply(false);
    }

    /** Brings a rectangle of the picture into sight where it is not. */
    reveal(area) {
      if (!area) return;
      const { width, height } = this.size;
      const margin = Math.min(60, width / 8, height / 8);
      const [left, top] = [area.x * this.scale + this.x, area.y * this.scale + this.y];
      const [right, bottom] = [left + area.width * this.scale, top + area.height * this.scale];
      if (left >= margin && right <= width - margin && top >= margin && bottom <= height - margin) return;
      if (left < margin || right > width - margin) this.x += width / 2 - (left + right) / 2;
      if (top < margin || bottom > height - margin) this.y += height / 2 - (top + bottom) / 2;
      this.#apply(true);
    }

    zoom(factor, at) {
      const { width, height } = this.size;
      const [cx, cy] = at ?? [width / 2, height / 2];
      const scale = Math.min(LARGEST, Math.max(SMALLEST, this.scale * factor));
      this.x = cx - ((cx - this.x) * scale) / this.scale;
      this.y = cy - ((cy - this.y) * scale) / this.scale;
      this.scale = scale;
      this.#apply(false);
    }

    #apply(smooth) {
      const { content } = this.diagram;
      content.classList.toggle("is-gliding", smooth && !explain.reducedMotion());
      content.setAttribute("transform", `translate(${this.x.toFixed(2)} ${this.y.toFixed(2)}) scale(${this.scale.toFixed(4)})`);
    }

    #place(event) {
      const box = this.root.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    }

    #wheel(event) {
      event.preventDefault();
      if (event.ctrlKey || !event.shiftKey)
        this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), this.#place(event));
      else {
        this.x -= event.deltaY;
        this.#apply(false);
      }
    }

    #down(event) {
      this.pointers.set(event.pointerId, { at: this.#place(event), moved: false });
    }

    #move(event) {
      const pointer = this.pointers.get(event.pointerId);
      if (!pointer) return;
      const at = this.#place(event);
      const [dx, dy] = [at[0] - pointer.at[0], at[1] - pointer.at[1]];
      if (!pointer.moved && Math.hypot(dx, dy) < 4) return;
      if (!pointer.moved) this.root.setPointerCapture(event.pointerId);
      pointer.moved = true;
      if (this.pointers.size === 1) {
        this.x += dx;
        this.y += dy;
        this.#apply(false);
      } else if (this.pointers.size === 2) {
        const other = [...this.pointers.entries()].find(([id]) => id !== event.pointerId)[1];
        const [before, now] = [
          Math.hypot(pointer.at[0] - other.at[0], pointer.at[1] - other.at[1]),
          Math.hypot(at[0] - other.at[0], at[1] - other.at[1]),
        ];
        if (before > 0) this.zoom(now / before, [(at[0] + other.at[0]) / 2, (at[1] + other.at[1]) / 2]);
      }
      pointer.at = at;
    }
  }

  explain.Viewport = Viewport;
})(globalThis.explain);
