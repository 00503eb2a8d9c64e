// The line that says what goes on: words, a bar while something is under way, and the button that ends it.

const element = (id) => document.getElementById(id);

export const say = (text, error = false) => {
  element("status").textContent = text;
  element("status").classList.toggle("error", error);
};

export class Activity {
  #controller = null;

  constructor(changed) {
    this.changed = changed;
    element("cancel").addEventListener("click", () => this.cancel());
  }

  get busy() {
    return this.#controller !== null;
  }

  /** Runs work that takes a signal; its failures are said, and what is cancelled is dropped without a word. */
  async run(work) {
    this.cancel();
    const controller = (this.#controller = new AbortController());
    this.#show();
    try {
      await work(controller.signal);
    } catch (error) {
      if (!controller.signal.aborted) say(error.message, true);
      return error;
    } finally {
      if (this.#controller === controller) this.#end();
    }
  }

  cancel() {
    if (!this.busy) return;
    this.#controller.abort();
    this.#end();
    say("Cancelled.");
  }

  progress(done, total) {
    const bar = element("progress");
    if (total) Object.assign(bar, { value: done, max: total });
    else bar.removeAttribute("value");
  }

  #end() {
    this.#controller = null;
    this.#show();
  }

  #show() {
    element("progress").removeAttribute("value");
    element("progress").hidden = element("cancel").hidden = !this.busy;
    document.body.toggleAttribute("data-busy", this.busy);
    this.changed();
  }
}
