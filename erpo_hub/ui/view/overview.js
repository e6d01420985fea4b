// The overview of sides: totals, kinds of questions, a table to sort, filter and open, bars. All text of models,
// runs and questions enters by `textContent`. What a reader chose (kind, order) stays while the sides are the same.
const part = (name) => element.querySelector(".ov-" + name);
const PAGE = 100; // rows drawn at once
const make = (tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
};
const number = (value, digits) => (value === null || value === undefined ? "" : value.toFixed(digits));
const color = (i) => "var(--ov-" + (i % 6) + ")";

const view = {
  data: { sides: [], rows: [], kinds: [] }, last: null, kind: "any", sort: "number", down: false, open: null, shown: PAGE,

  receive(text) {
    if (!text || text === this.last) return;
    this.last = text;
    const data = JSON.parse(text), names = (d) => d.sides.map((s) => s.name).join("\n");
    const same = names(data) === names(this.data);
    this.data = data;
    if (!same) Object.assign(this, { kind: "any", sort: "number", down: false, open: null, shown: PAGE });
    if (data.kind && ["any", ...data.kinds.map((k) => k[0])].includes(data.kind)) this.kind = data.kind;
    part("text").textContent = data.text;
    part("text").hidden = !data.text;
    part("all").hidden = !data.sides.length;
    drawTotals(data);
    part("paired").replaceChildren(...data.paired.map((line) => make("li", "", line)));
    drawCharts(data);
    this.draw();
    if (data.rows[data.open] && this.open !== data.open) this.choose(data.rows[data.open], null);
  },

  draw() {
    const root = element.querySelector(".ov");
    root.dataset.kind = this.kind;
    root.dataset.open = this.open ?? "";
    root.dataset.rows = this.data.rows.length;
    drawKinds(this);
    drawRows(this);
  },

  choose(row, side) {
    this.open = row.i;
    this.draw();
    document.querySelector("#view-a")?.scrollIntoView({ block: "center" });
    trigger("open_row", { question: row.i, side });
  },
};

const NARROW = matchMedia("(max-width: 700px)"); // as in overview.css
const TOTALS = { accuracy: "right", interval: "95 % interval", questions: "questions", samples: "samples", length: "mean tokens", entropy: "mean entropy (nats)", traced: "recorded token by token" };

// A row a side; on a phone, which has no room for eight columns, a column a side.
function drawTotals(data) {
  const table = make("table"), top = table.createTHead().insertRow(), body = table.createTBody();
  const wide = [["", ...Object.values(TOTALS)], ...data.sides.map((side) => [side.title, ...Object.keys(TOTALS).map((k) => side[k])])];
  const rows = NARROW.matches ? wide[0].map((_, c) => wide.map((row) => row[c])) : wide;
  rows.forEach((texts, r) => {
    const row = r ? body.insertRow() : top;
    texts.forEach((text, c) => {
      const cell = r && c ? make("td", "", text) : header(text, r ? "row" : "col"), side = NARROW.matches ? c : r;
      if (side && !(NARROW.matches ? r : c)) cell.prepend(key(side - 1)); // a side's name, in its color
      row.appendChild(cell);
    });
  });
  part("totals").replaceChildren(table);
}

function header(text, scope) {
  const cell = make("th", "", text);
  cell.scope = scope;
  return cell;
}

function key(i) {
  const mark = make("span", "ov-key");
  mark.style.background = color(i);
  return mark;
}

function drawKinds(view) {
  const every = ["any", "all questions", view.data.rows.length], box = part("kinds");
  const focused = box.contains(document.activeElement);
  box.replaceChildren(
    ...[every, ...view.data.kinds].map(([kind, label, count]) => {
      const button = make("button", "", label + " (" + count + ")");
      button.type = "button";
      button.dataset.kind = kind;
      button.setAttribute("aria-pressed", String(kind === view.kind));
      button.onclick = () => {
        Object.assign(view, { kind, shown: PAGE });
        view.draw();
      };
      return button;
    }),
  );
  if (focused) box.querySelector('[aria-pressed="true"]').focus();
  box.hidden = !view.data.rows.length;
}

const SORTS = {
  number: (r) => r.i,
  question: (r) => r.question,
  result: (r) => r.kind,
};

function columns(view) {
  const found = [["#", "number"], ["question", "question"], ["expected", null], ["result", "result"]];
  view.data.sides.forEach((side, i) => {
    SORTS["right" + i] = (r) => -r.cells[i].score;
    SORTS["tokens" + i] = (r) => -(r.cells[i].length ?? -1);
    SORTS["entropy" + i] = (r) => -(r.cells[i].entropy ?? -1);
    found.push([side.title, "right" + i], ["tokens", "tokens" + i], ["entropy", "entropy" + i]);
  });
  return found;
}

