/** Puts the report together from the run's numbers. */

const run = JSON.parse(document.getElementById("run").textContent);
const view = new Viewport(run.steps);
const VERDICTS = { problem: "Problem", warning: "Warning", ok: "Not found", unknown: "Not known" };

function buildFacts() {
  const host = document.getElementById("facts");
  for (const [value, what] of run.facts) {
    const item = element("li", {}, host);
    element("b", {}, item, value);
    item.append(` ${what}`);
  }
}

function buildCheck(check, host) {
  const box = element("section", { class: `check ${check.verdict}` }, host);
  const title = element("p", {}, box);
  element("span", { class: "verdict" }, title, `${VERDICTS[check.verdict]}: `);
  element("b", {}, title, check.rule);
  title.append(`. ${check.text[0].toUpperCase()}${check.text.slice(1)}.`);
  if (check.evidence.length) {
    const list = element("ul", { "aria-label": "evidence" }, box);
    for (const [what, value] of check.evidence) {
      const item = element("li", {}, list, `${what}: `);
      element("b", {}, item, value);
    }
    if (check.steps) element("li", { class: "soft" }, list, spanWords(check.steps));
  }
  if (check.advice) element("p", { class: "advice" }, box, check.advice);
  const source = [check.threshold && `Rule: ${check.threshold}.`, check.source && `Source: ${check.source}.`].filter(Boolean).join(" ");
  if (source) element("small", {}, box, source);
}

function spanWords([first, last]) {
  return first === last ? `step ${first}` : `steps ${first} to ${last}`;
}

function buildChecks() {
  const host = document.getElementById("findings");
  const order = { problem: 0, warning: 1 };
  const found = run.checks.filter((c) => c.verdict in order).sort((a, b) => order[a.verdict] - order[b.verdict]);
  const others = run.checks.filter((c) => !(c.verdict in order));
  const fine = others.filter((c) => c.verdict === "ok");
  const text = found.length
    ? `${found.length} of ${run.checks.length} rules found something. Each says what it saw, and where the line is drawn.`
    : `Nothing to report: ${fine.length} rules looked and found nothing wrong.`;
  element("p", {}, document.getElementById("verdict"), text);
  for (const check of found) buildCheck(check, host);
  const more = document.getElementById("others");
  document.getElementById("others-title").textContent =
    `${fine.length} rules found nothing wrong` + (others.length > fine.length ? `, ${others.length - fine.length} could not be judged` : "");
  for (const check of others) buildCheck(check, more);
}

function buildToolbar() {
  const output = document.getElementById("range");
  view.followers.push((step) => {
    const range = `Steps ${Math.ceil(view.low)} to ${Math.floor(view.high)}`;
    output.textContent = step === null ? range : `${range}, at ${step}`;
  });
  const actions = {
    in: () => view.zoom(0.5), out: () => view.zoom(2), left: () => view.pan(-0.4), right: () => view.pan(0.4),
    all: () => view.show(...view.full),
  };
  for (const [name, act] of Object.entries(actions)) document.getElementById(`zoom-${name}`).addEventListener("click", act);
}

/** Lines of one measurement, one for every entry of `parts` that has it, coloured by depth. */
function byDepth(parts, key) {
  const there = parts.filter((p) => p[key]?.some((v) => v !== null));
  return there.map((part, i) => ({
    name: part.name, steps: run.samples, values: part[key], colour: () => depthColour(i, there.length), width: 1.8,
  }));
}

