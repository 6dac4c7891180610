// A sample token by token. The choice moves here at once; the page is told when keys rest, and answers first with what charts
// have to show, and when no other token is chosen for a while with all the rest.
const held = new WeakMap();
const REST = 120; // ms without a key
const SETTLED = 400; // ms without another choice
const TRUST = 4000; // ms that a choice waits for the answer to it

function button(chips, token) {
  const made = document.createElement("button");
  made.type = "button";
  made.dataset.token = token;
  made.addEventListener("click", () => choose(chips, token, 0));
  return (chips.buttons[token] = made);
}

function word(chips, token) {
  const made = button(chips, token);
  made.className = chips.data.template[token] ? "word template" : "word";
  made.textContent = chips.data.words[token].replaceAll("\n", "⏎").trim() || "␣";
  return made;
}

function picture(chips, { uri, shape, tokens, columns, alt }) {
  const made = document.createElement("div");
  made.className = "picture";
  made.setAttribute("role", "group");
  made.setAttribute("aria-label", alt);
  if (uri) made.style.backgroundImage = `url(${uri})`;
  made.style.aspectRatio = String(1 / shape);
  made.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
  made.append(...tokens.map((token) => button(chips, token)));
  tokens.forEach((token) => (chips.columns[token] = columns));
  return made;
}

// Words in their order; a picture stands where its first token does.
function build(chips) {
  Object.assign(chips, { buttons: [], columns: {} });
  const { words, pictures } = chips.data;
  const first = new Map(pictures.map((one) => [one.tokens[0], one]));
  const inside = new Set(pictures.flatMap(({ tokens }) => tokens));
  const nodes = [];
  words.forEach((text, token) => {
    if (first.has(token)) nodes.push(picture(chips, first.get(token)));
    else if (text) nodes.push(word(chips, token));
    else if (!inside.has(token)) nodes.push(Object.assign(button(chips, token), { className: "patch" }));
  });
  chips.root.replaceChildren(...nodes);
}

function paint(chips) {
  const { names, weights, who, chosen, label } = chips.data;
  chips.root.setAttribute("aria-label", label);
  chips.buttons.forEach((one, token) => {
    one.setAttribute("aria-pressed", String(token === chosen));
    one.tabIndex = token === chosen ? 0 : -1;
    const weight = weights[token];
    const said = `${names[token]}: ${weight ? `routing weight ${weight} for ${who}` : `not sent to ${who}`}`;
    if (one.title === said) return; // most stay as they are when another token is chosen
    one.title = said;
    one.setAttribute("aria-label", said);
    one.style.setProperty("--lit", weight ? String(0.25 + 0.75 * weight) : "0");
    one.toggleAttribute("data-lit", weight > 0);
  });
}

function choose(chips, token, wait) {
  const before = chips.buttons[chips.data.chosen];
  before?.setAttribute("aria-pressed", "false");
  if (before) before.tabIndex = -1;
  chips.data.chosen = token;
  chips.buttons[token].setAttribute("aria-pressed", "true");
  chips.buttons[token].tabIndex = 0;
  chips.buttons[token].focus({ preventScroll: wait === 0 });
  Object.assign(chips, { chosen: token, until: performance.now() + TRUST });
  clearTimeout(chips.later);
  clearTimeout(chips.rest);
  chips.later = setTimeout(() => chips.tell({ token }), wait);
}

function onKey(chips, event) {
  const across = chips.columns[chips.data.chosen] ?? 1;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
  if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const next = chips.data.chosen + step;
  if (chips.buttons[next]) choose(chips, next, REST);
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector("[data-part=chips]");
  if (!held.has(parentElement)) {
    const made = { root, buttons: [], columns: {} };
    root.addEventListener("keydown", (event) => onKey(made, event));
    held.set(parentElement, made);
  }
  const chips = held.get(parentElement);
  const sample = JSON.stringify([data.words, data.pictures]);
  const stale = performance.now() < chips.until && data.chosen !== chips.chosen; // another was chosen meanwhile
  chips.data = { ...data, chosen: stale ? chips.chosen : data.chosen };
  chips.tell = (what) => setTriggerValue("token", what);
  if (chips.sample !== sample) build(chips);
  chips.sample = sample;
  paint(chips);
  const settle = () => taken(data.key, data.chosen) || chips.tell({ token: data.chosen, alone: true });
  follow(data.changes).then(() => {
    clearTimeout(chips.rest);
    if (data.changes && chips.data.chosen === data.chosen) chips.rest = setTimeout(settle, SETTLED);
  });
}
