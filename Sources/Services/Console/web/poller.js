// Repeats a task while somebody looks: one run at a time, none in a hidden tab.

export class Poller {
  #seconds;
  #task;
  #timer = null;
  #running = null;
  #isStopped = false;
  #isPaused = false;
  #onVisibility = () => this.#wake();

  /** `task(signal)` handles its own faults; it is told by the signal when its result is no longer wanted. */
  constructor(seconds, task) {
    this.#seconds = seconds;
    this.#task = task;
    document.addEventListener("visibilitychange", this.#onVisibility);
  }

  /** Runs the task now; a run under way is given up. */
  refresh() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#running?.abort();
    return this.#run();
  }

  pause(isPaused) {
    this.#isPaused = isPaused;
    if (isPaused) clearTimeout(this.#timer);
    else this.#wake();
  }

  stop() {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    this.#running?.abort();
    document.removeEventListener("visibilitychange", this.#onVisibility);
  }

  #wake() {
    if (document.hidden || this.#isPaused || this.#isStopped || this.#running) return;
    clearTimeout(this.#timer);
    this.#run();
  }

  async #run() {
    if (this.#isStopped) return;
    const run = new AbortController();
    this.#running = run;
    try {
      await this.#task(run.signal);
    } finally {
      if (this.#running === run) {
        this.#running = null;
        if (!this.#isPaused && !this.#isStopped && !document.hidden) {
          this.#timer = setTimeout(() => this.#run(), this.#seconds * 1000);
        }
      }
    }
  }
}
