// Keeps one Plotly chart and redraws it in place (Plotly.react), so zoom stays and nothing flickers.
// Plotly itself is Streamlit's, which the page asks for before anything else (`shell/preload.py`).
const charts = new WeakMap();
const PATIENCE = 20000; // ms to wait for Plotly on a first, slow load
const TOUCHED = matchMedia("(pointer: coarse)").matches; // by a finger: no zoom by hand, and no bar that lies over titles

async function plotly() {
  for (const start = performance.now(); performance.now() - start < PATIENCE; ) {
    if (window.Plotly) return window.Plotly;
    await new Promise((wake) => setTimeout(wake, 30));
  }
  throw new Error("Plotly did not load; start the dashboard with MODE_CONTROLS=plain to use Streamlit's own charts.");
}

// An address restores the view, so this is all that a chart needs to be shown to somebody else.
const LINK = {
  name: "link",
  title: "Copy link to this view",
  icon: {
    width: 24,
    height: 24,
    path:
      "M3.9 12a3.1 3.1 0 0 1 3.1-3.1h4V7H7a5 5 0 0 0 0 10h4v-1.9H7A3.1 3.1 0 0 1 3.9 12zM8 13h8v-2H8v2zm9-6h-4v1.9h4" +
      "a3.1 3.1 0 0 1 0 6.2h-4V17h4a5 5 0 0 0 0-10z",
  },
  async click(_, event) {
    const button = event.currentTarget;
    try {
      await navigator.clipboard.writeText(location.href);
      button.dataset.title = "Link copied";
    } catch {
      window.prompt("Link to this view", location.href); // no clipboard without https
    }
  },
};

function mount(root) {
  const [holder, says, live, whole] = ["figure", "says", "live", "whole"].map((part) =>
    root.querySelector(`[data-part=${part}]`),
  );
  const chart = { holder, says, live, fills: whole, drawing: Promise.resolve(), listening: false };
  chart.sizes = new ResizeObserver(() => draw(chart));
  chart.sizes.observe(holder);
  chart.onResize = () => draw(chart);
  addEventListener("resize", chart.onResize);
  const stage = (chart.stage = root.closest("[class*=st-key-stage]") ?? root);
  chart.page = root.closest("[data-testid=stMain]") ?? root;
  const content = root.closest("[data-testid=stMainBlockContainer]");
  if (content) chart.sizes.observe(content); // what stands above may take another height
  whole.addEventListener("click", () => fill(chart, !("whole" in stage.dataset)));
  chart.onLeave = (event) => {
    if (event.type === "keydown" ? event.key === "Escape" : !document.fullscreenElement) fill(chart, false);
  };
  for (const name of ["fullscreenchange", "keydown"]) document.addEventListener(name, chart.onLeave);
  for (const button of root.querySelectorAll("[data-format]")) {
    button.addEventListener("click", () => save(chart, button.dataset.format));
  }
  holder.addEventListener("mode:follow", ({ detail }) => {
    if (!chart.whole || detail.change.over !== chart.mark) return; // another figure came meanwhile
    detail.drawn = show(chart, merged(chart.whole, detail.change));
  });
  // A chart that waits until the slider is let go says by its paleness that it is of the value before.
  chart.onMove = () => {
    if (!chart.mark) holder.dataset.waits = "";
  };
  document.addEventListener("mode:move", chart.onMove);
  chart.onSettle = ({ detail }) => {
    if (detail.taken || !chart.settle) return;
    detail.taken = true;
    chart.settle({ slider: detail.slider, value: detail.value });
  };
  document.addEventListener("mode:settle", chart.onSettle);
  return chart;
}

// The part of the page that the chart stands in, over all of it, and the browser's window over the screen.
function fill({ stage, holder, fills }, whole) {
  if (whole === "whole" in stage.dataset) return;
  fills.textContent = whole ? "Leave full screen" : "Full screen";
  if (whole) {
    stage.dataset.whole = "";
    stage.style.setProperty("--ground", getComputedStyle(holder).getPropertyValue("--st-background-color"));
    document.documentElement.requestFullscreen?.().catch(() => {}); // not allowed: the window is filled all the same
  } else {
    delete stage.dataset.whole;
    if (document.fullscreenElement) document.exitFullscreen();
  }
  dispatchEvent(new Event("resize"));
}

const TYPES = { f4: Float32Array, f8: Float64Array, i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array,
  i4: Int32Array, u4: Uint32Array };

