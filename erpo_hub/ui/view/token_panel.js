// What is known about one token, in the column beside the text (a sheet on a phone): numbers, alternatives, forks,
// what the choice does to the answer, and what a training made of it.
const ELSEWHERE = "The model that wrote this can't be asked here, so it can't be forked. Ask a question of your own: its answer can be.";
const NOT_LOGGED = "Which other tokens were likely here was not logged, so there is nothing to fork. The question below tries three.";

// Whether there may be a model that reads these tokens; else no button promises what it can't do.
function continues(view) {
  const { vocabulary } = view.config;
  return !vocabulary || vocabulary === view.data.meta.vocabulary;
}

function showCard(view, cell, pinned) {
  const { card, rank, side } = view.parts;
  side.classList.toggle("tv-sheet", !!cell && pinned);
  rank.hidden = !!cell;
  if (!cell) {
    card.hidden = true;
    card.classList.remove("tv-pinned");
    return;
  }
  const { data } = view, t = cell.main;
  card.textContent = "";
  card.classList.toggle("tv-pinned", pinned);
  card.setAttribute("role", pinned ? "group" : "tooltip");
  card.setAttribute("aria-label", "Details of token " + (t + 1));
  const head = make("div", "tv-card-head");
  head.appendChild(make("span", "tv-card-token", shortText(tokenText(data, cell.to), 60)));
  if (pinned) head.appendChild(button("tv-close", "✕", "Close", () => view.release(true)));
  const place = make("div", "tv-card-place", "token " + (t + 1) + " of " + data.tokens.length);
  if (view.pivotSet.has(t)) place.append(" ", make("span", "tv-card-pivot", pivotWords(view, t)));
  card.append(head, place, cardNumbers(view, cell));
  if (data.topk[t] && data.topk[t].length) card.appendChild(cardAlternatives(view, t, pinned));
  else if (continues(view) && view.config.audit && pinned) card.appendChild(make("p", "tv-hint", NOT_LOGGED));
  if (!continues(view)) card.appendChild(make("p", "tv-hint", ELSEWHERE));
  else if (view.config.audit) card.appendChild(cardAudit(view, t, pinned));
  const trained = cardTrained(view, t);
  if (trained) card.appendChild(trained);
  card.hidden = false;
}

function pivotWords(view, t) {
  const place = view.strong.indexOf(t);
  return place < 0 ? "◆ pivot" : "◆ pivot, number " + (place + 1) + " by " + STRENGTH_NAMES[view.strengthBy];
}

function button(className, text, label, act) {
  const node = make("button", className, text);
  node.type = "button";
  node.setAttribute("aria-label", label);
  node.addEventListener("click", act);
  return node;
}

function numbersList() {
  const list = make("dl", "tv-card-numbers");
  const row = (name, value) => list.append(make("dt", "", name), make("dd", "", value));
  return { list, row };
}

function cardNumbers(view, cell) {
  const { data } = view, t = cell.main, { list, row } = numbersList();
  row("entropy", Object.keys(UNITS).map((u) => inUnit(data.entropy[t], u)).join(" · "));
  row("probability", percent(Math.exp(data.logprob[t])));
  if (data.sensitivity) row("sensitivity", significant(data.sensitivity[t]) + " logit²");
  if (cell.to > cell.from) row("pieces", cell.to - cell.from + 1 + " tokens make this character; the most uncertain is shown");
  if (data.diverge !== null && cell.from <= data.diverge && data.diverge <= cell.to) row("≠", "the two completions differ from here");
  return list;
}

function idText(data, id) {
  return shortText(data.strings[id] === undefined ? "#" + id : data.strings[id] || "⟨end⟩", 30);
}

