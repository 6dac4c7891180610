// A figure as it goes into a paper: light, without the crosshair, at the width of a column, in letters that every reader has
// or has the widths of (the PDF brings them along). Stands before figure.js and kit.js.
const COLUMN = 88; // mm, of one column
const PAGE = 178; // mm, of two
const PER_MM = 5; // pixels: letters of 13 become 7.4 points
const LETTERS = "Liberation Sans, Arial, Helvetica, sans-serif";
const CRISP = 8; // pixels of a cell, so that no reader smooths cells into each other

function onPaper(layout, { layout: light, data }) {
  const shapes = layout.shapes?.filter(({ name }) => !["row", "column"].includes(name));
  const template = { data, layout: { ...light, font: { ...light.font, family: LETTERS } } };
  return { ...layout, shapes, template, paper_bgcolor: "#ffffff", autosize: false };
}

async function raster({ data, layout }, light, width) {
  const drawn = { ...onPaper(layout, light), width };
  const how = { format: "png", width, height: layout.height, scale: 2 };
  return (await fetch(await window.Plotly.toImage({ data, layout: drawn }, how))).blob();
}

// The figure as the text of an SVG so many mm wide.
async function vector({ data, layout }, light, mm) {
  const width = mm * PER_MM;
  const drawn = onPaper(fitted({ data, layout }, width), light);
  const how = { format: "svg", width, height: drawn.height ?? 400, imageDataOnly: true };
  const text = await window.Plotly.toImage({ data, layout: { ...drawn, width } }, how);
  const { documentElement: picture } = new DOMParser().parseFromString(text, "image/svg+xml");
  picture.setAttribute("width", `${mm}mm`);
  picture.setAttribute("height", `${how.height / PER_MM}mm`);
  await Promise.all(Array.from(picture.querySelectorAll("image[style*=pixelated]"), crisp));
  return new XMLSerializer().serializeToString(picture);
}

// Plotly draws a heatmap as a picture of one pixel a cell.
async function crisp(image) {
  const small = await createImageBitmap(await (await fetch(image.getAttribute("xlink:href"))).blob());
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: small.width * CRISP, height: small.height * CRISP });
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small, 0, 0, canvas.width, canvas.height);
  image.setAttributeNS("http://www.w3.org/1999/xlink", "xlink:href", canvas.toDataURL());
}

// What the server makes of it.
async function sent(route, body) {
  const answer = await fetch(new URL(route, document.baseURI), { method: "POST", body });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.blob();
}

function hand(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// In a narrow window titles and legends take several lines: wrap them, and make room above and below the plot.
function fitted(figure, width) {
  const { layout, data } = figure;
  if (width > 560) return layout;
  const margin = { l: 52, r: 16, t: 40, b: 42, ...layout.margin };
  const inner = Math.max(width - margin.l - margin.r, 100);
  const { axes, below } = axisTitles(layout, inner);
  const lines = wrapped(layout.title?.text ?? "", Math.floor(width / 7.5));
  const named = layout.showlegend === false || data.length < 2 ? [] : data.filter((trace) => trace.showlegend !== false);
  const needed = named.reduce((sum, trace) => sum + 52 + 7 * (trace.name ?? "").length, 0);
  const above = layout.title?.text ? 18 * (lines.length - 1) + 21 * Math.max(0, Math.ceil(needed / inner) - 1) : 0;
  return {
    ...layout,
    ...axes,
    title: { ...layout.title, text: lines.join("<br>") },
    margin: { ...margin, t: margin.t + above, b: margin.b + below },
    height: layout.height + above + below,
  };
}

// Horizontal axes whose titles are wider than the plot, with these in several lines, and the room that takes.
function axisTitles(layout, inner) {
  const axes = {};
  let below = 0;
  for (const [name, axis] of Object.entries(layout)) {
    if (!name.startsWith("xaxis") || !axis.title?.text) continue;
    const lines = wrapped(axis.title.text, Math.max(12, Math.floor(inner / 6.5)));
    if (lines.length < 2) continue;
    axes[name] = { ...axis, title: { ...axis.title, text: lines.join("<br>") } };
    below = Math.max(below, 16 * (lines.length - 1));
  }
  return { axes, below };
}

function wrapped(text, length) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1) && lines.at(-1).length + word.length + 1 > length) lines.push("");
    lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word;
  }
  return lines;
}

