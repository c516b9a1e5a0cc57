// The pictures of a replay: one canvas a camera, all of the same step.
import { fill, gettext } from "./language.js";

export class Screens {
  /** @param {Element} place where the canvases go */
  constructor(place) {
    this.place = place;
    this.canvases = [];
  }

  /** Have a blank canvas for each camera. @param {{name: string, title: string}[]} cameras */
  lay(cameras) {
    const names = cameras.map((camera) => camera.name).join();
    if (this.place.dataset.names !== names || !this.canvases.length) {
      this.place.dataset.names = names;
      this.canvases = cameras.map(canvasOf);
      this.place.replaceChildren(...this.canvases.map((canvas) => canvas.parentElement));
    }
    // Never the last episode's picture under this one's name.
    for (const canvas of this.canvases) {
      canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
      delete canvas.dataset.shown;
    }
  }

  /**
   * Draw every camera at a step: at once what is decoded, the rest when it is.
   * @param {object} recording @param {number} step @param {() => boolean} wanted whether it still is
   */
  draw(recording, step, wanted) {
    recording.replay.cameras.forEach(({ name }, i) => {
      const canvas = this.canvases[i];
      const bitmap = recording.pictures.at(name, step);
      if (bitmap) return put(canvas, bitmap, recording, step);
      recording.pictures.decode(name, step).then(
        (decoded) => decoded && wanted() && put(canvas, decoded, recording, step),
        () => {},
      );
    });
  }
}

function canvasOf({ title }) {
  const figure = document.createElement("figure");
  figure.className = "vid";
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", fill(gettext("%(name)s camera"), { name: title }));
  figure.append(canvas, Object.assign(document.createElement("figcaption"), { className: "plate title", textContent: title }));
  return canvas;
}

function put(canvas, bitmap, recording, step) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  canvas.dataset.shown = recording.replay.uid;
  canvas.dataset.step = String(step);
}

/** Resolves when the browser has drawn what was changed; in a hidden tab, which draws nothing, soon. */
export function drawn() {
  return new Promise((done) => {
    requestAnimationFrame(() => setTimeout(done));
    setTimeout(done, 250);
  });
}
