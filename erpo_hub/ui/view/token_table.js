// The pivots as text: one row each, the strongest first, or a sentence where there is none.
const TABLE_ROWS = 500;
const KEYS = {
  token: (data, t) => t,
  text: (data, t) => tokenText(data, t),
  entropy: (data, t) => -data.entropy[t], // numbers of strength: the greatest first
  probability: (data, t) => data.logprob[t],
  sensitivity: (data, t) => (data.sensitivity ? -data.sensitivity[t] : 0),
  effect: (data, t) => (data.audits[t] ? -data.audits[t].effect : Infinity),
};

function byKey(data, pivots, { key, back }) {
  const of = KEYS[key], sign = back ? -1 : 1;
  const order = (a, b) => (a < b ? -sign : a > b ? sign : 0);
  return [...pivots].sort((s, t) => order(of(data, s), of(data, t)) || s - t);
}

function drawTable(view) {
  const { tableBox, table } = view.parts;
  if (!table || !table.open) return;
  const { data } = view, grid = make("table", "tv-grid"), head = make("tr");
  view.order = view.order || { key: "entropy", back: false };
  tableBox.textContent = "";
  if (!view.pivots.length) {
    tableBox.appendChild(make("p", "", "This completion has no pivots."));
    return;
  }
  const names = ["token", "text", "entropy", "probability", "alternatives"];
  if (data.sensitivity) names.push("sensitivity");
  if (Object.keys(data.audits).length) names.push("effect");
  for (const name of names) head.appendChild(columnHead(view, name));
  const thead = make("thead"), tbody = make("tbody");
  thead.appendChild(head);
  for (const t of byKey(data, view.pivots, view.order).slice(0, TABLE_ROWS)) tbody.appendChild(tableRow(view, t));
  grid.append(thead, tbody);
  tableBox.appendChild(grid);
  const count = view.pivots.length;
  if (count > TABLE_ROWS) tableBox.appendChild(make("p", "", "The first " + TABLE_ROWS + " of " + count + " pivots in this order."));
}

function columnHead(view, name) {
  const th = make("th"), text = name === "entropy" ? "entropy (" + UNITS[view.options.unit].name + ")" : name;
  th.scope = "col";
  if (!(name in KEYS)) {
    th.textContent = text;
    return th;
  }
  const { key, back } = view.order, mine = key === name;
  const falling = back !== ["entropy", "sensitivity", "effect"].includes(name);
  if (mine) th.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const sort = button("tv-sort", text + (mine ? (falling ? " ▾" : " ▴") : ""), "Sort by " + text, () => {
    view.order = { key: name, back: mine && !back };
    drawTable(view);
    view.parts.tableBox.querySelector("[data-key=" + name + "]").focus();
  });
  sort.dataset.key = name;
  th.appendChild(sort);
  return th;
}

function tableRow(view, t) {
  const { data } = view, row = make("tr"), place = make("td");
  place.appendChild(button("tv-goto", String(t + 1), "Show token " + (t + 1), () => view.select(t, true)));
  const others = data.topk[t].filter(([id]) => id !== data.tokens[t]).slice(0, 3);
  const beside = make("td");
  for (const [id, p] of others) {
    const other = make("span", "tv-other");
    other.append(make("b", "tv-mono", shortText(data.strings[id] || "⟨end⟩", 16)), " " + percent(p));
    beside.append(other, " ");
  }
  row.append(
    place,
    make("td", "tv-mono", shortText(tokenText(data, t), 24)),
    make("td", "tv-num", UNITS[view.options.unit].of(data.entropy[t]).toFixed(3)),
    make("td", "tv-num", percent(Math.exp(data.logprob[t]))),
    beside,
  );
  if (data.sensitivity) row.appendChild(make("td", "tv-num", significant(data.sensitivity[t])));
  if (Object.keys(data.audits).length) row.appendChild(make("td", "tv-num", data.audits[t] ? significant(data.audits[t].effect) : ""));
  return row;
}
