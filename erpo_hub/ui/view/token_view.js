// The token view: one object that receives messages (whole traces, or deltas of a stream) and draws them.
// Runs inside gr.HTML's js_on_load: `element`, `props`, `trigger` and `watch` come from Gradio.
const config = JSON.parse(props.config);

function emptyData() {
  return { tokens: [], pieces: [], entropy: [], logprob: [], topk: [], strings: {}, sensitivity: null, pivots: null, rule: null, prefix: 0, diverge: null, meta: {} };
}

function findParts(root) {
  const get = (name) => root.querySelector(".tv-" + name);
  const names = ["title", "stats", "status", "prompt", "tools", "quantile", "floor", "unit", "scale", "spaces", "recorded", "prev", "next"];
  const parts = { legend: get("legend"), body: get("body"), tokens: get("tokens"), card: get("card"), table: get("table") };
  for (const name of names) parts[name] = get(name);
  return Object.assign(parts, { promptText: get("prompt-text"), tableBox: get("table-box") });
}

const view = {
  config, root: element.querySelector(".tv"), parts: findParts(element), data: emptyData(), run: null, running: false, gap: false,
  options: { rule: null, unit: "nats", scale: "absolute", spaces: false },
  cells: [], cellOf: [], drawn: 0, line: null, lineFull: false, lineCount: 0,
  pivots: [], pivotSet: new Set(), sorted: new Float64Array(0), edges: EDGES, selected: null, tab: null, posed: null,

  // The pivots of the record, by its rule, until the reader sets one.
  rule() {
    return this.options.rule || this.data.rule || DEFAULT_RULE;
  },

  markPivots() {
    const { data, options } = this, rule = this.rule(), recorded = !options.rule && data.pivots;
    this.pivots = recorded || findPivots(data.entropy, this.sorted, rule.quantile, rule.floor);
    this.pivotSet = new Set(this.pivots);
  },

  heat(t) {
    const values = this.options.scale === "sensitivity" ? this.data.sensitivity : this.data.entropy;
    return values ? levelOf(values[t], this.edges) : 0;
  },

  // -- messages ----------------------------------------------------------------------------------------
  receive(text) {
    if (!text) return;
    const m = JSON.parse(text);
    if (m.op === "delta") this.grow(m);
    else if (m.op === "status") this.say(m.text, m.kind);
    else if (m.op === "clear") this.show(emptyData(), m);
    else if (m.op === "trace") this.snapshot(m);
  },

  snapshot(m) {
    if (this.posed !== null && m.run && m.meta.prompt !== this.posed) return; // the end of an earlier question's stream
    this.posed = null;
    const data = emptyData();
    for (const name of ["tokens", "pieces", "entropy", "logprob", "strings", "sensitivity", "pivots", "rule", "prefix", "diverge", "meta"]) if (m[name] !== undefined) data[name] = m[name];
    data.topk = m.topk_ids.map((ids, t) => ids.map((id, j) => [id, m.topk_probs[t][j]]));
    const same = m.run && m.run === this.run && !this.gap && data.tokens.length === this.data.tokens.length && data.prefix === this.data.prefix;
    if (!same) return this.show(data, m);
    const changed = data.diverge !== this.data.diverge || data.sensitivity !== this.data.sensitivity;
    this.data = data;
    this.running = false;
    this.extend(true);
    if (changed) this.cells.forEach((cell) => paintCell(this, cell));
    this.describe();
    this.say(m.text, m.kind);
    if (this.selected) showCard(this, this.selected, true);
  },

  show(data, m) {
    this.data = data;
    Object.assign(this, { run: m.run || null, running: !!m.running, gap: false, cells: [], cellOf: [], drawn: 0, line: null, lineFull: false, selected: null, tab: null });
    this.pivots = [];
    this.pivotSet = new Set();
    this.parts.tokens.textContent = "";
    showCard(this, null);
    this.extend(!m.running);
    this.describe();
    this.say(m.text, m.kind);
    const at = data.meta.select;
    if (Number.isInteger(at) && at >= 0 && at < data.tokens.length) this.select(at, true);
  },

  // A message repeats the end of the ones before it; what is known is skipped, a hole waits for the snapshot.
  grow(m) {
    const data = this.data, known = data.tokens.length;
    if (m.run !== this.run || this.gap) return;
    if (m.start > known) {
      this.gap = true;
      return this.say("Catching up…");
    }
    Object.assign(data.strings, m.strings);
    for (let i = known - m.start; i < m.tokens.length; i++) {
      data.tokens.push(m.tokens[i]);
      data.pieces.push(m.pieces[i]);
      data.entropy.push(m.entropy[i]);
      data.logprob.push(m.logprob[i]);
      data.topk.push(m.topk_ids[i].map((id, j) => [id, m.topk_probs[i][j]]));
    }
    const box = this.parts.tokens, follow = box.scrollTop + box.clientHeight >= box.scrollHeight - 40;
    this.extend(false);
    if (follow) box.scrollTop = box.scrollHeight;
    this.describe();
    this.say(m.text);
  },

  // -- drawing -----------------------------------------------------------------------------------------
  extend(final) {
    const first = this.cells.length;
    this.sorted = sortedCopy(this.data.entropy);
    this.scale();
    layCells(this, final);
    const before = this.pivotSet;
    this.markPivots();
    showOptions(this);
    drawCells(this, first);
    this.repaint(before, first);
    if (!this.tab && this.cells.length) this.rove(this.cells[0]);
    this.root.dataset.tokens = this.data.tokens.length;
    drawCurve(this.curve, this.running ? 250 : 60); // the text is painted first
    if (!this.running) drawTable(this);
  },

  scale() {
    const kind = this.options.scale;
    if (kind === "sensitivity" && this.data.sensitivity) {
      const sorted = sortedCopy(this.data.sensitivity);
      this.edges = RANKS.map((q) => quantile(sorted, q) || Infinity);
    } else this.edges = kind === "percentile" ? RANKS.map((q) => Math.max(quantile(this.sorted, q), 1e-9)) : EDGES;
    drawLegend(this);
  },

  repaint(before, below) {
    const paint = (t) => this.cellOf[t] < below && paintCell(this, this.cells[this.cellOf[t]]);
    for (const t of this.pivotSet) if (!before.has(t)) paint(t);
    for (const t of before) if (!this.pivotSet.has(t)) paint(t);
  },

  movePivots() {
    const before = this.pivotSet;
    this.markPivots();
    this.repaint(before, Infinity);
    this.describe();
    drawCurve(this.curve, 80);
    drawTable(this);
  },

  describe() {
    drawHead(this);
    this.root.dataset.pivots = this.pivots.length;
  },

  say(text, kind) {
    const { status } = this.parts;
    if (text !== undefined && text !== null) status.textContent = text;
    status.classList.toggle("tv-error", kind === "error");
    status.setAttribute("role", kind === "error" ? "alert" : "status");
  },

  // -- pointing ----------------------------------------------------------------------------------------
  rove(cell) {
    if (this.tab) this.tab.node.tabIndex = -1;
    this.tab = cell;
    cell.node.tabIndex = 0;
  },

  select(t, scroll) {
    const cell = this.cells[this.cellOf[t]];
    if (!cell) return;
    const old = this.selected;
    this.selected = cell;
    for (const c of [old, cell]) {
      if (!c || !c.node) continue;
      paintCell(this, c);
      c.node.setAttribute("aria-selected", String(c === cell));
    }
    this.rove(cell);
    if (scroll) this.reveal(cell);
    showCard(this, cell, true);
    moveCursor(this);
    this.root.dataset.selected = cell.main;
  },

  reveal(cell) {
    const box = this.parts.tokens, a = cell.node.getBoundingClientRect(), b = box.getBoundingClientRect();
    if (a.top < b.top || a.bottom > b.bottom) box.scrollTop += a.top - b.top - box.clientHeight / 3;
  },

  release(refocus) {
    const cell = this.selected;
    this.selected = null;
    showCard(this, null);
    if (!cell) return;
    paintCell(this, cell);
    cell.node.setAttribute("aria-selected", "false");
    delete this.root.dataset.selected;
    moveCursor(this);
    if (refocus) {
      cell.node.focus();
      showCard(this, null);
    }
  },

  glance(t) {
    if (this.glanced) this.glanced.node.classList.remove("tv-glance");
    this.glanced = t === null ? null : this.cells[this.cellOf[t]] || null;
    if (this.glanced) this.glanced.node.classList.add("tv-glance");
    if (!this.selected) showCard(this, this.glanced && this.seen(this.glanced) ? this.glanced : null, false);
  },

  seen(cell) {
    const a = cell.node.getBoundingClientRect(), b = this.parts.tokens.getBoundingClientRect();
    return a.bottom > b.top && a.top < b.bottom;
  },

  // A question that is not answered: what was on view would be the answer of another one.
  pose(prompt, gold, text) {
    const data = emptyData();
    data.meta = { name: "Not answered yet", prompt, gold };
    this.show(data, { text });
    this.posed = prompt;
  },

  // What still arrives is passed over; the server's last message shows what had been made.
  halt() {
    this.gap = true;
    this.say("Stopping…");
  },

  fork(index, token) {
    trigger("fork", { index, token });
  },
};

const ends = { receive: () => view.receive(props.value) };
listen(view);
if (config.curve) joinCurve(view);
view.root.__view = view; // for tests and for the page's own buttons
view.scale();
ends.receive();
watch("value", ends.receive);
