// Which pivots stand out: of those that the rule finds, the k strongest, or all. A view on the rule, no other rule.
const STRENGTHS = {
  entropy: (view, t) => view.data.entropy[t],
  sensitivity: (view, t) => (view.data.sensitivity ? view.data.sensitivity[t] : undefined),
  effect: (view, t) => (view.audits[t] ? view.audits[t].effect : undefined),
};
const STRENGTH_NAMES = { entropy: "entropy", sensitivity: "sensitivity", effect: "measured effect" };

// By entropy where the other was not measured.
function strengthOf(view) {
  const { by } = view.options;
  return view.data.tokens.some((_, t) => STRENGTHS[by](view, t) !== undefined) ? by : "entropy";
}

function findStrong(view) {
  const by = strengthOf(view), of = (t) => STRENGTHS[by](view, t);
  view.strengthBy = by;
  const known = view.pivots.filter((t) => of(t) !== undefined);
  view.strong = known.sort((s, t) => of(t) - of(s) || s - t);
  if (view.options.marks !== "rule") view.strong = view.strong.slice(0, view.options.k);
  view.marked = [...view.strong].sort((s, t) => s - t);
  view.markSet = new Set(view.marked);
}

// The next one by position among those that stand out.
function toPivot(view, step) {
  const t = view.tab ? view.tab.main : -1;
  const next = step > 0 ? view.marked.find((p) => p > t) : [...view.marked].reverse().find((p) => p < t);
  if (next === undefined) return view.say(view.marked.length ? "No further pivot" : "No pivots");
  if (view.mode !== "tokens") setMode(view, "tokens");
  goTo(view, view.cellOf[next]);
  if (!view.selected) showCard(view, view.cells[view.cellOf[next]], false);
}

// In order of strength; from anywhere else it begins with the strongest.
function toStrength(view, step) {
  if (!view.strong.length) return view.say("No pivots");
  const at = view.selected ? view.strong.indexOf(view.selected.main) : -1;
  const next = at < 0 || !step ? 0 : at + step;
  if (next < 0 || next >= view.strong.length) return view.say(step < 0 ? "This is the strongest pivot" : "No weaker pivot is marked");
  view.select(view.strong[next], true);
}

// The list beside the text while no token is chosen.
function drawRank(view) {
  const { rank } = view.parts, { data } = view;
  rank.textContent = "";
  if (!view.config.rank) return void rank.appendChild(make("p", "tv-hint", data.tokens.length ? "Point at a token, or choose one." : ""));
  if (!data.tokens.length) return;
  rank.appendChild(make("h4", "tv-side-title", view.strong.length ? "Strongest pivots, by " + STRENGTH_NAMES[view.strengthBy] : "No pivots"));
  const list = make("ol", "tv-rank-list"), of = (t) => STRENGTHS[view.strengthBy](view, t), high = view.strong.length ? of(view.strong[0]) : 1;
  for (const t of view.strong.slice(0, 20)) {
    const item = make("li"), row = button("tv-rank-item", "", "Open pivot at token " + (t + 1), () => view.select(t, true));
    const bar = make("span", "tv-bar");
    bar.style.width = Math.max(2, (100 * of(t)) / (high || 1)) + "%";
    const value = view.strengthBy === "entropy" ? UNITS[view.options.unit].of(of(t)).toFixed(2) : significant(of(t));
    row.append(bar, make("span", "tv-mono", shortText(tokenText(data, view.cells[view.cellOf[t]].to), 22)), make("span", "tv-rank-place", "token " + (t + 1)), make("span", "tv-num", value));
    item.appendChild(row);
    list.appendChild(item);
  }
  rank.append(list, make("p", "tv-hint", rankHint(view)));
}

// What opening one leads to; the log of a training has no alternatives.
function rankHint(view) {
  if (!view.strong.length) return "The model was equally sure of every token.";
  if (!view.data.topk.some((row) => row.length)) return "Open one to see its numbers" + (Object.keys(view.data.columns).length ? ", and what the trainer did there." : ".");
  return "Open one to see what else the model could have written there" + (continues(view) ? ", and take another way." : ".");
}