function buildCurves() {
  const host = document.getElementById("curves");
  const train = () => token("train");
  const val = () => token("val");
  const epochLine = (key, name, colour, dash) => ({
    name, steps: run.epochs.map((e) => e.step), values: run.epochs.map((e) => e[key] ?? null), colour, dash, points: true,
  });
  const has = (key) => run.epochs.some((e) => e[key] !== undefined && e[key] !== null);
  const loss = [{ name: "training", steps: run.loss.steps, values: run.loss.smooth, band: run.loss, colour: train }];
  if (has("val_loss")) loss.push(epochLine("val_loss", "validation", val, "7 4"));
  const chance = run.chance === null ? [] : [{ value: run.chance, label: `guessing: ln C = ${words(run.chance)}` }];
  const marks = run.checks.filter((c) => c.step && ["problem", "warning"].includes(c.verdict)).map((c) => ({ step: c.step, label: c.rule }));
  const known = run.loss.high.filter((v) => v !== null);
  const log = Math.max(...known) > 10 * known[0] && Math.max(...known) > 100 * known.at(-1) && Math.min(...known) > 0;
  new LineChart(host, view, {
    title: "Loss", note: run.loss.note, series: loss, guides: chance, canLog: true, wide: true, height: 280, marks, log,
  });
  const accuracy = [];
  if (run.accuracy) {
    accuracy.push({ name: "training batches", steps: run.accuracy.steps, values: run.accuracy.smooth, colour: train, width: 1.2 });
  }
  if (has("train_accuracy")) accuracy.push(epochLine("train_accuracy", "training", train));
  if (has("val_accuracy")) accuracy.push(epochLine("val_accuracy", "validation", val, "7 4"));
  if (accuracy.length) {
    new LineChart(host, view, { title: "Accuracy", note: "a wide gap is overfitting", series: accuracy, format: accuracyWords });
  }
  if (run.rate.some((v) => v !== null)) {
    const rate = [{ name: "learning rate", steps: run.loss.steps, values: run.rate, colour: train }];
    const domain = [0, 1.1 * Math.max(...run.rate)];
    new LineChart(host, view, { title: "Learning rate", series: rate, canLog: true, domain });
  }
  const matrices = run.weights.filter((w) => w.matrix);
  const ratios = byDepth(matrices, "ratio");
  if (ratios.length) {
    const guides = [{ value: 1e-3, label: "guide 1e-3" }];
    const note = "norm of a step / norm of the weights, weight matrices only; the band is 1e-4 to 1e-2";
    new LineChart(host, view, { title: "Update-to-weight ratio", note, series: ratios, log: true, guides, zone: [1e-4, 1e-2] });
  }
  const norms = byDepth(matrices, "grad_norm");
  if (norms.length) {
    const all = { name: "all together", steps: run.samples, values: run.grad_norm, colour: () => token("ink"), dash: "4 3" };
    new LineChart(host, view, { title: "Gradient norms", note: "of the loss by each weight matrix", series: [all, ...norms], log: true });
  }
  const shares = { dead: "Dead ReLU units", saturated: "Saturated sigmoids and tanhs" };
  const notes = {
    dead: "zero on every example of 10 samples in a row", saturated: "outputs beyond 97 % of the range",
  };
  for (const [key, title] of Object.entries(shares)) {
    const series = byDepth(run.layers, key);
    if (series.length) new LineChart(host, view, { title, note: notes[key], series, format: percent, domain: [0, 1] });
  }
}

/** Columns of a heatmap from base64 rows of equal length. */
function columns(text, bins, limits) {
  const all = bytes(text);
  return limits.map((limit, i) => limit && { low: limit[0], high: limit[1], counts: all.subarray(i * bins, (i + 1) * bins) });
}

function activationMap(layer, host, i) {
  const limits = layer.hist.limits;
  const there = limits.filter(Boolean);
  const low = Math.min(...there.map((l) => l[0]));
  const high = Math.max(...there.map((l) => l[1]));
  const lines = [low, high].map((v) => ({ value: v, label: words(v) }));
  if (low < 0 && high > 0 && Math.min(-low, high) > (high - low) * 0.15) lines.push({ value: 0, label: "0" });
  const label = `${layer.name}: activations over the steps, between ${words(low)} and ${words(high)}`;
  new Heatmap(host, view, {
    steps: run.hist_steps, columns: columns(layer.hist.counts, layer.hist.bins, limits), low, high, lines, label,
    colour: () => depthColour(i, run.layers.length),
  });
}

function gradientMap(layer, host, i) {
  const { low, high, from, to, bins } = run.decades;
  const lines = [];
  for (let e = Math.ceil(from); e <= to; e += Math.max(1, Math.round((to - from) / 4))) lines.push({ value: e, label: `1e${e}` });
  const limits = run.hist_steps.map(() => [low, high]);
  new Heatmap(host, view, {
    steps: run.hist_steps, columns: columns(layer.grad_hist, bins, limits), low: from, high: to, lines,
    label: `${layer.name}: sizes of its activations' gradients over the steps`, colour: () => depthColour(i, run.layers.length),
  });
}

