// Model text for the eye: every character visible, none of it active. Text enters the page by textContent only.
const LONGEST = 2000; // characters of one token that are drawn
const INVISIBLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

const PLAIN = /^ ?[\x21-\x7e]{1,200}$/; // most tokens: nothing in them needs a sign

function visibleText(text, allSpaces) {
  if (!allSpaces && PLAIN.test(text)) return text;
  const cut = text.length > LONGEST;
  let out = cut ? text.slice(0, LONGEST) : text;
  out = out.replace(INVISIBLE, (c) => "⟨U+" + c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0") + "⟩");
  out = out.replace(/\n/g, "↵").replace(/\r/g, "␍").replace(/\t/g, "⇥");
  if (allSpaces) out = out.replace(/ /g, "·");
  else out = out.replace(/ {2,}/g, (s) => "·".repeat(s.length)).replace(/ $/, "·");
  return cut ? out + "… (" + text.length.toLocaleString("en") + " characters)" : out;
}

// The text of a token line by line: what follows a line break stands at the head of the next line, as the
// indentation of code does when a tokenizer joins both.
function drawnLines(text, allSpaces) {
  if (text.length > LONGEST || !text.includes("\n")) return [visibleText(text, allSpaces)];
  return text.split(/(?<=\n)(?=[^\n])/).map((part) => visibleText(part, allSpaces));
}

function shortText(text, limit) {
  const out = visibleText(text, false);
  return out.length > limit ? out.slice(0, limit - 1) + "…" : out;
}

// A cell is what is drawn as one box: a token, or the tokens that share one split character. The pieces of
// all but the last of those are empty and their own text is the replacement sign.
function isFragment(data, t) {
  if (data.pieces[t] !== "") return false;
  const own = data.strings[data.tokens[t]];
  return own === undefined || own === "" || own.includes("\ufffd");
}

function tokenText(data, t) {
  return data.pieces[t] !== "" ? data.pieces[t] : data.strings[data.tokens[t]] || "";
}

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// Adds cells for the tokens from view.drawn on. Unless `final`, a character still in pieces waits for its rest.
function layCells(view, final) {
  const { data, cells, cellOf } = view;
  let t = view.drawn;
  while (t < data.tokens.length) {
    let end = t;
    while (end < data.tokens.length && isFragment(data, end)) end++;
    if (end >= data.tokens.length) {
      if (!final) return;
      end = data.tokens.length - 1;
    }
    if (end > t && data.pieces[end] === "") end -= 1; // a special token does not complete a character
    let main = t;
    for (let i = t + 1; i <= end; i++) if (data.entropy[i] > data.entropy[main]) main = i;
    for (let i = t; i <= end; i++) cellOf[i] = cells.length;
    cells.push({ from: t, to: end, main, node: null });
    t = end + 1;
    view.drawn = t;
  }
}

const LONG = 2000; // cells; from here on lines out of sight are not laid out
const LINE_CELLS = 200; // cells of one line box; long lines are cut so that far ones need no layout

function drawCells(view, firstCell) {
  view.parts.tokens.classList.toggle("tv-long", view.cells.length > LONG);
  const batch = document.createDocumentFragment();
  if (firstCell === 0) view.line = null;
  for (let c = firstCell; c < view.cells.length; c++) drawCell(view, c, batch);
  sizeLine(view);
  view.parts.tokens.appendChild(batch);
}

// A line out of sight takes about the room that it will need, so that scrolling and the map agree.
function sizeLine(view) {
  if (!view.line) return;
  const rows = Math.max(1, Math.ceil((view.lineChars * 9.05) / Math.max(200, view.textWidth)));
  view.line.style.containIntrinsicHeight = "auto " + rows * 28.5 + "px";
}

function drawCell(view, c, batch) {
  const cell = view.cells[c], text = tokenText(view.data, cell.to);
  const special = view.data.pieces[cell.to] === "";
  const lines = special ? ["⟨" + (text ? shortText(text, 40) : "end") + "⟩"] : drawnLines(text, view.options.spaces);
  const node = (cell.node = make("span", "tv-tok", lines[0]));
  node.setAttribute("role", "option");
  node.setAttribute("aria-selected", "false");
  node.tabIndex = -1;
  node.dataset.c = c;
  cell.tails = lines.slice(1).map((line) => {
    const tail = make("span", "tv-tail", line);
    tail.dataset.c = c;
    tail.setAttribute("aria-hidden", "true"); // its token's label says the whole
    return tail;
  });
  paintCell(view, cell);
  if (!cell.unit) nameCell(view, cell);
  for (const part of [node, ...cell.tails]) {
    if (!view.line || view.lineFull || part !== node) startLine(view, batch, part === node ? c : c + 1);
    view.line.appendChild(part);
    view.lineChars += part.textContent.length;
  }
  view.lineCount += 1;
  view.lineFull = text.endsWith("\n") || view.lineCount >= LINE_CELLS;
}

function startLine(view, batch, first) {
  sizeLine(view);
  view.line = make("div", "tv-line");
  view.line.setAttribute("role", "presentation");
  batch.appendChild(view.line);
  view.lines.push({ node: view.line, first });
  view.lineCount = view.lineChars = 0;
  view.lineFull = false;
}

function paintCell(view, cell) {
  const { data } = view;
  let name = "tv-tok";
  const heat = view.heat(cell.main);
  if (heat) name += " tv-h" + heat;
  if (cell.from < data.prefix) name += " tv-shared";
  if (view.pivotSet.has(cell.main)) name += " tv-pivot";
  if (view.markSet.has(cell.main)) name += " tv-strong";
  if (data.pieces[cell.to] === "") name += " tv-special";
  if (data.diverge !== null && cell.from <= data.diverge && data.diverge <= cell.to) name += " tv-diverge";
  if (cell.found) name += " tv-found";
  if (cell.folded) name += " tv-folded";
  if (cell === view.selected) name += " tv-selected";
  if (cell.node.className === name) return;
  cell.node.className = name;
  for (const tail of cell.tails) tail.className = name.replace("tv-tok", "tv-tail").replace(" tv-pivot", "").replace(" tv-strong", "").replace(" tv-diverge", "");
  nameCell(view, cell);
}

function nameCell(view, cell) {
  const { data } = view, t = cell.main, unit = view.options.unit;
  if (cell.unit !== unit) {
    cell.unit = unit;
    cell.label = shortText(tokenText(data, cell.to), 40) + ", token " + (t + 1) + ", entropy " + inUnit(data.entropy[t], unit);
    cell.label += ", probability " + percent(Math.exp(data.logprob[t]));
  }
  let label = cell.label;
  if (view.pivotSet.has(t)) label += view.markSet.has(t) && view.marked.length < view.pivots.length ? ", strong pivot" : ", pivot";
  if (data.diverge !== null && cell.from <= data.diverge && data.diverge <= cell.to) label += ", first difference";
  cell.node.setAttribute("aria-label", label);
}