function cardAlternatives(view, t, pinned) {
  const { data } = view, box = make("div", "tv-card-top");
  box.setAttribute("role", "list");
  box.setAttribute("aria-label", "Most probable tokens");
  const chosen = data.tokens[t], canFork = pinned && view.config.fork && !view.running && continues(view);
  for (const [id, p] of data.topk[t]) {
    const item = make("div", "tv-alt");
    item.setAttribute("role", "listitem");
    const bar = make("span", "tv-bar"), text = idText(data, id);
    bar.style.width = Math.max(1, 100 * p) + "%";
    item.append(bar, make("span", "tv-alt-text", text), make("span", "tv-alt-p", percent(p)));
    if (id === chosen) item.appendChild(make("span", "tv-chosen", "chosen"));
    else if (canFork) item.appendChild(button("tv-fork", "fork", "Fork here with " + text, () => view.fork(t, id)));
    box.appendChild(item);
  }
  return box;
}

// -- does this choice move the answer? ------------------------------------------------------------------------
function cardAudit(view, t, pinned) {
  const box = make("div", "tv-audit"), found = view.audits[t];
  if (found) auditTable(view, box, found);
  if (!pinned || view.running) return box;
  if (view.auditing === t) {
    box.appendChild(make("p", "tv-audit-progress", "Sampling…"));
    return box;
  }
  if (!found) {
    const ask = button("tv-audit-ask", "Does this choice move the answer?", "Does this choice move the answer? Sample continuations of each alternative", () => view.audit(t));
    box.appendChild(ask);
  }
  if (!view.data.sensitivity) box.appendChild(button("tv-measure", "Measure sensitivity", "Measure the sensitivity of every token", () => trigger("measure", {})));
  return box;
}

function auditTable(view, box, found) {
  box.appendChild(make("h4", "tv-side-title", "Does this choice move the answer?"));
  const grid = make("table", "tv-grid"), head = make("tr"), body = make("tbody");
  const names = found.graded ? ["token", "right", "95 %", "answers"] : ["token", "answers"];
  for (const name of names) head.appendChild(Object.assign(make("th", "", name), { scope: "col" }));
  for (const choice of found.choices) {
    const row = make("tr"), answers = Object.entries(choice.answers || {}).sort((a, b) => b[1] - a[1]).slice(0, 3);
    const said = answers.map(([answer, n]) => (shortText(answer, 12) || "none") + (n > 1 ? " ×" + n : "")).join(", ");
    row.appendChild(make("td", "tv-mono", shortText(choice.text || "⟨end⟩", 14)));
    if (found.graded) row.append(make("td", "tv-num", choice.right + " of " + choice.n), make("td", "tv-num", choice.interval.map((p) => Math.round(100 * p)).join("–")));
    row.appendChild(make("td", "tv-audit-answers", said));
    body.appendChild(row);
  }
  const thead = make("thead");
  thead.appendChild(head);
  grid.append(thead, body);
  box.append(grid, make("p", "tv-hint", found.words));
}

// -- what the trainer did here ----------------------------------------------------------------------------------
const TRAINED = { advantage: "the method's advantage", ref_logprob: "reference log-prob", gate: "gate", progress: "progress", bucket: "bucket" };

function cardTrained(view, t) {
  const { columns, meta } = view.data, names = Object.keys(columns);
  if (!names.length && typeof meta.advantage !== "number") return null;
  const box = make("div", "tv-trained"), { list, row } = numbersList();
  box.appendChild(make("h4", "tv-side-title", "What the trainer did here"));
  const signed = (v) => (v < 0 ? "−" : "+") + Math.abs(v).toFixed(3);
  if (typeof meta.advantage === "number") row("GRPO's advantage", signed(meta.advantage));
  for (const name of [...Object.keys(TRAINED).filter((n) => n in columns), ...names.filter((n) => !(n in TRAINED))]) {
    const v = columns[name][t];
    row(TRAINED[name] || shortText(name, 30), name === "advantage" ? signed(v) : Number.isInteger(v) ? String(v) : v.toFixed(3).replace("-", "−"));
    if (name === "advantage" && typeof meta.advantage === "number") row("difference", signed(v - meta.advantage));
  }
  box.appendChild(list);
  return box;
}
