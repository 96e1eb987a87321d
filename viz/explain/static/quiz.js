((explain) => {
  const SHARE = 0.02;
  const NEAR_ZERO = 0.001;

  const near = (typed, answer) =>
    Math.abs(typed - answer) <= Math.max(SHARE * Math.abs(answer), NEAR_ZERO * Math.min(1, Math.abs(answer) || 1));

  /** The quiz: hides the number of a backward step until it has been guessed or shown. Emits `change`. */
  class Quiz extends EventTarget {
    constructor(model) {
      super();
      this.model = model;
      this.on = false;
      this.answered = new Map(); // raw step -> true (right) or false (shown)
      this.tried = new Set();
      this.right = 0;
      this.asked = 0;
      explain.byId("quiz").addEventListener("submit", (event) => {
        event.preventDefault();
        this.#check();
      });
      explain.byId("quiz-reveal").addEventListener("click", () => this.#settle(false));
    }

    toggle() {
      this.on = !this.on;
      this.dispatchEvent(new Event("change"));
    }

    /** The question of a visible step: {raw, tensor, step}, or null. */
    question(visible) {
      if (!this.on || visible.raw.length !== 1) return null;
      const raw = visible.raw[0];
      const step = this.model.data.steps[raw];
      if (!["edge", "sum"].includes(step.kind) || !step.element || this.answered.has(raw)) return null;
      if (step.kind === "edge" && this.model.edges.get(step.edges[0]).local === null) return null; // no head could do it
      const number = step.kind === "edge" ? this.model.edges.get(step.edges[0]).grad : this.model.nodes.get(step.node).grad;
      const tensor = explain.tensor(number);
      const answer = tensor?.at(...step.element);
      return answer === undefined || !Number.isFinite(answer) ? null : { raw, step, tensor, answer };
    }

    /** What is asked for, in letters: "dL/da", "dL/da [0, 1]" for one element of several. */
    asking({ step, tensor }) {
      const edge = step.kind === "edge" && this.model.edges.get(step.edges[0]);
      const node = this.model.nodes.get(edge ? edge.source : step.node);
      const name = node.subscript ? `${node.symbol}_${node.subscript}` : node.symbol;
      const target = this.model.nodes.get(step.node);
      const shared = edge && this.model.sharedNodes.has(node.id);
      const through = shared ? ` through ${target.symbol}${target.subscript ? `_${target.subscript}` : ""}` : "";
      return `d${this.model.data.loss}/d${name}${through}${tensor.size > 1 ? ` [${step.element.join(", ")}]` : ""}`;
    }

    /** Shows the question in the panel, or hides the form. */
    show(question) {
      const form = explain.byId("quiz");
      form.hidden = !question;
      const score = explain.byId("quiz-score");
      score.hidden = !this.on;
      score.textContent = this.asked
        ? `Score: ${this.right} of ${this.asked} right at the first try`
        : "Quiz: each gradient is asked for before it is shown.";
      if (!question) {
        this.current = null;
        return;
      }
      if (this.current?.raw === question.raw) return;
      this.current = question;
      const { step, tensor } = question;
      const where = tensor.size > 1 ? [`, element [${step.element.join(", ")}]`] : [];
      const left = step.math[0] === "mrow" ? step.math[1] : step.math;
      explain.fill(explain.byId("quiz-prompt"), "What is ", explain.math(left), ...where, "?", ...this.#given(question));
      explain.byId("quiz-tolerance").textContent = "Within 2 % is right; so is a fraction such as -1/3.";
      explain.byId("quiz-feedback").textContent = "";
      explain.byId("quiz-feedback").className = "";
      const input = explain.byId("quiz-input");
      input.value = "";
      input.setAttribute("aria-label", this.asking(question));
      input.removeAttribute("aria-invalid");
      if (!explain.isTouch?.()) input.focus({ preventScroll: true });
    }

    /** For one element of a tensor, the numbers that its gradient follows from: what arrives there, and the values of the inputs. */
    #given({ step, tensor }) {
      if (step.kind !== "edge" || tensor.size === 1) return [];
      const { model } = this;
      const edge = model.edges.get(step.edges[0]);
      const target = model.nodes.get(edge.target);
      const upstream = model.gradientOf(target);
      const facts = [[explain.derivativeTree(model.data.loss, target), upstream?.single ?? upstream?.at(...step.element)]];
      for (const input of model.inputs.get(edge.target)) {
        const source = model.nodes.get(input.source);
        const value = model.valueOf(source, input.output);
        facts.push([explain.symbolTree(source), value?.single ?? value?.at(...step.element)]);
      }
      const known = facts.filter(([, value]) => value !== undefined);
      const equations = known.flatMap(([tree, value], i) => [i ? ", " : "", explain.math(tree), ` = ${explain.number(value)}`]);
      return [explain.create("span", { class: "quiz-given" }, "There, ", ...equations, ".")];
    }

    #check() {
      const { answer, raw } = this.current;
      const typed = explain.readNumber(explain.byId("quiz-input").value);
      if (Number.isNaN(typed)) {
        this.#say("Type a number, such as -4, 0.25 or 1/3.", false);
        return;
      }
      if (near(typed, answer)) {
        this.#settle(true);
        return;
      }
      this.tried.add(raw);
      this.#say(this.#hint(typed), false);
    }

    /** What a wrong answer probably was. */
    #hint(typed) {
      const { answer, step } = this.current;
      if (near(-typed, answer)) return "The size is right, the sign is not.";
      if (step.kind === "sum") return "Not yet: add up the gradients of all its uses.";
      const edge = this.model.edges.get(step.edges[0]);
      const local = explain.tensor(edge.local);
      const upstream = this.model.gradientOf(this.model.nodes.get(edge.target));
      const [localValue, upstreamValue] = [local?.at(...step.element), upstream?.single ?? upstream?.at(...step.element)];
      if (localValue !== undefined && near(typed, localValue))
        return "That is the local derivative alone: multiply it by the gradient that arrives.";
      if (upstreamValue !== undefined && near(typed, upstreamValue))
        return "That is the gradient that arrives: multiply it by the local derivative.";
      return "Not yet: the gradient that arrives, times the local derivative.";
    }

    #settle(right) {
      const { raw, answer } = this.current;
      const firstTry = right && !this.tried.has(raw);
      this.answered.set(raw, right);
      this.asked += 1;
      if (firstTry) this.right += 1;
      this.last = { raw, text: right ? `Right: ${explain.number(answer)}.` : `It is ${explain.number(answer)}.`, right };
      this.dispatchEvent(new Event("change"));
      explain.byId("forward").focus({ preventScroll: true });
    }

    #say(text, right) {
      const feedback = explain.byId("quiz-feedback");
      feedback.textContent = text;
      feedback.className = right ? "is-right" : "is-wrong";
      explain.byId("quiz-input").setAttribute("aria-invalid", "true");
      explain.byId("quiz-input").select();
    }
  }

  explain.Quiz = Quiz;
})(globalThis.explain);
