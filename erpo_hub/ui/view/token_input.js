// Pointer, keyboard and the controls; the heading, the numbers line and the legend.
function listen(view) {
  const { parts, root, config } = view, tokens = parts.tokens;
  const cellAt = (e) => (e.target.matches(".tv-tok, .tv-tail") ? view.cells[e.target.dataset.c] : null);
  tokens.addEventListener("pointerover", (e) => {
    const cell = cellAt(e);
    if (!cell || e.pointerType === "touch") return;
    if (!view.selected) showCard(view, cell, false);
    cancelAnimationFrame(view.frame);
    view.frame = requestAnimationFrame(() => pointAt(view, cell.main));
  });
  tokens.addEventListener("pointerleave", () => {
    if (!view.selected) showCard(view, null);
    pointAt(view, null);
  });
  tokens.addEventListener("click", (e) => {
    const cell = cellAt(e);
    if (cell) cell === view.selected ? view.release(true) : view.select(cell.main, false);
  });
  tokens.addEventListener("focusin", (e) => {
    const cell = cellAt(e);
    if (!cell) return;
    view.rove(cell);
    if (!view.selected) showCard(view, cell, false);
  });
  tokens.addEventListener("focusout", () => !view.selected && showCard(view, null));
  root.addEventListener("keydown", (e) => {
    if (e.key === "Escape" && (view.selected || !parts.card.hidden)) {
      view.release(true);
      showCard(view, null);
      e.preventDefault();
    } else if (cellAt(e)) onKey(view, e, cellAt(e));
  });
  new ResizeObserver(() => {
    root.classList.toggle("tv-wide", root.clientWidth >= 640);
    view.textWidth = tokens.clientWidth - 26;
  }).observe(root);
  listenTools(view);
  if (!config.table) for (const name of ["table", "words"]) parts[name].remove();
  for (const name of ["barRow", "display"]) parts[name].hidden = !config.tools;
  if (config.only_tools) for (const name of ["title", "status", "prompt", "body", "barRow", "modes"]) parts[name].hidden = true;
  if (config.only_tools) parts.display.open = true;
  if (config.only_tools) parts.display.after(parts.legend);
  if (config.folded_question) parts.prompt.open = false;
  if (!config.read) parts.modes.lastElementChild.hidden = true;
  parts.tokens.setAttribute("aria-label", config.label + ": " + parts.tokens.getAttribute("aria-label"));
  root.setAttribute("aria-label", config.label);
  listenOptions(view);
}

function listenTools(view) {
  const { parts } = view;
  parts.prev.addEventListener("click", () => toPivot(view, -1));
  parts.next.addEventListener("click", () => toPivot(view, 1));
  parts.strongest.addEventListener("click", () => toStrength(view, 0));
  parts.stronger.addEventListener("click", () => toStrength(view, -1));
  parts.weaker.addEventListener("click", () => toStrength(view, 1));
  parts.table.addEventListener("toggle", () => drawTable(view));
  parts.words.addEventListener("toggle", () => drawWords(view));
  parts.modes.addEventListener("click", (e) => e.target.dataset.mode && setMode(view, e.target.dataset.mode));
  parts.fold.addEventListener("change", () => chooseFolds(view, parts.fold.checked));
  parts.find.addEventListener("input", () => find(view, parts.find.value));
  parts.find.addEventListener("keydown", (e) => {
    if (e.key === "Enter") nextHit(view, e.shiftKey ? -1 : 1);
    if (e.key === "Escape") find(view, (parts.find.value = ""));
  });
}

