// Draws every figure as it goes into a paper, and downloads the zip that the server makes of them.
async function make({ figures, files, light, name }, says) {
  const drawn = {};
  for (const [title, { data, layout }] of Object.entries(figures)) {
    says.textContent = `Drawing ${Object.keys(drawn).length + 1} of ${Object.keys(figures).length} …`;
    drawn[title] = await vector({ data, layout }, light, PAGE);
  }
  says.textContent = "Packing …";
  hand(await sent("paper/kit", JSON.stringify({ files, figures: drawn })), name);
  says.textContent = `${Object.keys(drawn).length} figures are in ${name}.`;
}

export default function ({ data, parentElement }) {
  const told = JSON.parse(new TextDecoder().decode(data));
  const [button, says] = ["make", "says"].map((part) => parentElement.querySelector(`[data-part=${part}]`));
  button.textContent = told.label;
  button.onclick = async () => {
    button.disabled = true;
    await make(told, says).catch((error) => {
      says.textContent = error.message;
    });
    button.disabled = false;
  };
}
