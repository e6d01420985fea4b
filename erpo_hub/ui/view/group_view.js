// The group view: receives one message, a group of completions, and draws it. State that is the reader's own
// (color, order, chosen completion and token) stays where a newer message shows the same question.
const part = (name) => element.querySelector(".gv-" + name);
const SORTS = { "as recorded": (r) => r.index, reward: (r) => -(r.reward ?? 0), advantage: (r) => -(r.advantage ?? 0), entropy: (r) => -r.mean, length: (r) => -r.pieces.length };
const OPENS = ["the method's advantage", "entropy"]; // the first color, of a group and over training
const MOVED = 4; // tokens named as moved most
const WINDOW = 3000; // tokens of text on the page at once

const view = {
  data: { rows: [], columns: [] }, last: null, rows: [], color: "entropy", sort: "as recorded", row: null, other: null,
  at: null, parted: null, longest: 1, scale: null, colors: null, marked: null,
  parts: { text: part("text"), rows: part("rows"), color: part("color"), sort: part("sort"), other: part("other") },

  receive(text) {
    if (!text || text === this.last) return;
    this.last = text;
    const data = JSON.parse(text), same = data.prompt === this.data.prompt && data.watched === this.data.watched;
    const index = same && this.row ? this.row.index : 0, at = same ? this.at : null;
    derive(data);
    this.data = data;
    part("status").textContent = data.text;
    part("status").hidden = !data.text;
    part("all").hidden = !data.rows.length;
    element.querySelector(".gv").dataset.rows = data.rows.length;
    if (!data.rows.length) return;
    data.rows.forEach((row, i) => Object.assign(row, { index: i, mean: mean(row.columns.entropy), flipped: i > 0 && row.correct !== data.rows[i - 1].correct }));
    this.longest = Math.max(1, ...data.rows.map((row) => row.pieces.length));
    part("question").textContent = data.prompt + (data.gold ? "   (right answer: " + data.gold + ")" : "");
    if (!same) this.sort = data.watched ? "as recorded" : data.rows.some((r) => typeof r.advantage === "number") ? "advantage" : "as recorded";
    if (!same) this.color = OPENS[+data.watched];
    const opened = data.opened || {};
    if (opened.sort in SORTS) this.sort = opened.sort;
    if (data.columns.includes(opened.color)) this.color = opened.color;
    if (!data.columns.includes(this.color)) this.color = data.columns[0];
    fill(this.parts.color, data.columns, this.color);
    fill(this.parts.sort, Object.keys(SORTS), this.sort);
    this.rows = data.rows;
    this.row = this.other = null;
    this.parts.rows.classList.toggle("gv-watched", data.watched);
    this.order();
    this.paint();
    const named = data.rows[opened.row];
    if (named) {
      this.choose(named, Math.min(opened.at, Math.max(0, named.pieces.length - 1)));
      return;
    }
    const row = same && data.rows[index] ? data.rows[index] : data.watched ? this.rows[this.rows.length - 1] : this.rows[0];
    this.choose(row, Math.min(at ?? telling(row), Math.max(0, row.pieces.length - 1)));
  },

  order() {
    const key = SORTS[this.sort];
    this.rows = [...this.data.rows].sort((a, b) => key(a) - key(b) || a.index - b.index);
    const list = document.createDocumentFragment();
    list.appendChild(titles(this));
    for (const row of this.rows) list.appendChild(row.node || makeRow(this, row));
    this.parts.rows.replaceChildren(list);
  },

  // Everything that the color depends on.
  paint() {
    this.colors = palette(element.querySelector(".gv"));
    this.scale = scaleOf(this.data.rows, this.color);
    drawLegend(this);
    for (const row of this.rows) drawStrip(this, row);
    drawText(this);
  },

  choose(row, at) {
    const before = [this.row, this.other];
    this.at = at;
    if (this.row !== row) {
      this.row = row;
      for (const r of this.rows) {
        r.node.setAttribute("aria-selected", String(r === row));
        r.node.tabIndex = r === row ? 0 : -1;
      }
      const others = this.rows.filter((r) => r !== row), names = others.map((r) => nameOf(this, r));
      const wanted = this.data.watched ? this.data.rows[row.index - 1] || this.data.rows[row.index + 1] : others.find((r) => r.correct !== row.correct) || others[0];
      fill(this.parts.other, names, wanted ? nameOf(this, wanted) : "");
      this.compare(wanted || null);
    }
    for (const r of new Set([...before, this.row, this.other])) if (r && r.canvas) drawStrip(this, r);
    drawMoved(this);
    drawToken(this, true);
    element.querySelector(".gv").dataset.at = at;
  },

  compare(other) {
    const before = this.other;
    this.other = other;
    this.parted = other ? firstDifference(this.row, other) : null;
    part("first").disabled = this.parted === null;
    for (const r of [before, other, this.row]) if (r && r.canvas) drawStrip(this, r);
    drawText(this);
  },

  toDifference() {
    if (this.parted !== null) this.choose(this.row, Math.min(this.parted, this.row.pieces.length - 1));
  },
};

