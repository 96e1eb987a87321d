((explain) => {
  const { byId } = explain;
  const started = performance.now();

  explain.announce = (text) => {
    byId("step-text").textContent = text;
  };
  explain.isTouch = () => matchMedia("(pointer: coarse)").matches;

  const data = JSON.parse(byId("page-data").textContent);
  explain.useTensors(data.tensors);
  const model = new explain.Model(data);
  const player = new explain.Player(model);
  const quiz = new explain.Quiz(model);
  const diagram = new explain.Diagram(byId("diagram"), model);
  const viewport = new explain.Viewport(byId("diagram"), diagram);
  let pinned = null; // the node whose view the reader chose; null: the one being played
  let asked = null; // the open question of the quiz

  const reached = () => {
    const last = player.raw;
    const limit = asked ? last - 1 : last;
    return {
      value: (node) => (model.valueAt.get(node) ?? Infinity) <= last,
      gradient: (node) => (model.gradientAt.get(node) ?? Infinity) <= limit,
      edge: (at) => at <= limit,
    };
  };

  const state = {
    selection: null,
    pass: () => model.stepData(player.position).pass,
    reached,
    /** The argument of `node` whose gradient this step plays, or null. */
    argument: (node) => {
      const step = model.stepData(player.position);
      return step.kind === "edge" && step.node === node ? model.edges.get(step.edges[0]).argument : null;
    },
    asked: () => Boolean(asked),
    select: (selection) => {
      state.selection = selection;
      host.select(selection);
    },
  };
  const host = new explain.ViewHost(model, state);
  const inspector = new explain.Inspector(state);

  /** Boxes and wires of the step: forward the inputs of the operator; backward the edge that carries the gradient. */
  const current = (visible) => {
    const boxes = new Set();
    const wires = new Set();
    const hidden = new Set();
    const steps = visible.raw.map((raw) => data.steps[raw]);
    if (visible.box) boxes.add(visible.box);
    for (const step of steps) {
      for (const wire of model.wires) {
        const carries =
          step.kind === "operator"
            ? wire.edges.some((edge) => edge.target === step.node)
            : step.kind === "seed"
              ? wire.terminal && wire.node.id === step.node
              : wire.edges.some((edge) => step.edges.includes(edge.id));
        if (carries) wires.add(wire.id);
        if (carries && asked && step.kind === "edge") hidden.add(wire.id);
      }
    }
    return { boxes, wires, pass: visible.pass, asked: hidden };
  };

  const nodeOfStep = (visible) => {
    const nodes = [...new Set(visible.raw.map((raw) => data.steps[raw].node).filter(Boolean))].filter(
      (node) => model.nodes.get(node).kind === "operator",
    );
    return nodes.length ? model.nodes.get(nodes[nodes.length - 1]) : null;
  };

  const render = () => {
    const visible = player.steps[player.position];
    const before = asked;
    asked = quiz.question(visible);
    explain.showStep(model, visible, Boolean(asked));
    quiz.show(asked);
    diagram.show(reached(), current(visible));
    byId("step-index").textContent = String(player.position);
    byId("step-count").textContent = String(player.steps.length - 1);
    const scrub = byId("scrub");
    scrub.max = String(player.steps.length - 1);
    scrub.value = String(player.position);
    showPasses();
    scrub.setAttribute("aria-valuetext", `${byId("pass").textContent}, step ${player.position} of ${player.steps.length - 1}`);
    const play = byId("play");
    play.dataset.playing = String(player.playing);
    play.setAttribute("aria-label", player.playing ? "Pause" : "Play");
    byId("first").disabled = byId("back").disabled = player.position === 0;
    byId("last").disabled = byId("forward").disabled = player.position === player.steps.length - 1;
    if (Boolean(before) !== Boolean(asked)) inspector.refresh();
    host.show(pinned ?? nodeOfStep(visible));
    if (viewport.following && visible.box) viewport.reveal(diagram.area(visible.box));
    const words = explain.stepWords(model, visible, asked ? quiz.asking(asked) : "");
    explain.announce(
      quiz.last && quiz.last.raw === player.raw && quiz.answered.has(player.raw) ? `${quiz.last.text} ${words}` : words,
    );
  };

  /** A long, flat graph gets the whole width, with the panel below it. */
  const arrange = () => {
    const { classList } = document.body;
    classList.remove("panel-below");
    diagram.build(viewport.size);
    const beside = viewport.scaleToFit;
    if (innerWidth <= 760 || !diagram.horizontal || beside > 1) return;
    classList.add("panel-below");
    diagram.build(viewport.size);
    if (diagram.horizontal && viewport.scaleToFit > 1.2 * beside) return;
    classList.remove("panel-below");
    diagram.build(viewport.size);
  };

  /** A green and a red stretch below the scrubber: which steps are forward and which backward. */
  const showPasses = () => {
    const last = Math.max(1, player.steps.length - 1);
    const backward = player.steps.findIndex((step) => step.pass === "backward");
    const share = backward < 0 ? 100 : (100 * (backward - 0.5)) / last;
    const [green, red] = ["var(--value)", "var(--gradient)"];
    byId("passes").style.background = `linear-gradient(to right, ${green} ${share}%, ${red} ${share}%)`;
  };

  const build = (whole) => {
    arrange();
    viewport.fit(whole);
    render();
  };

  /** What the inspector shows of a node, or of one use of it. */
  const subjectOf = (node, wire) => {
    const edge = wire && wire.edges.length === 1 ? wire.edges[0] : null;
    const output = wire ? wire.output : 0;
    const title = node.kind === "operator" ? node.label : node.kind;
    const through = edge && model.sharedNodes.has(node.id) ? "gradient of this use" : "gradient";
    return {
      title,
      tree: explain.symbolTree(node),
      value: model.valueOf(node, output),
      gradient: edge && edge.grad !== null ? explain.tensor(edge.grad) : model.gradientOf(node, output),
      gradientLabel: through,
    };
  };

  diagram.addEventListener("pick", ({ detail }) => {
    if (detail.cluster) {
      const wasFolded = model.boxes.has(detail.cluster);
      model.toggle(detail.cluster);
      build(false);
      viewport.reveal(diagram.area(detail.cluster));
      const again = byId("diagram").querySelector(`[data-cluster="${detail.cluster}"]`);
      again?.focus({ preventScroll: true });
      explain.announce(`${model.clusters.get(detail.cluster).label} ${wasFolded ? "opened" : "closed"}`);
      return;
    }
    const node = detail.box ? detail.box.node : detail.wire.node;
    pinned = node.kind === "operator" ? node : null;
    host.show(pinned ?? nodeOfStep(player.steps[player.position]));
    inspector.open(subjectOf(node, detail.wire), detail.box ? document.activeElement : null);
  });

  player.addEventListener("change", () => {
    pinned = null;
    render();
  });
  player.holds = () => Boolean(asked);
  quiz.addEventListener("change", () => {
    byId("quiz-toggle").setAttribute("aria-pressed", String(quiz.on));
    document.body.classList.toggle("quiz-on", quiz.on);
    render();
  });

  byId("diagram").addEventListener("focusin", ({ target }) => {
    const { node, cluster } = target.dataset;
    if (target.matches(":focus-visible")) viewport.reveal(diagram.area(node ?? cluster));
  });

  const actions = {
    first: () => player.go(0),
    back: () => player.previous(),
    play: () => player.toggle(),
    forward: () => player.next(),
    last: () => player.go(Infinity),
    "quiz-toggle": () => quiz.toggle(),
    fit: () => viewport.fit(true),
    "zoom-in": () => viewport.zoom(1.25),
    "zoom-out": () => viewport.zoom(0.8),
    help: () => byId("help-dialog").showModal(),
  };
  for (const [id, act] of Object.entries(actions)) byId(id).addEventListener("click", act);
  byId("scrub").addEventListener("input", (event) => player.go(Number(event.target.value)));
  byId("speed").addEventListener("change", (event) => player.setSpeed(Number(event.target.value)));
  byId("theme").addEventListener("change", (event) => {
    if (event.target.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = event.target.value;
    repaint();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => repaint());

  /** Canvases hold colours of the theme they were drawn in. */
  const repaint = () => {
    diagram.paint();
    inspector.refresh();
    const shown = host.node;
    host.show(null);
    host.show(shown);
  };

  const keys = {
    ArrowRight: "forward",
    ArrowLeft: "back",
    " ": "play",
    Home: "first",
    End: "last",
    q: "quiz-toggle",
    f: "fit",
    "+": "zoom-in",
    "=": "zoom-in",
    "-": "zoom-out",
    "?": "help",
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("help-dialog").open) {
      if (document.body.classList.contains("view-is-large")) byId("view-enlarge").click();
      else inspector.close();
    }
    const { target } = event;
    const typing = target.matches("input:not([type=range]), select, textarea") || byId("help-dialog").open;
    const pressing = event.key === " " && target.matches("button, summary, a");
    if (typing || pressing || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !(event.key in keys))
      return;
    if (target.id === "scrub" && event.key !== " ") {
      if (!["ArrowRight", "ArrowLeft", "Home", "End"].includes(event.key)) return;
    }
    event.preventDefault();
    actions[keys[event.key]]();
  });

  byId("title").textContent = data.title;
  byId("note").textContent = data.note;
  byId("note").hidden = !data.note;
  build(false);
  let [lastWidth, lastHeight] = [viewport.size.width, viewport.size.height];
  new ResizeObserver(() => {
    const { width, height } = viewport.size;
    if (Math.abs(width - lastWidth) < 8 && Math.abs(height - lastHeight) < 8) return;
    [lastWidth, lastHeight] = [width, height];
    build(false);
  }).observe(byId("stage"));

  Object.assign(explain, { player, model, diagram, viewport, quiz, inspector });
  document.documentElement.dataset.loadMilliseconds = String(Math.round(performance.now() - started));
  document.documentElement.dataset.ready = "true";
})(globalThis.explain);
