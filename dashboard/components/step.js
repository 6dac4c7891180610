// What changes nothing but arrays, as most steps of a drag do, or moves the crosshair, is drawn by Plotly's own traces alone:
// to lay out axes, colour bars and titles again, as they are, takes most of the time. Stands before figure.js.
const ARRAYS = { heatmap: ["z", "text", "hovertext", "customdata"], scatter: ["x", "y", "text", "hovertext", "customdata"] };

// Draw `chart.figure` where it differs from what is drawn in such arrays, and `layout` in its shapes, alone; false, and
// nothing done, where it does not. `laid`: the rest of the layout.
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
    const trace = Object.assign(traces[place], { _input: data[place] });
    if (!names.length) return;
    for (const name of names) trace[name] = data[place][name];
    if (trace.type === "scatter") trace._length = Math.min(trace.x.length, trace.y.length);
    const found = trace._module.calc(holder, trace);
    Object.assign(found[0], { trace, t: found[0].t ?? holder.calcdata[place][0].t });
    holder.calcdata[place] = found;
  });
  full._basePlotModules.find(({ name }) => name === "cartesian").plot(holder);
  if (!alike(holder.layout.shapes, layout.shapes)) window.Plotly.relayout(holder, { shapes: layout.shapes });
  return true;
}

function alike(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}

// Names of the arrays that differ; null where anything else does.
function differs(before, now) {
  const arrays = ARRAYS[now.type] ?? [];
  const names = [...new Set([...Object.keys(before), ...Object.keys(now)])].filter((name) => before[name] !== now[name]);
  const held = (name) => arrays.includes(name) && typeof before[name] === "object" && typeof now[name] === "object";
  if (!names.every((name) => held(name) || alike(before[name], now[name]))) return null;
  return names.filter(held);
}

// Do neither colours, nor the range of an axis, nor what else Plotly derives, follow from the trace's arrays?
function steady(full, trace, given) {
  const axes = [trace.xaxis, trace.yaxis].map((id) => full[`${id[0]}axis${id.slice(1)}`]);
  if (trace.visible !== true || axes.some((axis) => axis.autorange)) return false;
  if (trace.type === "heatmap") return !(trace.coloraxis ? full[trace.coloraxis].cauto : trace.zauto);
  return Boolean(given.mode && given.x.length && given.y.length);
}

