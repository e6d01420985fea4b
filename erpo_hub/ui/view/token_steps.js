// The solution in steps: sentences and lines with the mean and the peak of each; and what the model was certain of,
// folded away, in the list of steps and in the text.
const CERTAIN = EDGES[0]; // nats: below it a token counts as certain
const FOLD_LEAST = 40; // tokens of a stretch that is worth a fold
const END = /[.!?]["')\]]*\s*$/;

// Steps as {from, to (exclusive), text, indent, mean, peak}: a line ends a step, and so does a sentence. Many
// tokenizers join a line break and the spaces after it: those indent the step that follows.
function findSteps(data) {
  const steps = [], n = data.tokens.length;
  let from = 0, text = "", indent = "";
  for (let t = 0; t < n; t++) {
    text += data.pieces[t];
    const next = t + 1 < n ? data.pieces[t + 1] : "\n";
    const numbering = /^\s*\d+[.)]\s*$/.test(text); // "1." begins a line, it is no sentence
    if (t + 1 < n && !(/\n\s*$/.test(text) && /^[^\n]/.test(next)) && !(END.test(text) && /^\s/.test(next) && !numbering)) continue;
    if (!text.trim() && steps.length) Object.assign(steps[steps.length - 1], { to: t + 1, text: steps[steps.length - 1].text + text });
    else steps.push({ from, to: t + 1, text, indent });
    indent = /\n([ \t]*)$/.exec(text)?.[1] ?? "";
    from = t + 1;
    text = "";
  }
  for (const step of steps) {
    let total = 0;
    step.peak = step.from;
    for (let t = step.from; t < step.to; t++) {
      total += data.entropy[t];
      if (data.entropy[t] > data.entropy[step.peak]) step.peak = t;
    }
    step.mean = total / (step.to - step.from);
  }
  return steps.map((step, i) => ({ ...step, number: i + 1 }));
}

const STEP_ORDERS = { "as written": (s) => s.number, "highest peak": (s, view) => -view.data.entropy[s.peak], "highest mean": (s) => -s.mean };

function drawSteps(view) {
  const box = view.parts.steps, { data } = view, head = make("div", "tv-steps-head"), list = make("ol", "tv-steps-list");
  const steps = (view.steps = findSteps(data)), order = view.stepOrder || "as written";
  box.textContent = "";
  if (!steps.length) return void box.appendChild(make("p", "tv-hint", "Nothing to cut into steps."));
  const select = make("select"), label = make("label", "", "Order ");
  for (const name of Object.keys(STEP_ORDERS)) select.appendChild(Object.assign(make("option", "", name), { value: name }));
  select.value = order;
  select.addEventListener("change", () => {
    view.stepOrder = select.value;
    drawSteps(view);
    view.parts.steps.querySelector("select").focus();
  });
  label.appendChild(select);
  head.append(make("span", "", steps.length + " steps, sentences and lines"), label, make("span", "tv-steps-units", "mean and peak in " + UNITS[view.options.unit].name));
  const sorted = [...steps].sort((a, b) => STEP_ORDERS[order](a, view) - STEP_ORDERS[order](b, view));
  const certain = (s) => order === "as written" && data.entropy[s.peak] < CERTAIN && !view.markSet.has(s.peak);
  for (let i = 0; i < sorted.length; ) {
    let end = i;
    while (end < sorted.length && certain(sorted[end])) end++;
    if (end === i) list.appendChild(stepRow(view, sorted[i++]));
    else {
      list.appendChild(foldedSteps(view, sorted.slice(i, end)));
      i = end;
    }
  }
  box.append(head, list);
}

function foldedSteps(view, steps) {
  const tokens = steps.reduce((sum, s) => sum + s.to - s.from, 0), item = make("li", "tv-step-fold");
  const text = "▸ " + tokens + " certain tokens" + (steps.length > 1 ? ", " + steps.length + " steps" : ": " + shortText(steps[0].text.trim(), 60));
  item.appendChild(button("tv-unfold", text, "Show " + tokens + " certain tokens", () => item.replaceWith(...steps.map((s) => stepRow(view, s)))));
  return item;
}

