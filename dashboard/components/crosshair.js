// The crosshair of a chart whose figure has one (`panels.stacked`): it moves here, at once, and the page is told of the last
// place when keys rest, so that no press of a held key is lost. Stands before figure.js.
const REST = 150; // ms without a key
const TRUST = 4000; // ms that a choice waits for the page's answer to it
const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

// The shapes of the crosshair, called what they mark, at the chosen place.
function marked(shapes, [row, column]) {
  const places = { row: { y0: row - 0.5, y1: row + 0.5 }, column: { x0: column - 0.5, x1: column + 0.5 } };
  return shapes.map((shape) => ({ ...shape, ...places[shape.name] }));
}

function choose(chart, at, wait) {
  Object.assign(chart, { at, until: performance.now() + TRUST });
  window.Plotly.relayout(chart.holder, { shapes: marked(chart.holder.layout.shapes, at) });
  clearTimeout(chart.later);
  chart.later = setTimeout(() => {
    chart.until = performance.now() + TRUST;
    chart.live.textContent = told(chart);
    chart.pick?.({ place: at });
  }, wait);
}

// What all maps say of the chosen expert, for those who cannot see them.
function told({ holder, figure: { layout }, at: [row, column] }) {
  const maps = holder._fullData.filter(({ type, customdata }) => type === "heatmap" && customdata);
  const values = maps.map(({ name, text, z, meta }) => {
    const value = (text ?? z)[row][column];
    return `${name} ${Number.isFinite(value) ? Number(value.toPrecision(2)) : "unknown"}${meta ? ` ${meta}` : ""}`;
  });
  const { y, customdata } = maps[0];
  const across = layout.meta.across ?? "expert";
  return `${y[row].split(" · ")[0]}, ${across} ${customdata[row][column]}: ${values.join(", ")}.`;
}

// To the neighbour, where there is one.
function step(chart, [down, right]) {
  const { experts } = chart.figure.layout.meta;
  const row = Math.min(Math.max(chart.at[0] + down, 0), experts.length - 1);
  choose(chart, [row, Math.min(Math.max(chart.at[1] + right, 0), experts[row] - 1)], REST);
}