function buildLayers() {
  if (!run.layers.length) {
    document.getElementById("layers-part").remove();
    return;
  }
  const host = document.getElementById("layers");
  if (run.layers.length > 24) {
    host.classList.add("dense");
    document.getElementById("layers-columns").remove();
  }
  run.layers.forEach((layer, i) => {
    const row = element("section", { class: "layer", "aria-label": layer.name }, host);
    const about = element("div", {}, row);
    element("h3", {}, about, layer.name);
    element("small", {}, about, `${layer.kind}, (${["N", ...layer.shape].join(", ")})`);
    const list = element("dl", {}, about);
    const told = [
      ["mean", layer.mean, words], ["deviation", layer.std, words], ["dead", layer.dead, percent],
      ["saturated", layer.saturated, percent], ["gradient", layer.grad_rms, words],
    ].filter(([, values]) => values?.some((v) => v !== null));
    const cells = told.map(([name]) => {
      element("dt", {}, list, name);
      return element("dd", {}, list);
    });
    view.followers.push((step) => {
      const at = step === null ? run.samples.length - 1 : Math.max(0, indexAt(run.samples, step));
      told.forEach(([, values, format], k) => { cells[k].textContent = format(values[at]); });
    });
    if (layer.hist) activationMap(layer, row, i);
    if (layer.grad_hist) gradientMap(layer, row, i);
  });
}

/** A picture of (height, width, channels) bytes on a canvas of as many pixels. */
function pixels(image, host, label) {
  const canvas = element("canvas", { width: image.width, height: image.height, role: "img", "aria-label": label }, host);
  const data = bytes(image.data);
  const made = new ImageData(image.width, image.height);
  for (let i = 0; i < image.width * image.height; i++) {
    for (let c = 0; c < 3; c++) made.data[4 * i + c] = data[i * image.channels + (image.channels === 3 ? c : 0)];
    made.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(made, 0, 0);
}

function buildFilters() {
  const part = document.getElementById("filters-part");
  if (!run.filters) { part.remove(); return; }
  document.getElementById("filters-note").textContent = run.filters.note;
  const host = document.getElementById("filters");
  run.filters.images.forEach((image, i) => pixels(image, element("li", {}, host), `filter ${i}`));
}

function buildConfusion() {
  const part = document.getElementById("confusion-part");
  if (!run.confusion) { part.remove(); return; }
  const { classes, counts, worst, accuracy, examples } = run.confusion;
  document.getElementById("confusion-note").textContent =
    `${accuracyWords(accuracy)} of ${examples} examples are right. Rows: what they are. Columns: what the network says.`;
  const table = document.getElementById("confusion");
  const head = element("tr", {}, element("thead", {}, table));
  element("th", { scope: "col" }, head, "is \\ says");
  for (const name of classes) element("th", { scope: "col" }, head, name);
  const body = element("tbody", {}, table);
  const wrong = Math.max(1, ...counts.flatMap((row, i) => row.filter((_, j) => j !== i)));
  counts.forEach((row, i) => {
    const line = element("tr", {}, body);
    element("th", { scope: "row" }, line, classes[i]);
    row.forEach((count, j) => {
      const cell = element("td", i === j ? { class: "right" } : {}, line, count ? String(count) : "·");
      if (i === j || !count) return;
      view.drawers.push(() => { cell.style.background = tinted("val", 0.1 + (isDark() ? 0.35 : 0.5) * (count / wrong)); });
    });
  });
  const list = document.getElementById("worst");
  if (!worst.length) document.getElementById("worst-title").remove();
  for (const mistake of worst) {
    const item = element("li", {}, list);
    const text = `is ${mistake.label}, says ${mistake.predicted} (${percent(mistake.probability)})`;
    pixels(mistake.image, item, text);
    item.append(text);
  }
}

function buildTable() {
  const table = document.getElementById("epochs");
  if (!run.epochs.length) { document.getElementById("epochs-part").remove(); return; }
  const keys = ["train_loss", "val_loss", "train_accuracy", "val_accuracy"].filter((k) => run.epochs.some((e) => k in e));
  const head = element("tr", {}, element("thead", {}, table));
  for (const name of ["epoch", "last step", ...keys.map((k) => k.replace("train_", "training ").replace("val_", "validation "))]) {
    element("th", { scope: "col" }, head, name);
  }
  const body = element("tbody", {}, table);
  run.epochs.forEach((epoch, i) => {
    const row = element("tr", {}, body);
    element("td", {}, row, String(i + 1));
    element("td", {}, row, String(epoch.step));
    for (const key of keys) element("td", {}, row, (key.includes("accuracy") ? accuracyWords : words)(epoch[key]));
  });
}

buildFacts();
buildChecks();
buildToolbar();
buildCurves();
buildLayers();
buildFilters();
buildConfusion();
buildTable();
view.redraw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view.redraw());
document.documentElement.dataset.ready = "true";
