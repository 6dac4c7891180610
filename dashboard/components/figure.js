// Keeps one Plotly chart and redraws it in place (Plotly.react), so zoom stays and nothing flickers.
// Plotly itself comes with Streamlit's own chart, which the page mounts once, hidden.
const charts = new WeakMap();
const PATIENCE = 20000; // ms to wait for Plotly on a first, slow load

async function plotly() {
  for (const start = performance.now(); performance.now() - start < PATIENCE; ) {
    if (window.Plotly) return window.Plotly;
    await new Promise((wake) => setTimeout(wake, 30));
  }
  throw new Error("Plotly did not load; start the dashboard with MODE_CONTROLS=plain to use Streamlit's own charts.");
}

function mount(root) {
  const holder = root.querySelector("[data-part=figure]");
  const chart = { holder, drawing: Promise.resolve(), shown: null, listening: false };
  chart.sizes = new ResizeObserver(() => draw(chart));
  chart.sizes.observe(holder);
  return chart;
}

const SETTLED = 250; // ms without a new figure before a chart that may lag is redrawn

function update(chart, figure) {
  clearTimeout(chart.timer);
  const since = performance.now() - (chart.changed ?? -Infinity);
  Object.assign(chart, { figure, changed: performance.now() });
  if (figure.settle && since < SETTLED + 400) chart.timer = setTimeout(() => draw(chart), SETTLED);
  else draw(chart);
}

function draw(chart) {
  const width = chart.holder.clientWidth;
  if (!chart.figure || width < 40 || (chart.drawn === chart.figure && chart.width === width)) return;
  chart.drawing = chart.drawing.then(() => redraw(chart, width)).catch((error) => {
    chart.holder.textContent = error.message;
  });
}

async function redraw(chart, width) {
  const { figure, holder } = chart;
  if (chart.drawn === figure && chart.width === width) return;
  const Plotly = await plotly();
  const config = { responsive: false, displaylogo: false, displayModeBar: "hover", scrollZoom: false, ...figure.config };
  const began = performance.now();
  const layout = fitted(figure, width);
  holder.style.height = `${layout.height}px`;
  await Plotly.react(holder, figure.data, { ...layout, width, autosize: false }, config);
  Object.assign(chart, { drawn: figure, width });
  holder.dataset.ms = String(Math.round(performance.now() - began));
  holder.dataset.updates = String(Number(holder.dataset.updates || 0) + 1);
  if (!chart.listening) listen(chart);
}

// In a narrow window titles and legends take several lines: wrap them, and make room above the plot.
function fitted(figure, width) {
  const { layout, data } = figure;
  const margin = { l: 52, r: 16, t: 40, b: 42, ...layout.margin };
  const title = layout.title?.text;
  if (!title || width > 560) return layout;
  const lines = wrapped(title, Math.floor(width / 7.5));
  const named = layout.showlegend === false || data.length < 2 ? [] : data.filter((trace) => trace.showlegend !== false);
  const needed = named.reduce((sum, trace) => sum + 52 + 7 * (trace.name ?? "").length, 0);
  const rows = Math.ceil(needed / Math.max(width - margin.l - margin.r, 100));
  const more = 18 * (lines.length - 1) + 21 * Math.max(0, rows - 1);
  const top = margin.t + more;
  return {
    ...layout,
    title: { ...layout.title, text: lines.join("<br>"), yref: "container", y: 1, yanchor: "top", pad: { t: 12, l: 4 } },
    margin: { ...margin, t: top },
    height: layout.height + more,
  };
}

function wrapped(text, length) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1) && lines.at(-1).length + word.length + 1 > length) lines.push("");
    lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word;
  }
  return lines;
}

function listen(chart) {
  chart.listening = true;
  chart.holder.on("plotly_click", ({ points }) => {
    const { pointIndex, pointNumber, customdata, curveNumber } = points[0];
    chart.pick?.({ place: [].concat(pointIndex ?? pointNumber), facts: [].concat(customdata ?? []), curve: curveNumber });
  });
  chart.holder.addEventListener("keydown", (event) => {
    if (!chart.picks || !/^Arrow/.test(event.key)) return;
    event.preventDefault();
    chart.pick?.({ step: event.key.slice(5).toLowerCase() });
  });
}

export default function ({ data, parentElement, setTriggerValue }) {
  if (!charts.has(parentElement)) charts.set(parentElement, mount(parentElement));
  const chart = charts.get(parentElement);
  const text = new TextDecoder().decode(data);
  const end = () => {
    clearTimeout(chart.timer);
    chart.sizes.disconnect();
    window.Plotly?.purge(chart.holder);
  };
  if (chart.picks) chart.pick = (what) => setTriggerValue("pick", what);
  if (text === chart.text) return end; // sent again as it was, while something else changed
  chart.text = text;
  const figure = JSON.parse(text);
  figure.layout.template = figure.template;
  const { holder } = chart;
  if (!chart.drawn) holder.style.height = `${figure.layout.height}px`; // the place is kept until it is drawn
  holder.setAttribute("role", figure.picks ? "application" : "img");
  holder.setAttribute("aria-label", figure.alt);
  chart.picks = figure.picks;
  if (figure.picks) holder.tabIndex = 0;
  chart.pick = figure.picks ? (what) => setTriggerValue("pick", what) : null;
  update(chart, figure);
  return end;
}
