// A range input that reports while it is dragged: at most one request under way, the newest value never lost.
// What comes back with an answer goes straight to the charts and readouts that it names.
const INTERVAL = 40; // ms between two reports
const PATIENCE = 2000; // ms after which an unanswered report no longer holds back the next
const REST = 300; // ms without a key after which the value counts as let go
const sliders = new WeakMap();

function mount(root) {
  const find = (part) => root.querySelector(`[data-part=${part}]`);
  const slider = { label: find("label"), input: find("input"), output: find("output"), low: find("low"), high: find("high"),
    why: find("why"), said: find("said") };
  Object.assign(slider, { sequence: 0, pending: null, sentAt: -Infinity, waiting: false, held: false, moved: false });
  const { input } = slider;
  input.addEventListener("input", () => {
    if (!slider.moved) document.dispatchEvent(new CustomEvent("mode:move")); // what does not follow is marked
    slider.moved = true;
    if (slider.data.follows) slider.pending = Number(input.value);
    paint(slider);
    pump(slider);
    clearTimeout(slider.rest);
    if (!slider.held) slider.rest = setTimeout(() => settle(slider), REST);
  });
  for (const name of ["pointerdown", "touchstart"]) input.addEventListener(name, () => (slider.held = true), { passive: true });
  for (const name of ["pointerup", "pointercancel", "touchend", "blur"]) {
    input.addEventListener(name, () => {
      slider.held = false;
      settle(slider);
    }, { passive: true });
  }
  return slider;
}

function words(data, value) {
  return value.toFixed(data.decimals) + data.unit;
}

function paint(slider) {
  const { data, input } = slider;
  const value = Number(input.value);
  const share = (value - data.low) / Math.max(data.high - data.low, 1e-12);
  input.style.setProperty("--filled", `${100 * Math.min(1, Math.max(0, share))}%`);
  input.setAttribute("aria-valuetext", words(data, value));
  slider.output.textContent = words(data, value);
}

function pump(slider) {
  if (slider.pending === null) return;
  clearTimeout(slider.timer);
  const since = performance.now() - slider.sentAt;
  if (slider.waiting && since < PATIENCE) {
    slider.timer = setTimeout(() => pump(slider), PATIENCE - since);
  } else if (since < INTERVAL) {
    slider.timer = setTimeout(() => pump(slider), INTERVAL - since);
  } else {
    report(slider, { value: slider.pending });
    slider.pending = null;
  }
}

function report(slider, state) {
  slider.sequence += 1;
  slider.waiting = true;
  slider.sentAt = performance.now();
  slider.report({ ...state, sequence: slider.sequence });
}

// Let go: a chart of the page takes the value and has everything drawn again; without any, the slider does.
function settle(slider) {
  clearTimeout(slider.rest);
  if (!slider.moved) return;
  slider.moved = false;
  slider.pending = null;
  const value = Number(slider.input.value);
  if (!taken(slider.data.key, value)) report(slider, { value, alone: true });
}

function update(slider, data) {
  const { input } = slider;
  slider.data = data;
  slider.label.textContent = data.label;
  slider.low.textContent = data.low.toFixed(data.decimals);
  slider.high.textContent = data.high.toFixed(data.decimals);
  Object.assign(input, { min: data.low, max: data.high, step: data.step, disabled: data.disabled });
  input.setAttribute("aria-label", data.label);
  slider.why.hidden = !data.help;
  slider.why.setAttribute("aria-label", data.help);
  slider.said.textContent = data.help;
  const answered = data.sequence >= slider.sequence;
  if (answered) slider.sequence = data.sequence;
  if (!slider.held && !slider.moved && slider.pending === null) input.value = data.value;
  paint(slider);
  follow(data.changes).then(() => {
    if (answered) slider.waiting = slider.sequence > data.sequence;
    pump(slider);
  });
}

export default function ({ data, parentElement, setStateValue }) {
  if (!sliders.has(parentElement)) sliders.set(parentElement, mount(parentElement));
  const slider = sliders.get(parentElement);
  slider.report = (state) => setStateValue("drag", state);
  update(slider, JSON.parse(new TextDecoder().decode(data)));
  return () => {
    clearTimeout(slider.timer);
    clearTimeout(slider.rest);
  };
}
