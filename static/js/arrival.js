// What a person came to a page for, from its address.

/** @returns {boolean} whether the robot page was opened from the help queue, to take over at once; a reload does not */
export function cameToTake() {
  if (location.hash !== "#take") return false;
  history.replaceState(null, "", location.pathname);
  return true;
}
