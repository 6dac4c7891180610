// A row of numbered steps; arrow keys and page keys go to the next or the last one from anywhere on the page.
const rows = new WeakMap();
const MOVES = { ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1 };
// Where keys have a meaning of their own they keep it.
const OWN = "input, textarea, select, [contenteditable], [role=radiogroup], [data-picks], [role=slider], [role=listbox]";

function mount(root) {
  const row = { list: root.querySelector("[data-part=steps]"), go: () => {} };
  row.onKey = (event) => {
    const move = MOVES[event.key];
    if (!move || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const target = event.composedPath()[0];
    if (event.key.startsWith("Arrow") && target instanceof Element && target.closest(OWN)) return;
    const next = row.current + move;
    if (next < 0 || next >= row.count) return;
    event.preventDefault();
    row.go(next);
  };
  document.addEventListener("keydown", row.onKey);
  row.screen = Object.assign(document.createElement("button"), { type: "button", className: "screen" });
  row.onScreen = () => {
    row.screen.textContent = document.fullscreenElement ? "Leave full screen" : "Full screen";
  };
  row.screen.addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen?.().catch(() => {}); // not allowed: the window will do
  });
  document.addEventListener("fullscreenchange", row.onScreen);
  row.onScreen();
  return row;
}

function draw(row, { labels, current, screen }) {
  Object.assign(row, { current, count: labels.length });
  row.list.replaceChildren(
    ...labels.map((label, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = place < current ? "done" : place === current ? "now" : "";
      if (place === current) button.setAttribute("aria-current", "step");
      const number = Object.assign(document.createElement("b"), { textContent: String(place + 1) });
      const name = Object.assign(document.createElement("span"), { textContent: label });
      button.setAttribute("aria-label", `Step ${place + 1}: ${label}`);
      button.append(number, name);
      button.addEventListener("click", () => row.go(place));
      return button;
    }),
    ...(screen ? [row.screen] : []),
  );
}

export default function ({ data, parentElement, setTriggerValue }) {
  if (!rows.has(parentElement)) rows.set(parentElement, mount(parentElement));
  const row = rows.get(parentElement);
  row.go = (place) => {
    if (place !== row.current) setTriggerValue("step", place);
    draw(row, { ...data, current: place }); // at once; the page follows
  };
  draw(row, data);
  return () => {
    document.removeEventListener("keydown", row.onKey);
    document.removeEventListener("fullscreenchange", row.onScreen);
    rows.delete(parentElement);
  };
}
