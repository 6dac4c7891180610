// What changes nothing but arrays, as most steps of a drag do, moves the crosshair or changes the title, is drawn by Plotly's
// own traces alone: to lay out axes, colour bars and legends again, as they are, takes most of the time. Stands before
// figure.js.
const ARRAYS = {
  heatmap: ["z", "text", "hovertext", "customdata"],
  scatter: ["x", "y", "text", "hovertext", "customdata", "marker"],
};

// Draw `chart.figure` where it differs from what is drawn in such arrays, and `layout` in its shapes and title, alone; false,
// and nothing done, where it does not. `laid`: the rest of the layout.
function stepped(chart, layout, laid) {
  const { holder, figure, drawn } = chart;
  const { _fullData: traces, _fullLayout: full } = holder;
  if (!drawn || chart.laid !== laid || !alike(chart.dressed, chart.template)) return false;
  const { data } = figure;
  if (data.length !== drawn.data.length || data.length !== traces.length) return false;
  const moved = data.map((trace, place) => differs(drawn.data[place], trace));
  if (!moved.every((names, place) => names && (!names.length || steady(full, traces[place], data[place])))) return false;
  holder.data = data;
  holder.layout.meta = figure.layout.meta;
  moved.forEach((names, place) => {
    const now = data[place], trace = Object.assign(traces[place], { _input: now });
    if (!names.length) return;
    for (const name of names) trace[name] = name === "marker" ? { ...trace.marker, ...eachOwn(now.marker) } : now[name];
    if (trace.type === "scatter") trace._length = Math.min(trace.x.length, trace.y.length);
    const found = trace._module.calc(holder, trace);
    Object.assign(found[0], { trace, t: found[0].t ?? holder.calcdata[place][0].t });
    holder.calcdata[place] = found;
  });
  replot(holder, traces.filter((_, place) => moved[place].length));
  const other = ["shapes", "title"].filter((name) => !alike(holder.layout[name], layout[name]));
  if (other.length) window.Plotly.relayout(holder, Object.fromEntries(other.map((name) => [name, layout[name]])));
  return true;
}

// Plotly's own drawing of these traces, with all of their kind in the same subplot; what lies elsewhere stays as it is.
function replot(holder, moved) {
  const { _plots: plots } = holder._fullLayout;
  const kind = ({ xaxis, yaxis, type }) => `${xaxis}${yaxis} ${type}`;
  for (const [name, { xaxis, yaxis, _module }] of new Map(moved.map((trace) => [kind(trace), trace]))) {
    const subplot = plots[`${xaxis}${yaxis}`], layer = _module.layerName ?? `${_module.name}layer`;
    const every = holder.calcdata.filter(([{ trace }]) => kind(trace) === name);
    _module.plot(holder, subplot, every, subplot.plot.select(`.${layer}`));
  }
}

function alike(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}

// Names of the arrays that differ; null where anything else does.
function differs(before, now) {
  const arrays = ARRAYS[now.type] ?? [];
  const names = [...new Set([...Object.keys(before), ...Object.keys(now)])].filter((name) => before[name] !== now[name]);
  const same = { marker: () => likeMarks(before.marker, now.marker) };
  const held = (name) => arrays.includes(name) && [before[name], now[name]].every(isArray) && (same[name]?.() ?? true);
  if (!names.every((name) => held(name) || alike(before[name], now[name]))) return null;
  return names.filter(held);
}

const isArray = (one) => typeof one === "object";

// What a trace's marks have each of their own.
function eachOwn(marker) {
  return Object.fromEntries(["size", "color"].filter((name) => isArray(marker[name])).map((name) => [name, marker[name]]));
}

// Marks that have sizes or colours of their own, and differ in nothing else.
function likeMarks(before, now) {
  const rest = (marker) => ({ ...marker, ...Object.fromEntries(Object.keys(eachOwn(marker)).map((name) => [name, null])) });
  return Object.keys(eachOwn(now)).length > 0 && alike(rest(before), rest(now));
}

// Do neither colours, nor the range of an axis, nor what else Plotly derives, follow from the trace's arrays?
function steady(full, trace, given) {
  const axes = [trace.xaxis, trace.yaxis].map((id) => full[`${id[0]}axis${id.slice(1)}`]);
  if (trace.visible !== true || axes.some((axis) => axis.autorange)) return false;
  if (trace.type === "heatmap") return !(trace.coloraxis ? full[trace.coloraxis].cauto : trace.zauto);
  return Boolean(given.mode && given.x.length && given.y.length);
}

