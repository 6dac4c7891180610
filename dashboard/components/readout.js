// A sentence and a row of figures, drawn anew whenever the page or a dragged slider says so.
const readouts = new WeakSet();

function element(name, text) {
  return Object.assign(document.createElement(name), { textContent: text });
}

function draw(root, { strong, plain, figures, small }) {
  const parts = [];
  if (strong || plain) {
    const sentence = element("p", "");
    if (strong) sentence.append(element("strong", strong));
    if (plain) sentence.append(`${strong ? " " : ""}${plain}`);
    parts.push(sentence);
  }
  if (figures.length) {
    const row = element("dl", "");
    for (const { label, value, beside } of figures) {
      const cell = element("div", "");
      cell.append(element("dt", label), element("dd", value), element("dd", beside));
      row.append(cell);
    }
    parts.push(row);
  }
  if (small) parts.push(element("small", small));
  root.replaceChildren(...parts);
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector("[data-part=readout]");
  const { key, width, readout } = JSON.parse(new TextDecoder().decode(data));
  if (!readouts.has(root)) root.addEventListener("mode:follow", ({ detail }) => draw(root, detail.change));
  readouts.add(root);
  root.dataset.readout = key;
  root.style.setProperty("--width", `${width}px`);
  draw(root, readout);
}