// Arrays come as base64 of their type: unpacked here once, and not by Plotly at every step of a drag.
function unpacked(trace) {
  const found = { ...trace };
  for (const [name, packed] of Object.entries(trace)) {
    if (name === "marker") found[name] = unpacked(packed);
    if (!packed?.bdata || !TYPES[packed.dtype]) continue;
    const bytes = Uint8Array.fromBase64?.(packed.bdata) ?? Uint8Array.from(atob(packed.bdata), (one) => one.charCodeAt(0));
    const flat = new TYPES[packed.dtype](bytes.buffer);
    const [rows, columns, more] = (packed.shape ?? `${flat.length}`).split(",").map(Number);
    if (more) continue;
    const row = (_, number) => flat.subarray(number * columns, (number + 1) * columns);
    found[name] = columns ? Array.from({ length: rows }, row) : flat;
  }
  return found;
}

// What a slider changed while it is dragged, laid over the figure that the page last sent whole.
function merged(whole, change) {
  const data = change.data.map(unpacked).map((trace, place) => (trace.new ? trace : over(whole.data[place], trace)));
  return { ...whole, data, layout: over(whole.layout, change.layout), alt: change.alt, summary: change.summary };
}

function over(before, change) {
  const now = { ...before, ...change };
  for (const [name, value] of Object.entries(change)) if (value === null) delete now[name];
  return now;
}

function show(chart, figure) {
  chart.figure = figure;
  const { holder, says } = chart;
  holder.setAttribute("aria-label", chart.picks ? `${figure.alt} Arrow keys move on it.` : figure.alt);
  chart.fills.hidden = !figure.layout.meta?.tall;
  const { at } = figure.layout.meta ?? {};
  if (!at || !(performance.now() < chart.until) || String(at) === String(chart.at)) {
    Object.assign(chart, { at, until: 0 }); // else the page has yet to answer what was chosen since
  }
  says.textContent = chart.caption ? figure.summary : "";
  return draw(chart);
}

function draw(chart) {
  const width = chart.holder.clientWidth;
  if (!chart.figure || width < 40 || drawn(chart, width)) return chart.drawing;
  chart.drawing = chart.drawing.then(() => redraw(chart, width)).catch((error) => {
    chart.holder.textContent = error.message;
  });
  return chart.drawing;
}

function drawn(chart, width) {
  return chart.drawn === chart.figure && chart.width === width && chart.height === height(chart);
}

// Of the figure: in the window, where it may take its height from that. Of the layout, which on a phone does not change
// with the bars of the browser that come and go.
// What stands above it on the page is left room for, so that it is in the first view whole, where that is enough (`fold`).
function height({ figure, stage, page, holder }) {
  const by = growth(figure), { tall, reserve, fold } = figure.layout.meta ?? {};
  if (!tall) return by * figure.layout.height;
  const window = document.documentElement.clientHeight, whole = "whole" in stage.dataset;
  const above = (part) => holder.getBoundingClientRect().top - part.getBoundingClientRect().top + part.scrollTop;
  const first = window - above(page) - fold;
  const room = whole ? window - above(stage) - 48 : first >= tall[0] ? first : window - by * reserve;
  return Math.round(Math.min(tall[1], Math.max(tall[0], room)));
}

// In a lecture hall (`meta.letters`: what they measure at the least) letters, marks and margins grow with the page's.
function growth({ layout }) {
  const { letters } = layout.meta ?? {};
  return letters ? parseFloat(getComputedStyle(document.documentElement).fontSize) / letters : 1;
}

function grown(part, by, name = "") {
  if (typeof part === "number") return name === "size" || name === "margin" ? by * part : part;
  if (by === 1 || !part || typeof part !== "object" || ArrayBuffer.isView(part)) return part;
  if (Array.isArray(part)) return typeof part[0] === "object" ? part.map((one) => grown(one, by)) : part;
  const inside = name === "margin" ? () => name : (own) => own;
  return Object.fromEntries(Object.entries(part).map(([own, value]) => [own, grown(value, by, inside(own))]));
}

// Charts are drawn one at a time when they are new, so that the page answers in between: the first in view at once, the
// others in view next, and what lies below when there is time.
let busy = false;
function turn({ drawn, holder }) {
  if (drawn) return null;
  if (holder.getBoundingClientRect().top >= innerHeight) return new Promise(window.requestIdleCallback ?? setTimeout);
  if (busy) return new Promise((wake) => setTimeout(wake));
  busy = true;
  setTimeout(() => (busy = false));
  return null;
}

