// Find in the text, and the words that are pivots most often.
const MOST_HITS = 5000;

// Token of each hit; without regard to case.
function findHits(data, wanted) {
  const text = data.pieces.join("").toLowerCase(), word = wanted.toLowerCase(), hits = [];
  let start = 0, t = 0;
  for (let at = text.indexOf(word); at >= 0 && hits.length < MOST_HITS; at = text.indexOf(word, at + word.length)) {
    while (t < data.pieces.length && start + data.pieces[t].length <= at) start += data.pieces[t++].length;
    let last = t, end = start + data.pieces[t].length;
    while (end < at + word.length) end += data.pieces[++last].length;
    hits.push([t, last]);
  }
  return hits;
}

function find(view, wanted) {
  for (const cell of view.foundCells || []) {
    cell.found = false;
    paintCell(view, cell);
  }
  view.hits = wanted ? findHits(view.data, wanted) : [];
  view.found = view.hits.map(([t]) => t);
  view.hit = -1;
  const cells = new Set();
  for (const [from, to] of view.hits) for (let t = from; t <= to; t++) if (view.cellOf[t] !== undefined) cells.add(view.cells[view.cellOf[t]]);
  view.foundCells = [...cells];
  for (const cell of cells) {
    cell.found = true;
    openFold(view, cell);
    paintCell(view, cell);
  }
  sayHits(view, wanted);
  drawMap(view);
}

function sayHits(view, wanted) {
  const n = view.hits.length, most = n >= MOST_HITS ? "+" : "";
  view.parts.hits.textContent = !wanted ? "" : !n ? "not found" : view.hit < 0 ? n + most + (n === 1 ? " place" : " places") : view.hit + 1 + " of " + n + most;
}

function nextHit(view, step) {
  const n = (view.hits || []).length;
  if (!n) return;
  view.hit = view.hit < 0 ? (step > 0 ? 0 : n - 1) : (view.hit + step + n) % n;
  if (view.mode !== "tokens") setMode(view, "tokens");
  view.reveal(view.cells[view.cellOf[view.hits[view.hit][0]]], true);
  view.glance(view.hits[view.hit][0]);
  sayHits(view, view.parts.find.value);
}

// -- words at pivots --------------------------------------------------------------------------------------------
const FEW_WORDS = 24;

// A token's word, without case and outer signs; signs stay where there is nothing else.
function wordOf(piece) {
  const text = piece.trim().toLowerCase(), bare = text.replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "");
  return bare || text;
}

function countWords(view) {
  const words = new Map();
  view.data.pieces.forEach((piece, t) => {
    const word = wordOf(piece);
    if (!word) return;
    const entry = words.get(word) || { word, pivots: 0, all: 0 };
    entry.all += 1;
    if (view.pivotSet.has(t)) entry.pivots += 1;
    words.set(word, entry);
  });
  return [...words.values()].filter((w) => w.pivots).sort((a, b) => b.pivots - a.pivots || b.pivots / b.all - a.pivots / a.all || (a.word < b.word ? -1 : 1));
}

function drawWords(view) {
  const { words, wordsBox } = view.parts;
  if (!words || !words.open) return;
  wordsBox.textContent = "";
  const found = countWords(view).slice(0, FEW_WORDS);
  if (!found.length) return void wordsBox.appendChild(make("p", "tv-hint", "This completion has no pivots."));
  for (const { word, pivots, all } of found) {
    const text = shortText(word, 24), item = button("tv-word", "", "Find " + text + ", a pivot " + pivots + " times out of " + all, () => {
      if (view.parts.find.hidden) return;
      view.parts.find.value = word;
      find(view, word);
      nextHit(view, 1);
    });
    item.append(make("span", "tv-mono", text), make("span", "tv-num", " " + pivots + " of " + all));
    wordsBox.appendChild(item);
  }
}