function onKey(view, e, cell) {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const c = Number(cell.node.dataset.c), last = view.cells.length - 1;
  const moves = { ArrowRight: c + 1, ArrowLeft: c - 1, Home: 0, End: last };
  if (e.key in moves) goTo(view, Math.max(0, Math.min(last, moves[e.key])));
  else if (e.key === "ArrowDown" || e.key === "ArrowUp") goTo(view, lineStep(view, c, e.key === "ArrowDown" ? 1 : -1));
  else if (e.key === "n" || e.key === "p") toPivot(view, e.key === "n" ? 1 : -1);
  else if (e.key === "s" || e.key === "w") toStrength(view, e.key === "s" ? -1 : 1);
  else if (e.key === "Enter" || e.key === " ") cell === view.selected ? view.release(true) : view.select(cell.main, true);
  else return;
  e.preventDefault();
}

function goTo(view, c) {
  const cell = view.cells[c];
  openFold(view, cell);
  view.reveal(cell);
  cell.node.focus({ preventScroll: true });
  if (view.selected) view.select(cell.main, true);
  else pointAt(view, cell.main);
}

// The cell on the next or previous drawn line that lies nearest in x.
function lineStep(view, c, step) {
  const at = view.cells[c].node.getBoundingClientRect();
  let best = c, distance = Infinity, top = null;
  for (let i = c + step; i >= 0 && i < view.cells.length && Math.abs(i - c) < 1000; i += step) {
    const box = view.cells[i].node.getBoundingClientRect();
    if (view.cells[i].folded) continue;
    if (Math.abs(box.top - at.top) < 4) continue;
    if (top !== null && Math.abs(box.top - top) > 4) break;
    top = box.top;
    if (Math.abs(box.left - at.left) < distance) {
      distance = Math.abs(box.left - at.left);
      best = i;
    }
  }
  return best;
}

// -- options: one view's controls may steer the others of its group -----------------------------------------
function listenOptions(view) {
  const { parts, config } = view;
  const change = (options) => {
    window.dispatchEvent(new CustomEvent("erpo-options", { detail: { group: config.group || config.label, options } }));
  };
  const set = () => change({ rule: { quantile: Number(parts.quantile.value), floor: Number(parts.floor.value), words: "as the sliders are set" } });
  parts.quantile.addEventListener("input", set);
  parts.floor.addEventListener("input", set);
  parts.recorded.addEventListener("click", () => change({ rule: null }));
  parts.marks.addEventListener("change", () => change({ marks: parts.marks.value }));
  parts.k.addEventListener("input", () => parts.k.value > 0 && change({ k: Math.round(Number(parts.k.value)) }));
  parts.by.addEventListener("change", () => change({ by: parts.by.value }));
  parts.unit.addEventListener("change", () => change({ unit: parts.unit.value }));
  parts.scale.addEventListener("change", () => change({ scale: parts.scale.value }));
  parts.spaces.addEventListener("change", () => change({ spaces: parts.spaces.checked }));
  window.addEventListener("erpo-options", (e) => {
    if (e.detail.group !== (config.group || config.label)) return;
    Object.assign(view.options, e.detail.options);
    showOptions(view);
    if (["rule", "marks", "k", "by"].some((name) => name in e.detail.options)) return view.movePivots();
    if ("spaces" in e.detail.options) {
      const kept = view.selected && view.selected.main;
      view.show(view.data, { run: view.run, running: view.running });
      if (kept !== null) view.select(kept, false);
      return;
    }
    view.scale();
    view.cells.forEach((cell) => {
      paintCell(view, cell);
      nameCell(view, cell);
    });
    view.describe();
    drawCurve(view.curve, 0);
    drawLists(view);
    drawMode(view);
  });
  showOptions(view);
}

function showOptions(view) {
  const { parts, options } = view, { quantile, floor } = Object.assign({}, DEFAULT_RULE, view.rule());
  parts.quantile.value = quantile;
  parts.quantile.nextElementSibling.textContent = quantile.toFixed(2);
  parts.floor.value = floor;
  parts.floor.nextElementSibling.textContent = inUnit(floor, options.unit);
  parts.recorded.hidden = !options.rule;
  parts.marks.value = options.marks;
  if (document.activeElement !== parts.k) parts.k.value = options.k;
  parts.k.disabled = options.marks === "rule";
  parts.by.value = options.by;
  parts.unit.value = options.unit;
  parts.scale.value = options.scale;
  parts.spaces.checked = options.spaces;
}