function drawRows(view) {
  const labels = Object.fromEntries(view.data.kinds.map(([kind, label]) => [kind, label]));
  const heads = columns(view), order = SORTS[view.sort] || SORTS.number;
  const rows = view.data.rows.filter((r) => view.kind === "any" || r.kind === view.kind);
  rows.sort((a, b) => (order(a) < order(b) ? -1 : order(a) > order(b) ? 1 : a.i - b.i));
  if (view.down) rows.reverse();
  const table = make("table"), top = table.createTHead().insertRow(), body = table.createTBody();
  heads.forEach(([name, sort]) => {
    const cell = header("", "col");
    if (sort) {
      cell.setAttribute("aria-sort", sort !== view.sort ? "none" : view.down ? "descending" : "ascending");
      const button = make("button", "", name + (sort !== view.sort ? "" : view.down ? " ▾" : " ▴"));
      button.type = "button";
      button.onclick = () => {
        Object.assign(view, { down: view.sort === sort && !view.down, sort });
        view.draw();
        part("rows").querySelectorAll("thead button")[heads.filter((h) => h[1]).findIndex((h) => h[1] === sort)].focus();
      };
      cell.appendChild(button);
    } else cell.textContent = name;
    top.appendChild(cell);
  });
  for (const row of rows.slice(0, view.shown)) body.appendChild(drawRow(view, row, labels));
  const box = part("rows"), at = box.scrollTop;
  box.replaceChildren(table);
  box.scrollTop = at;
  box.hidden = !view.data.rows.length;
  const left = rows.length - view.shown, more = make("button", "", "Show " + Math.min(left, PAGE) + " more of " + left);
  more.type = "button";
  more.onclick = () => {
    view.shown += PAGE;
    view.draw();
  };
  part("more").replaceChildren(...(left > 0 ? [more] : []));
}

function drawRow(view, row, labels) {
  const line = make("tr"), cells = row.cells.map((c) => c.opens), opens = cells.some(Boolean);
  line.insertCell().textContent = row.i + 1;
  const question = line.insertCell(), text = row.question || "question " + (row.i + 1) + " (its text was not published)";
  question.className = "ov-question";
  if (opens) {
    const button = make("button", "", text);
    button.type = "button";
    button.onclick = () => view.choose(row, null);
    question.appendChild(button);
  } else question.textContent = text;
  line.insertCell().textContent = row.gold;
  line.insertCell().textContent = labels[row.kind] || row.kind;
  row.cells.forEach((cell, i) => {
    const mark = line.insertCell(), right = cell.score >= 0.5;
    const said = cell.n > 1 ? Math.round(cell.score * cell.n) + " of " + cell.n : cell.score > 0 && cell.score < 1 ? Math.round(100 * cell.score) + " %" : right ? "right" : "wrong";
    const words = make("span", right ? "ov-right" : "ov-wrong", (right ? "✓ " : "✗ ") + said);
    if (cell.opens && view.data.sides.length > 2) {
      const button = make("button");
      button.type = "button";
      button.setAttribute("aria-label", "Open the answer of " + view.data.sides[i].title + ": " + said);
      button.appendChild(words);
      button.onclick = () => view.choose(row, i);
      mark.appendChild(button);
    } else mark.appendChild(words);
    line.insertCell().textContent = number(cell.length, cell.n > 1 ? 1 : 0);
    line.insertCell().textContent = number(cell.entropy, 3);
  });
  if (row.i === view.open) line.setAttribute("aria-current", "true");
  return line;
}

function drawCharts(data) {
  const parts = data.charts.map((chart) => drawChart(data, chart));
  const words = make("div", "ov-chart");
  words.appendChild(make("h3", "", "Words at pivots"));
  words.appendChild(make("p", "ov-note", "How often a word was a pivot, of all its occurrences."));
  data.sides.forEach((side, i) => {
    if (!data.words[i].length) return;
    const name = make("p", "", side.title), list = make("p", "ov-words");
    name.prepend(key(i));
    for (const [word, times, all] of data.words[i]) {
      const item = make("span", "ov-word");
      item.append(make("b", "", word), " " + times + " of " + all);
      list.appendChild(item);
    }
    words.append(name, list);
  });
  if (data.words.some((list) => list.length)) parts.push(words);
  part("charts").replaceChildren(...parts);
  part("details").hidden = !parts.length;
}

function drawChart(data, chart) {
  const box = make("div", "ov-chart"), table = make("table"), head = table.createTHead().insertRow(), body = table.createTBody();
  const known = data.sides.map((_, i) => i).filter((i) => chart.values[i].some((v) => v[0] !== null));
  const most = Math.max(1, ...known.flatMap((i) => chart.values[i].map((v) => v[0] ?? 0)));
  box.append(make("h3", "", chart.title), make("p", "ov-note", chart.note));
  const legend = make("div", "ov-legend");
  for (const i of known) {
    const name = make("span", "", data.sides[i].title);
    name.prepend(key(i));
    legend.appendChild(name);
  }
  box.appendChild(legend);
  head.append(header("", "col"), header("percent", "col"));
  chart.rows.forEach((label, r) => {
    const row = body.insertRow();
    row.appendChild(header(label, "row"));
    const cell = row.insertCell();
    cell.className = "ov-bars";
    for (const i of known) {
      const [value, of] = chart.values[i][r], line = make("div", "ov-line"), bar = make("span", "ov-bar");
      bar.style.background = color(i);
      bar.style.width = "calc((100% - 70px) * " + (value ?? 0) / most + ")";
      line.title = data.sides[i].title + ": " + of;
      line.append(bar, make("span", "", value === null ? "none" : value.toFixed(1) + " %"));
      cell.appendChild(line);
    }
  });
  box.appendChild(table);
  return box;
}

NARROW.addEventListener("change", () => drawTotals(view.data));
element.querySelector(".ov").__view = view;
view.receive(props.value);
watch("value", () => view.receive(props.value));