// GRPO's advantage is the completion's; the method's is GRPO's where it logged none (a run of plain GRPO).
// Offered are the columns that every completion with tokens has.
function derive(data) {
  for (const row of data.rows) {
    const c = row.columns, method = c["the method's advantage"], reference = c["reference log-prob"], a = row.advantage, made = {};
    made.entropy = c.entropy;
    if (typeof a === "number") {
      made["the method's advantage"] = method || row.tokens.map(() => a);
      made["GRPO's advantage"] = row.tokens.map(() => a);
      made.difference = made["the method's advantage"].map((v) => v - a);
    }
    made["log-prob"] = c["log-prob"];
    if (reference) {
      made["reference log-prob"] = reference;
      made["log-prob − reference"] = c["log-prob"].map((v, t) => v - reference[t]);
    }
    row.columns = { ...made, ...c, ...made };
  }
  const full = data.rows.filter((row) => row.pieces.length);
  data.columns = full.length ? Object.keys(full[0].columns).filter((name) => full.every((row) => row.columns[name])) : [];
}

function mean(values) {
  return values.length ? values.reduce((a, b) => a + b, 0) / values.length : 0;
}

// The token to open first: the one that the method moved most, else the least certain one.
function telling(row) {
  const moved = (row.columns.difference || []).map(Math.abs), values = moved.some((d) => d >= 1e-3) ? moved : row.columns.entropy;
  return values.length ? values.indexOf(Math.max(...values)) : 0;
}

function nameOf(view, row) {
  if (view.data.watched) return "step " + row.step + (row.correct ? " ✓" : " ✗");
  return "#" + (row.index + 1) + (row.correct === null ? "" : row.correct ? " ✓" : " ✗") + (typeof row.reward === "number" ? " reward " + +row.reward.toFixed(2) : "");
}

function fill(select, names, value) {
  select.replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name, textContent: name })));
  select.value = value;
}

function titles(view) {
  const line = Object.assign(document.createElement("div"), { className: "gv-titles" });
  const head = Object.assign(document.createElement("div"), { className: "gv-head" });
  line.setAttribute("aria-hidden", "true");
  for (const name of view.data.watched ? ["verdict", "", "length, entropy"] : ["verdict", "reward", "adv.", "length, entropy"]) head.appendChild(Object.assign(document.createElement("span"), { textContent: name }));
  line.append(head, Object.assign(document.createElement("div"), { textContent: "a cell a token, all to one scale" }));
  return line;
}