// -- words and numbers above the tokens ---------------------------------------------------------------------
function drawHead(view) {
  const { parts, data } = view, { meta } = data, n = data.tokens.length;
  parts.title.textContent = shortText(meta.name || view.config.label, 80);
  parts.promptText.textContent = meta.prompt ? visibleLines(meta.prompt) : "";
  parts.asked.textContent = view.config.folded_question && meta.prompt ? shortText(meta.prompt, 80) : "";
  nameQuestion(view, meta.prompt || "");
  parts.stats.textContent = "";
  const add = (className, text) => parts.stats.appendChild(make("span", className, text));
  if (meta.correct === true) add("tv-badge tv-right", "✓ correct");
  if (meta.correct === false) add("tv-badge tv-wrong", "✗ wrong");
  if (meta.answer) add("", "answer " + shortText(meta.answer, 40));
  if (meta.gold) add("", "expected " + shortText(meta.gold, 40));
  if (!n) return;
  let total = 0;
  for (const h of data.entropy) total += h;
  add("", n.toLocaleString("en") + (n === 1 ? " token" : " tokens"));
  add("", "mean entropy " + inUnit(total / n, view.options.unit));
  add("tv-pivot-count", view.pivots.length.toLocaleString("en") + (view.pivots.length === 1 ? " pivot" : " pivots") + " (" + view.rule().words + ")");
  if (view.marked.length < view.pivots.length) add("tv-marked-count", "◆ " + view.marked.length + " strongest by " + STRENGTH_NAMES[view.strengthBy] + " marked");
  if (data.diverge !== null) add("", "≠ differs from token " + (data.diverge + 1));
  if (data.prefix) add("", data.prefix + " tokens shared");
}

// The question in full. Where a box of the page holds it: only one that the box has no room for, two lines on a
// phone and three on a wide page.
function nameQuestion(view, text) {
  const { prompt, promptName } = view.parts, folded = view.config.folded_question, lines = text.split("\n").length;
  prompt.hidden = !text || view.config.only_tools || (folded && text.length < 64 && lines < 3);
  prompt.classList.toggle("tv-prompt-short", !!folded && text.length < 240 && lines < 4);
  promptName.textContent = folded ? "The whole question (" + text.length.toLocaleString("en") + " characters)" : "Question";
}

function visibleLines(text) {
  const shown = text.split("\n").map((line) => visibleText(line, false).replace(/·$/, " "));
  return shown.join("\n");
}

function drawLegend(view) {
  const { legend } = view.parts, { scale, unit } = view.options;
  const key = scale + unit + view.edges.join();
  if (legend.dataset.key === key) return;
  legend.dataset.key = key;
  const shared = scale === "absolute"; // one legend for all views of a group, where it is the same
  legend.hidden = view.config.only_tools ? !shared : !view.config.tools && shared;
  legend.textContent = "";
  const number = (h) => (scale === "sensitivity" ? significant(h) : UNITS[unit].of(h).toFixed(UNITS[unit].digits));
  const name = scale === "sensitivity" ? "sensitivity (logit²)" : "entropy (" + UNITS[unit].name + ")";
  legend.appendChild(make("span", "tv-legend-name", name));
  if (scale === "sensitivity" && !view.data.sensitivity) return void legend.appendChild(make("span", "", "not measured"));
  view.edges.forEach((edge, i) => {
    if (i === 0) legend.appendChild(make("span", "tv-swatch tv-h0", "below " + number(edge)));
    const top = i + 1 < view.edges.length ? "–" + number(view.edges[i + 1]) : " and more";
    if (Number.isFinite(edge)) legend.appendChild(make("span", "tv-swatch tv-h" + (i + 1), number(edge) + top));
  });
  legend.appendChild(make("span", "tv-key", "pivot"));
  legend.appendChild(make("span", "tv-key-weak", "other pivots"));
}
