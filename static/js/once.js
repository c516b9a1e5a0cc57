// As little work as a page can do: one thing once before its next picture, and no element moved that
// stands well.

/**
 * @param {() => void} run @param {(run: () => void) => void} [later] for tests
 * @returns {() => void} asks for `run`; asked again before it ran, nothing more happens
 */
export function once(run, later = soon) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    later(() => {
      asked = false;
      run();
    });
  };
}

/** Before the next frame; a hidden page draws none, and is right all the same when it is looked at. */
function soon(run) {
  if (document.hidden) setTimeout(run);
  else requestAnimationFrame(run);
}

/**
 * Put children first, in this order, and move only those that stand elsewhere: what is taken out and
 * put back is laid out anew. @param {Element} parent @param {Element[]} wanted
 */
export function arrange(parent, wanted) {
  const ours = new Set(wanted);
  let place = parent.firstElementChild;
  for (const child of wanted) {
    // One that goes further down makes room, in place of all the others.
    if (place && place !== child && place.nextElementSibling === child && ours.has(place)) {
      const late = place;
      place = child;
      late.remove();
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
}
