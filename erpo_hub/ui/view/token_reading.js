// The three ways to read: token by token, in steps, and as text with its Markdown. The server parses the Markdown
// into names and texts (reading.py); nodes are made here, and text enters them as text.
const READABLE = new Set(["p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong", "s", "hr", "br", "table", "thead", "tbody", "tr", "th", "td", "span", "div"]);

function setMode(view, mode) {
  const { parts } = view;
  view.mode = mode;
  view.root.dataset.mode = mode;
  for (const name of ["tokens", "steps", "reading"]) parts[name].hidden = name !== mode;
  for (const node of parts.modes.children) node.setAttribute("aria-pressed", String(node.dataset.mode === mode));
  drawMode(view);
}

// What the mode shows beside the tokens, anew.
function drawMode(view) {
  if (view.mode === "steps") drawSteps(view);
  if (view.mode === "reading") drawReading(view);
  drawMap(view);
}

async function drawReading(view) {
  const box = view.parts.reading, text = view.data.pieces.join(""), serial = view.serial;
  box.replaceChildren(make("div", "tv-plain", readableLines(text)));
  if (view.running || !text || typeof server === "undefined" || !server.read) return;
  const nodes = await server.read(text);
  if (view.serial !== serial || view.mode !== "reading" || view.data.pieces.join("") !== text) return;
  if (nodes) box.replaceChildren(...nodes.map(readable));
}

// [tag, class, ...children] or a text.
function readable(node) {
  if (typeof node === "string") return document.createTextNode(node.replace(INVISIBLE, ""));
  if (node[0] === "svg") return formula(node);
  const [tag, name, ...children] = node, made = make(READABLE.has(tag) ? tag : "span", name || "");
  made.append(...children.map(readable));
  return made;
}

// A formula: outlines from numbers (formulas.py), in hundredths of an em, with the source for who can't see them.
function formula([, name, source, ...pieces]) {
  const box = make("span", name + " tv-drawn"), made = (tag) => document.createElementNS("http://www.w3.org/2000/svg", tag);
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", source);
  box.title = source;
  for (const [boxed, width, height, depth, d] of pieces) {
    const svg = made("svg"), path = made("path");
    svg.setAttribute("viewBox", [0, 0, +width, +height].join(" "));
    svg.style.cssText = `width: ${width / 100}em; height: ${height / 100}em; vertical-align: ${-depth / 100}em`;
    path.setAttribute("d", d);
    svg.append(path);
    if (boxed) svg.classList.add("tv-boxed");
    box.append(svg);
  }
  return box;
}