function makeRow(view, row) {
  const node = Object.assign(document.createElement("div"), { className: "gv-row", tabIndex: -1 });
  const head = Object.assign(document.createElement("div"), { className: "gv-head" });
  row.node = node;
  row.canvas = Object.assign(document.createElement("canvas"), { className: "gv-strip" });
  head.append(...headCells(view, row));
  node.append(head, row.canvas);
  node.setAttribute("role", "option");
  node.setAttribute("aria-selected", "false");
  node.setAttribute("aria-label", nameOf(view, row) + ", " + (typeof row.advantage === "number" ? "advantage " + signedText(row.advantage, 2) + ", " : "") + row.pieces.length + " tokens, mean entropy " + row.mean.toFixed(2) + " nats");
  node.dataset.index = row.index;
  return node;
}

function drawLegend(view) {
  const { scale, colors } = view, swatches = [];
  const add = (value, text) => {
    const node = Object.assign(document.createElement("span"), { className: "gv-swatch", textContent: text });
    node.style.backgroundColor = colorOf(scale, value, colors);
    swatches.push(node);
  };
  if (scale.name === "entropy") [0, ...EDGES].forEach((edge, i) => add(edge, i ? "≥ " + edge : "< " + EDGES[0]));
  else if (scale.signed) for (const share of scale.top ? [-1, -0.5, 0, 0.5, 1] : [0]) add(share * scale.top, signedText(share * scale.top, 2));
  else for (const share of scale.high > scale.low ? [0, 0.5, 1] : [0]) add(scale.low + share * (scale.high - scale.low), numberText(scale.name, scale.low + share * (scale.high - scale.low)));
  const unit = /entropy|log-prob/.test(scale.name) ? " (nats)" : "";
  part("legend").replaceChildren(Object.assign(document.createElement("span"), { textContent: scale.name + unit }), ...swatches, Object.assign(document.createElement("span"), { textContent: hint(view) }));
}

function hint(view) {
  const both = view.data.columns.includes("difference");
  const same = both && view.data.rows.every((row) => row.columns.difference.every((d) => Math.abs(d) < 1e-4));
  if (view.color === "difference" && same) return "Every token has its completion's advantage here.";
  if (view.color === "the method's advantage" && both && !same) return "Blue pushes the token up, orange down. GRPO pushes every token of a completion by its adv.; the method gives each its own.";
  if (view.color === "difference") return "What the method adds to GRPO's advantage: blue pushes the token up, orange down.";
  return "";
}

function drawText(view) {
  const { row, parts } = view;
  if (!row || !view.colors) return;
  const from = Math.max(0, Math.min((view.at || 0) - WINDOW / 2, row.pieces.length - WINDOW)), to = Math.min(row.pieces.length, from + WINDOW);
  const values = row.columns[view.color] || [], list = document.createDocumentFragment();
  view.from = from;
  for (let t = from; t < to; t++) {
    const node = Object.assign(document.createElement("span"), { className: t === view.parted ? "gv-tok gv-parts" : "gv-tok" });
    node.textContent = row.pieces[t] === "" && t === row.pieces.length - 1 ? "(end)" : row.pieces[t];
    node.style.backgroundColor = colorOf(view.scale, values[t], view.colors);
    node.dataset.t = t;
    list.appendChild(node);
  }
  parts.text.replaceChildren(list);
  view.marked = null;
  if (view.at !== null) drawToken(view, false);
}

function drawToken(view, scroll) {
  const { row, at } = view, node = view.parts.text.children[at - (view.from || 0)];
  if (view.marked) view.marked.classList.remove("gv-at");
  view.marked = node || null;
  if (!node && row.pieces.length > WINDOW) return drawText(view);
  if (node) {
    node.classList.add("gv-at");
    const box = view.parts.text, a = node.getBoundingClientRect(), b = box.getBoundingClientRect();
    if (scroll && (a.top < b.top || a.bottom > b.bottom)) box.scrollTop += a.top - b.top - box.clientHeight / 3;
  }
  const token = row.pieces.length ? visible(row.pieces[at], at === row.pieces.length - 1) : "(empty)";
  part("token").textContent = token;
  const facts = [["token", at + 1 + " of " + row.pieces.length], ...view.data.columns.map((name) => [name, numberText(name, row.columns[name][at])]), ...Object.entries(row.rewards).map(([name, v]) => ["reward, " + name, String(+v.toFixed(3))])];
  const list = document.createDocumentFragment();
  for (const [name, value] of facts) list.append(Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value }));
  part("numbers").replaceChildren(list);
  if (scroll) part("said").textContent = token + ", " + facts.map((f) => f.join(" ")).join(", ");
}

