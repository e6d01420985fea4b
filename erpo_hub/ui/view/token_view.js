// The token view: one object that receives messages (whole traces, or deltas of a stream) and draws them.
// Runs inside gr.HTML's js_on_load: `element`, `props`, `trigger` and `watch` come from Gradio.
const config = JSON.parse(props.config);

function emptyData() {
  return { tokens: [], pieces: [], entropy: [], logprob: [], topk: [], strings: {}, sensitivity: null, pivots: null, rule: null, prefix: 0, diverge: null, columns: {}, audits: {}, tree: null, shown: null, meta: {} };
}

function findParts(root) {
  const parts = {};
  const names = ["asked", "title", "stats", "status", "prompt", "prompt-name", "prompt-text", "branches", "map", "canvas", "map-text", "zoom-in", "zoom-out", "zoom-all", "bar-row", "modes"];
  names.push("strongest", "stronger", "weaker", "prev", "next", "find", "hits", "fold", "display", "tools", "marks", "k", "by", "quantile", "floor", "recorded");
  names.push("unit", "scale", "spaces", "body", "tokens", "steps", "reading", "legend", "side", "card", "rank", "table", "table-box", "words", "words-box");
  for (const name of names) parts[name.replace(/-(.)/g, (_, c) => c.toUpperCase())] = root.querySelector(".tv-" + name);
  return parts;
}

const view = {
  config, root: element.querySelector(".tv"), parts: findParts(element), data: emptyData(), run: null, running: false, gap: false,
  options: { rule: null, marks: "strongest", k: 12, by: "entropy", unit: "nats", scale: "absolute", spaces: false },
  mode: "tokens", serial: 0, audits: {}, auditing: null, map: null, textWidth: 600, folded: false, folds: [],
  cells: [], cellOf: [], drawn: 0, line: null, lines: [], lineFull: false, lineCount: 0, lineChars: 0,
  strong: [], marked: [], markSet: new Set(), strengthBy: "entropy", hits: [], found: [], foundCells: [], hit: -1,
  pivots: [], pivotSet: new Set(), sorted: new Float64Array(0), edges: EDGES, selected: null, tab: null, posed: null,

  // The pivots of the record, by its rule, until the reader sets one.
  rule() {
    return this.options.rule || this.data.rule || DEFAULT_RULE;
  },

  markPivots() {
    const { data, options } = this, rule = this.rule(), recorded = !options.rule && data.pivots;
    this.pivots = recorded || findPivots(data.entropy, this.sorted, rule.quantile, rule.floor);
    this.pivotSet = new Set(this.pivots);
    findStrong(this);
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
    this.auditing = null;
    if (this.posed !== null && m.run && m.meta.prompt !== this.posed) return; // the end of an earlier question's stream
    this.posed = null;
    const data = emptyData();
    for (const name of ["tokens", "pieces", "entropy", "logprob", "strings", "sensitivity", "pivots", "rule", "prefix", "diverge", "columns", "audits", "tree", "shown", "meta"]) if (m[name] !== undefined) data[name] = m[name];
    data.topk = m.topk_ids.map((ids, t) => ids.map((id, j) => [id, m.topk_probs[t][j]]));
    if (m.update) data.meta.name = this.data.meta.name || data.meta.name;
    const streamed = m.run && m.run === this.run && !this.gap;
    if (!(streamed || sameText(data, this.data)) || data.tokens.length !== this.data.tokens.length || data.prefix !== this.data.prefix) return this.show(data, m);
    const changed = data.diverge !== this.data.diverge || data.sensitivity !== this.data.sensitivity;
    Object.assign(this, { data, audits: data.audits, running: false });
    this.extend(true);
    if (changed) this.cells.forEach((cell) => paintCell(this, cell));
    this.describe();
    this.say(m.text, m.kind);
    if (this.selected) showCard(this, this.selected, true);
    this.chosen();
  },

  // The token that a link, or the page's first trace, opens.
  chosen() {
    const at = this.data.meta.select;
    if (Number.isInteger(at) && at >= 0 && at < this.data.tokens.length) this.select(at, true);
  },

  show(data, m) {
    this.data = data;
    Object.assign(this, { run: m.run || null, running: !!m.running, gap: false, cells: [], cellOf: [], drawn: 0, line: null, lines: [], lineFull: false, selected: null, tab: null });
    Object.assign(this, { pivots: [], pivotSet: new Set(), strong: [], marked: [], markSet: new Set(), audits: data.audits, auditing: null, folds: [], hits: [], found: [], foundCells: [], hit: -1 });
    this.parts.find.value = this.parts.hits.textContent = "";
    this.serial += 1;
    this.parts.tokens.textContent = "";
    this.root.dataset.serial = this.serial;
    showCard(this, null);
    resetMap(this);
    this.extend(!m.running);
    if (this.mode === "reading" && !data.tokens.length) setMode(this, "tokens");
    opened(this);
    this.describe();
    this.say(m.text, m.kind);
    this.chosen();
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
    const before = { pivots: this.pivotSet, marks: this.markSet };
    this.markPivots();
    showOptions(this);
    drawCells(this, first);
    this.repaint(before, first);
    if (!this.tab && this.cells.length) this.rove(this.cells[0]);
    this.root.dataset.tokens = this.data.tokens.length;
    if (this.folded && final) foldText(this, true);
    drawCurve(this.curve, this.running ? 250 : 60); // the text is painted first
    drawMode(this);
    final ? drawLists(this) : drawRank(this);
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
    const { pivots, marks } = before;
    for (const [old, now] of [[pivots, this.pivotSet], [marks, this.markSet]]) {
      for (const t of now) if (!old.has(t)) paint(t);
      for (const t of old) if (!now.has(t)) paint(t);
    }
  },

  movePivots() {
    const before = { pivots: this.pivotSet, marks: this.markSet };
    this.markPivots();
    this.repaint(before, Infinity);
    this.describe();
    drawCurve(this.curve, 80);
    drawMode(this);
    drawLists(this);
    if (this.selected) showCard(this, this.selected, true);
  },

  describe() {
    drawHead(this);
    drawBranches(this);
    this.root.dataset.pivots = this.pivots.length;
    this.root.classList.toggle("tv-empty", !this.data.tokens.length && !this.parts.status.textContent);
    this.root.classList.toggle("tv-blank", !this.data.tokens.length && !this.running);
    this.root.classList.toggle("tv-tall", this.config.map && this.data.tokens.length > 150);
    paintMap(this); // the room for the text may have changed, and with it the window
  },

  say(text, kind) {
    const { status } = this.parts;
    if (text !== undefined && text !== null) status.textContent = text;
    status.hidden = !status.textContent;
    this.root.classList.toggle("tv-empty", !this.data.tokens.length && !status.textContent);
    if (kind === "error" && this.auditing !== null) {
      this.auditing = null;
      if (this.selected) showCard(this, this.selected, true);
    }
    const progress = this.parts.card.querySelector(".tv-audit-progress");
    if (progress && text) progress.textContent = text;
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
    if (this.mode !== "tokens") setMode(this, "tokens");
    this.selected = cell;
    openFold(this, cell);
    for (const c of [old, cell]) {
      if (!c || !c.node) continue;
      paintCell(this, c);
      c.node.setAttribute("aria-selected", String(c === cell));
    }
    this.rove(cell);
    if (scroll) this.reveal(cell);
    showCard(this, cell, true);
    if (scroll) this.uncover(cell);
    moveCursor(this);
    followMap(this, cell.main);
    this.root.dataset.selected = cell.main;
  },

  // Scrolls the text, never the page; far lines are laid out on the way, so it looks twice.
  reveal(cell, middle) {
    const box = this.parts.tokens, b = box.getBoundingClientRect();
    for (let i = 0; i < 3; i++) {
      const a = cell.node.getBoundingClientRect();
      if (a.top >= b.top && a.bottom <= b.bottom && !(middle && i === 0)) return;
      box.scrollTop += a.top - b.top - box.clientHeight / 3;
    }
  },

  // On a phone the sheet lies over the lower part of the screen: the token goes above it.
  uncover(cell) {
    const { side } = this.parts;
    if (getComputedStyle(side).position !== "fixed") return;
    const over = cell.node.getBoundingClientRect().bottom + 12 - side.getBoundingClientRect().top;
    if (over > 0) window.scrollBy(0, over);
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
    paintMap(this);
    if (refocus) {
      cell.node.focus();
      showCard(this, null);
    }
  },

  glance(t) {
    if (this.glanced) this.glanced.node.classList.remove("tv-glance");
    this.glanced = t === null ? null : this.cells[this.cellOf[t]] || null;
    if (this.glanced) this.glanced.node.classList.add("tv-glance");
    if (!this.selected) showCard(this, this.glanced, false);
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
    trigger("fork", { index, token, branch: this.data.shown });
    revealBranch(this);
  },

  figure(kind) {
    saveFigure(this, kind);
  },

  audit(index) {
    this.auditing = index;
    showCard(this, this.selected, true);
    trigger("audit", { index });
  },
};

