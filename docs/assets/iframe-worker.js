// Browsers start no worker from a folder (file://), and the search is one. There, a hidden frame takes its place.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #frame = document.createElement("iframe");
    #inside;

    constructor(url) {
      super();
      this.#inside = new Promise((resolve, reject) => {
        this.#frame.addEventListener("load", () => this.#begin(url, resolve, reject), { once: true });
      });
      this.#frame.hidden = true;
      this.#frame.srcdoc = "<!doctype html><title>search</title>";
      document.body.append(this.#frame);
    }

    // Loads the worker's script into the frame, and what that posts comes out of here.
    #begin(url, resolve, reject) {
      const inside = this.#frame.contentWindow;
      const load = (source) =>
        new Promise((loaded, failed) => {
          const script = inside.document.createElement("script");
          Object.assign(script, { src: source, onload: loaded, onerror: failed });
          inside.document.body.append(script);
        });
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) }));
      inside.importScripts = (...sources) => sources.reduce((before, source) => before.then(() => load(source)), Promise.resolve());
      load(new URL(url, location.href).href).then(() => resolve(inside), reject);
    }

    postMessage(data) {
      this.#inside.then((inside) => inside.dispatchEvent(new inside.MessageEvent("message", { data: structuredClone(data) })));
    }

    terminate() {
      this.#frame.remove();
    }
  };
}