// The tokens of the chosen completion that the method moved most, to go to.
function drawMoved(view) {
  const row = view.row, values = row.columns.difference, line = part("moved");
  const found = values ? values.map((d, t) => [Math.abs(d), t]).filter(([d]) => d >= 1e-3).sort((a, b) => b[0] - a[0]).slice(0, MOVED) : [];
  line.hidden = !found.length;
  const jumps = found.map(([, t]) => {
    const node = Object.assign(document.createElement("button"), { type: "button", className: "gv-jump" });
    node.textContent = visible(row.pieces[t], t === row.pieces.length - 1) + "  " + signedText(values[t], 2);
    node.dataset.t = t;
    return node;
  });
  line.replaceChildren(Object.assign(document.createElement("span"), { textContent: "Moved most from GRPO's " + (typeof row.advantage === "number" ? signedText(row.advantage, 2) : "") + ":" }), ...jumps);
}

function rowOf(node) {
  const found = node.closest(".gv-row");
  return found ? view.data.rows[+found.dataset.index] : null;
}

function keys(event) {
  const row = view.row, place = view.rows.indexOf(row), last = row ? row.pieces.length - 1 : 0;
  const goes = { ArrowDown: () => focusRow(view.rows[place + 1]), ArrowUp: () => focusRow(view.rows[place - 1]), ArrowRight: () => view.choose(row, Math.min(last, view.at + 1)), ArrowLeft: () => view.choose(row, Math.max(0, view.at - 1)), Home: () => view.choose(row, 0), End: () => view.choose(row, last), d: () => view.toDifference(), Enter: () => trigger("open_row", { index: row.index }) };
  if (!row || !goes[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  goes[event.key]();
}

function focusRow(row) {
  if (!row) return;
  view.choose(row, Math.min(view.at, Math.max(0, row.pieces.length - 1)));
  row.node.focus();
}

const strips = view.parts.rows;
strips.addEventListener("keydown", keys);
strips.addEventListener("click", (event) => {
  const row = rowOf(event.target);
  if (row) view.choose(row, (event.target === row.canvas ? tokenAt(view, row, event) : null) ?? Math.min(view.at, row.pieces.length - 1));
});
strips.addEventListener("dblclick", (event) => {
  const row = rowOf(event.target);
  if (row) trigger("open_row", { index: row.index });
});
strips.addEventListener("mousemove", (event) => {
  const row = rowOf(event.target), t = row && event.target === row.canvas ? tokenAt(view, row, event) : null;
  if (t !== null) row.canvas.title = visible(row.pieces[t], t === row.pieces.length - 1) + ": " + view.data.columns.map((name) => name + " " + numberText(name, row.columns[name][t])).join(", ");
});
for (const box of [view.parts.text, part("moved")]) box.addEventListener("click", (event) => event.target.dataset.t && view.choose(view.row, +event.target.dataset.t));
view.parts.color.addEventListener("change", () => { view.color = view.parts.color.value; view.paint(); });
view.parts.sort.addEventListener("change", () => { view.sort = view.parts.sort.value; view.order(); });
view.parts.other.addEventListener("change", () => view.compare(view.rows.find((r) => nameOf(view, r) === view.parts.other.value) || null));
part("first").addEventListener("click", () => view.toDifference());
part("open").addEventListener("click", () => view.row && trigger("open_row", { index: view.row.index }));
const repaint = () => view.rows.length && view.paint();
new ResizeObserver(repaint).observe(strips);
new MutationObserver(repaint).observe(document.body, { attributes: true, attributeFilter: ["class"] });
element.querySelector(".gv").__view = view; // for tests
view.receive(props.value);
watch("value", () => view.receive(props.value));