function sameText(a, b) {
  return a.tokens.length > 0 && a.tokens.length === b.tokens.length && a.meta.prompt === b.meta.prompt && a.tokens.every((id, t) => id === b.tokens[t] && a.pieces[t] === b.pieces[t]);
}

function drawLists(view) {
  drawTable(view);
  drawWords(view);
  drawRank(view);
  if (view.selected === null && !view.parts.card.hidden) showCard(view, null);
}

// Forks belong to the solution that they left: another one on view takes them away.
function opened(view) {
  if (view.config.role === "main") window.dispatchEvent(new CustomEvent("erpo-opened", { detail: view.config.group }));
}

function revealBranch(view) {
  if (window.innerWidth <= 640) view.release(); // the sheet would lie over the branch
  if (view.config.role !== "main" || window.innerWidth > 900) return;
  // The page is long enough for it only once the branch is there, on a slow phone long after the tap.
  const until = performance.now() + 10000, stop = new AbortController();
  for (const kind of ["wheel", "touchstart", "keydown"]) window.addEventListener(kind, () => stop.abort(), { signal: stop.signal, passive: true });
  const look = () => {
    const branch = document.querySelector("#branch"), first = branch?.querySelector(".tv-tok");
    if (stop.signal.aborted || performance.now() > until) return stop.abort();
    if (first && first.getBoundingClientRect().top <= 0.75 * window.innerHeight) return stop.abort();
    branch?.scrollIntoView({ block: "start" });
    setTimeout(look, 200);
  };
  setTimeout(look, 150);
}

if (config.role === "branch") {
  window.addEventListener("erpo-opened", (e) => e.detail === config.group && (view.data.tree || view.parts.status.textContent) && view.show(emptyData(), { text: "" }));
}

const ends = { receive: () => view.receive(props.value) };
listen(view);
if (config.curve) joinCurve(view);
if (config.map) joinMap(view);
view.root.__view = view; // for tests and for the page's own buttons
view.scale();
ends.receive();
watch("value", ends.receive);