function stepRow(view, step) {
  const { data } = view, unit = UNITS[view.options.unit], item = make("li"), number = (h) => unit.of(h).toFixed(unit.digits);
  const row = button("tv-step", "", "Step " + step.number + ", open its peak at token " + (step.peak + 1), () => view.select(step.peak, true));
  const mean = make("span", "tv-step-mean tv-h" + levelOf(step.mean, EDGES), number(step.mean));
  const peak = make("span", "tv-step-peak tv-h" + levelOf(data.entropy[step.peak], EDGES), number(data.entropy[step.peak]));
  const text = make("span", "tv-step-text");
  stepText(view, step, text);
  row.append(make("span", "tv-step-number", String(step.number)), mean, peak, text);
  item.appendChild(row);
  return item;
}

// The step's text with its strong pivots marked.
function stepText(view, step, node) {
  let plain = step.indent;
  for (let t = step.from; t < step.to; t++) {
    if (!view.markSet.has(t)) {
      plain += view.data.pieces[t];
      continue;
    }
    node.append(readableLines(plain).replace(/^\n+/, ""), make("span", "tv-step-pivot", visibleText(view.data.pieces[t], false).replace(/·$/, " ")));
    plain = "";
  }
  node.append(readableLines(plain.replace(/\s+$/, "")));
}

// As visibleLines, with the indentation of a line as the spaces that it is.
function readableLines(text) {
  const indented = (line) => line.slice(0, line.search(/[^ \t]|$/));
  return text.split("\n").map((line) => indented(line) + visibleLines(line.slice(indented(line).length))).join("\n");
}

// -- folds in the text ----------------------------------------------------------------------------------------
function foldText(view, on) {
  view.folded = on;
  for (const node of view.folds || []) node.remove();
  view.folds = [];
  for (const cell of view.cells) if (cell.folded) setFold(view, cell, false);
  const open = (cell) => view.data.entropy[cell.main] >= CERTAIN || view.markSet.has(cell.main) || cell === view.selected || cell.found;
  for (let c = 0; on && c < view.cells.length; ) {
    let end = c;
    while (end < view.cells.length && !open(view.cells[end])) end++;
    if (end > c && view.cells[end - 1].to + 1 - view.cells[c].from >= FOLD_LEAST) addFold(view, c, end);
    c = end + 1;
  }
  foldLines(view);
  drawMap(view);
}

// As the reader asks for it.
function chooseFolds(view, on) {
  foldText(view, on);
  if (on && !view.folds.length) view.say("Nothing to fold: no " + FOLD_LEAST + " tokens in a row are certain here.");
}

function addFold(view, first, end) {
  const cells = view.cells.slice(first, end), count = cells[cells.length - 1].to + 1 - cells[0].from;
  const node = button("tv-unfold", "▸ " + count + " certain tokens", "Show " + count + " certain tokens", () => {
    openFold(view, cells[0]);
    cells[0].node.focus();
  });
  node.setAttribute("role", "option"); // the list of tokens holds nothing else
  node.setAttribute("aria-selected", "false");
  for (const cell of cells) {
    cell.fold = { cells, node };
    setFold(view, cell, true);
  }
  cells[0].node.before(node);
  view.folds.push(node);
}

function setFold(view, cell, on) {
  cell.folded = on;
  paintCell(view, cell);
}

// A line of nothing but folded tokens takes no room.
function foldLines(view) {
  for (const { node } of view.lines) node.classList.toggle("tv-folded", view.folded && ![...node.children].some((c) => !c.classList.contains("tv-folded")));
}

function openFold(view, cell) {
  if (!cell.folded) return;
  const { cells, node } = cell.fold;
  for (const c of cells) setFold(view, c, false);
  for (const c of cells) c.node.parentNode.classList.remove("tv-folded");
  node.remove();
  view.folds = view.folds.filter((n) => n !== node);
}