async function redraw(chart, width) {
  const Plotly = await plotly();
  await turn(chart);
  const { figure, holder } = chart, by = growth(figure);
  if (drawn(chart, width)) return;
  const began = performance.now();
  const data = grown(figure.data, by);
  const layout = fitted({ data, layout: { ...grown(figure.layout, by), height: height(chart) } }, width);
  if (chart.at) layout.shapes = marked(layout.shapes, chart.at);
  if (TOUCHED) layout.dragmode = false; // a swipe over it scrolls the page
  const laid = JSON.stringify({ ...layout, width, meta: null, shapes: null, title: Boolean(layout.title) });
  if (by !== 1 || !stepped(chart, layout, laid)) {
    holder.style.height = `${layout.height}px`;
    const own = structuredClone(layout); // Plotly writes into it
    await Plotly.react(holder, data, { ...own, template: chart.template, width, autosize: false }, chart.config);
  }
  Object.assign(chart, { drawn: figure, width, height: height(chart), laid, dressed: chart.template });
  holder.dataset.ms = String(Math.round(performance.now() - began));
  holder.dataset.updates = String(Number(holder.dataset.updates || 0) + 1);
  if (!chart.listening) listen(chart);
}

// As it stands on the screen, zoomed as it is, but light and without the crosshair; vectors at the width of a paper's column.
async function save(chart, format) {
  const { holder, figure, light, says } = chart;
  if (!chart.drawn) return;
  try {
    const { width, height: tall } = holder._fullLayout;
    const shown = zoomed(figure.layout, holder.layout);
    const drawn = format === "png"
      ? await raster({ data: holder.data, layout: { ...holder.layout, height: tall } }, light, width)
      : await vector({ data: holder.data, layout: shown }, light, shown.meta?.tall || width > 700 ? PAGE : COLUMN);
    const made = format === "pdf" ? await sent("paper/pdf", drawn) : new Blob([drawn], { type: "image/svg+xml" });
    hand(format === "png" ? drawn : made, `${chart.name}.${format}`);
  } catch (error) {
    says.textContent = error.message;
  }
}

function zoomed(layout, now) {
  const axes = Object.keys(now).filter((name) => /^[xy]axis/.test(name) && now[name].autorange === false);
  return { ...layout, ...Object.fromEntries(axes.map((name) => [name, { ...layout[name], range: now[name].range }])) };
}

function listen(chart) {
  chart.listening = true;
  const { holder } = chart;
  holder.on("plotly_click", ({ points }) => {
    const { pointIndex, pointNumber, customdata, curveNumber } = points[0];
    const place = [].concat(pointIndex ?? pointNumber);
    const facts = ArrayBuffer.isView(customdata) ? [...customdata] : [].concat(customdata ?? []);
    if (chart.at && place.length === 2) choose(chart, place, 0);
    else chart.pick?.({ place, facts, curve: curveNumber });
  });
  holder.addEventListener("keydown", (event) => {
    if (!chart.pick || !MOVES[event.key]) return;
    event.preventDefault();
    if (chart.at) step(chart, MOVES[event.key]);
    else chart.pick({ step: event.key.slice(5).toLowerCase() });
  });
}

export default function ({ data, parentElement, setTriggerValue }) {
  if (!charts.has(parentElement)) charts.set(parentElement, mount(parentElement));
  const chart = charts.get(parentElement);
  const whole = new TextDecoder().decode(data);
  const text = whole.slice(whole.indexOf(",")); // without the number of this sending
  const end = () => {
    chart.sizes.disconnect();
    document.removeEventListener("mode:move", chart.onMove);
    document.removeEventListener("mode:settle", chart.onSettle);
    removeEventListener("resize", chart.onResize);
    for (const name of ["fullscreenchange", "keydown"]) document.removeEventListener(name, chart.onLeave);
    window.Plotly?.purge(chart.holder);
  };
  delete chart.holder.dataset.waits; // the page has drawn it anew, if only as it was
  chart.settle = (what) => setTriggerValue("settle", what);
  if (chart.picks) chart.pick = (what) => setTriggerValue("pick", what);
  if (text === chart.text && chart.figure === chart.whole) return end; // sent again as it was
  chart.text = text;
  const { key, name, config, picks, caption, template, light, mark, figure } = JSON.parse(whole);
  const { holder } = chart;
  figure.data = figure.data.map(unpacked);
  holder.dataset.chart = key;
  for (const button of parentElement.querySelectorAll("[data-format]")) {
    button.setAttribute("aria-label", `Download as ${button.textContent}: ${figure.layout.title?.text || figure.alt}`);
  }
  holder.setAttribute("role", picks ? "group" : "figure"); // not an image: it holds buttons
  if (picks) Object.assign(holder, { tabIndex: 0 }).dataset.picks = "";
  Object.assign(chart, { key, name, picks, caption, template, light: light ?? template, mark, whole: figure, figure });
  if (!chart.drawn) holder.style.height = `${height(chart)}px`; // the place is kept until it is drawn
  const shown = TOUCHED ? false : "hover";
  const own = { responsive: false, displayModeBar: shown, scrollZoom: false, modeBarButtonsToAdd: [LINK] };
  chart.config = { ...own, ...config };
  chart.pick = picks ? (what) => setTriggerValue("pick", what) : null;
  show(chart, figure);
  return end;
}
