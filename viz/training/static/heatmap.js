/** Histograms over the steps: every sample a column, dark where many values lie. */

class Heatmap {
  /**
   * @param {Element} host @param {Viewport} view
   * @param {{steps: number[], columns: {low: number, high: number, counts: Uint8Array}[], low: number, high: number,
   *   colour: () => string, label: string, lines: {value: number, label: string}[]}} options
   * columns: counts of equal parts of low..high, 255 for the fullest. low, high: of the whole axis.
   */
  constructor(host, view, options) {
    Object.assign(this, { view, ...options });
    const box = element("div", { class: "heat" }, host);
    this.canvas = element("canvas", { role: "img", "aria-label": this.label, tabindex: 0 }, box);
    this.range = null;
    this.left = 46;
    this.width = 1;
    const mark = (from, to) => { this.range = from === null ? null : [from, to]; this.paint(); };
    steer(this.canvas, view, () => ({ left: this.left, width: this.width }), mark);
    view.drawers.push(() => this.draw());
    view.followers.push(() => this.paint());
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  x(step) {
    return this.left + ((step - this.view.low) / (this.view.high - this.view.low)) * this.width;
  }

  y(value) {
    return this.height - 3 - ((value - this.low) / (this.high - this.low || 1)) * (this.height - 6);
  }

  /** Draws the columns on a canvas of their own, which `paint` then copies under the cursor. */
  draw() {
    const density = devicePixelRatio || 1;
    this.height = this.canvas.clientHeight || 104;
    this.width = Math.max(10, (this.canvas.clientWidth || 300) - this.left - 10);
    this.canvas.width = (this.width + this.left + 10) * density;
    this.canvas.height = this.height * density;
    this.picture = element("canvas", { width: this.canvas.width, height: this.canvas.height });
    const pen = this.picture.getContext("2d");
    pen.scale(density, density);
    this.drawColumns(pen);
    this.drawScale(pen);
    this.paint();
  }

  drawColumns(pen) {
    pen.save();
    pen.beginPath();
    pen.rect(this.left, 0, this.width, this.height);
    pen.clip();
    pen.fillStyle = token("panel");
    pen.fillRect(this.left, 0, this.width, this.height);
    pen.fillStyle = this.colour();
    this.columns.forEach((column, i) => {
      if (!column) return;
      const edge = (j) => this.x((this.steps[j] + this.steps[j - 1]) / 2);
      const from = i > 0 ? edge(i) : this.x(this.steps[0]) - this.width;
      const to = i + 1 < this.steps.length ? edge(i + 1) : this.x(this.steps[i]) + this.width;
      if (to < this.left || from > this.left + this.width) return;
      const bins = column.counts.length;
      const tall = (column.high - column.low) / bins;
      for (let k = 0; k < bins; k++) {
        if (!column.counts[k]) continue;
        pen.globalAlpha = 0.06 + 0.94 * Math.sqrt(column.counts[k] / 255);
        const top = this.y(column.low + (k + 1) * tall);
        pen.fillRect(from, top, Math.max(to - from + 0.4, 0.8), Math.max(this.y(column.low + k * tall) - top + 0.3, 1));
      }
    });
    pen.restore();
  }

  drawScale(pen) {
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const { value, label } of this.lines) {
      const y = Math.max(7, Math.min(this.height - 7, this.y(value)));
      pen.fillStyle = token("soft");
      pen.fillText(label, this.left - 5, y);
      pen.strokeStyle = token("soft");
      pen.beginPath();
      pen.moveTo(this.left - 3, this.y(value));
      pen.lineTo(this.left, this.y(value));
      pen.stroke();
    }
  }

  paint() {
    if (!this.picture?.width) return;
    const density = devicePixelRatio || 1;
    const pen = this.canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.drawImage(this.picture, 0, 0);
    pen.scale(density, density);
    if (this.range) {
      pen.globalAlpha = 0.18;
      pen.fillStyle = token("focus");
      const [from, to] = this.range.map((step) => this.x(step));
      pen.fillRect(Math.min(from, to), 0, Math.abs(to - from), this.height);
      pen.globalAlpha = 1;
    }
    if (this.view.cursor !== null) {
      pen.strokeStyle = token("cursor");
      pen.beginPath();
      pen.moveTo(this.x(this.view.cursor), 0);
      pen.lineTo(this.x(this.view.cursor), this.height);
      pen.stroke();
    }
  }
}
