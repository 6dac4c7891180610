// What a control tells the rest of the page at once, past Streamlit. Stands before live_slider.js and chips.js.

// Hand on what follows, and wait until it is drawn.
function follow(changes) {
  const drawn = [];
  for (const [kind, parts] of Object.entries(changes ?? {})) {
    for (const [key, change] of Object.entries(parts)) {
      const target = document.querySelector(`[data-${kind}="${CSS.escape(key)}"]`);
      const detail = { change, drawn: null };
      target?.dispatchEvent(new CustomEvent("mode:follow", { detail }));
      drawn.push(detail.drawn);
    }
  }
  return Promise.allSettled(drawn);
}

// Let go: does a chart of the page take the value, and have everything drawn again?
function taken(control, value) {
  const detail = { slider: control, value, taken: false };
  document.dispatchEvent(new CustomEvent("mode:settle", { detail }));
  return detail.taken;
}
