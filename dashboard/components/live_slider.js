// A range input that reports while it is dragged: at most one request under way, the newest value never lost.
const INTERVAL = 90; // ms between two reports
const PATIENCE = 2000; // ms after which an unanswered report no longer holds back the next
const sliders = new WeakMap();

function mount(root) {
  const find = (part) => root.querySelector(`[data-part=${part}]`);
  const slider = { label: find("label"), input: find("input"), output: find("output"), low: find("low"), high: find("high"),
    why: find("why"), said: find("said") };
  Object.assign(slider, { sequence: 0, pending: null, sentAt: -Infinity, waiting: false, held: false, told: false, timer: 0 });
  const { input } = slider;
  input.addEventListener("input", () => {
    slider.pending = Number(input.value);
    paint(slider);
    pump(slider);
  });
  for (const name of ["pointerdown", "touchstart"]) input.addEventListener(name, () => (slider.held = true), { passive: true });
  for (const name of ["pointerup", "pointercancel", "touchend", "blur"]) {
    input.addEventListener(name, () => release(slider), { passive: true });
  }
  return slider;
}

// What was left out while it was held is drawn now: the last value is reported once more, as let go.
function release(slider) {
  const reported = slider.held && slider.told;
  slider.held = false;
  if (reported) slider.pending = Number(slider.input.value);
  slider.told = false;
  pump(slider);
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
    slider.sequence += 1;
    slider.waiting = true;
    slider.sentAt = performance.now();
    slider.told = slider.told || slider.held;
    slider.report({ value: slider.pending, sequence: slider.sequence, held: slider.held });
    slider.pending = null;
  }
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
  if (data.sequence >= slider.sequence) {
    slider.sequence = data.sequence;
    slider.waiting = false;
  }
  if (!slider.held && !slider.waiting && slider.pending === null) input.value = data.value;
  paint(slider);
  pump(slider);
}

export default function ({ data, parentElement, setStateValue }) {
  if (!sliders.has(parentElement)) sliders.set(parentElement, mount(parentElement));
  const slider = sliders.get(parentElement);
  slider.report = (state) => setStateValue("drag", state);
  update(slider, data);
  return () => clearTimeout(slider.timer);
}
