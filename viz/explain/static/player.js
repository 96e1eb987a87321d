((explain) => {
  /** Which step is shown. Emits `change`. `position` counts visible steps, from 0. */
  class Player extends EventTarget {
    #timer = null;

    constructor(model) {
      super();
      this.model = model;
      this.position = 0;
      this.interval = 1600;
      this.holds = () => false; // whether something keeps play from going on, such as a question
      model.addEventListener("fold", () => {
        this.position = model.indexOfRaw(this.raw);
        this.#emit();
      });
      this.raw = 0;
    }

    get steps() {
      return this.model.steps;
    }

    get playing() {
      return this.#timer !== null;
    }

    /** The last raw step that is shown. */
    #emit() {
      const { raw } = this.steps[this.position];
      this.raw = raw[raw.length - 1];
      this.dispatchEvent(new Event("change"));
    }

    go(position) {
      const next = Math.max(0, Math.min(this.steps.length - 1, Math.round(position)));
      if (next === this.position) return;
      this.position = next;
      this.#emit();
    }

    next() {
      if (this.position >= this.steps.length - 1) this.pause();
      else this.go(this.position + 1);
    }

    previous() {
      this.go(this.position - 1);
    }

    play() {
      if (this.playing) return;
      if (this.position >= this.steps.length - 1) this.go(0);
      this.#timer = setInterval(() => !this.holds() && this.next(), this.interval);
      this.dispatchEvent(new Event("change"));
    }

    pause() {
      if (!this.playing) return;
      clearInterval(this.#timer);
      this.#timer = null;
      this.dispatchEvent(new Event("change"));
    }

    setSpeed(milliseconds) {
      this.interval = milliseconds;
      if (!this.playing) return;
      clearInterval(this.#timer);
      this.#timer = setInterval(() => !this.holds() && this.next(), this.interval);
    }

    toggle() {
      if (this.playing) this.pause();
      else this.play();
    }
  }

  explain.Player = Player;
})(globalThis.explain);
