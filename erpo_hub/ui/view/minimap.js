// The whole completion on one strip, drawn by the view with its text and in the same frame: the highest entropy
// of each bin, pivots, the part of the text that is on view. Click: the peak there. Drag: the text follows.
const MAP_HEIGHT = 64, MAP_TOP = 12; // pixels; room for the pivots' signs
const REACH = 3; // pixels to either side in which a click finds the peak
const MOVES = 4; // pixels after which a press is a drag

function joinMap(view) {
  const { canvas } = view.parts;
  view.map = { view, from: 0, to: 0, base: document.createElement("canvas"), drawn: 0, painted: null, drag: null };
  view.parts.map.hidden = false;
  view.root.classList.add("tv-mapped");
  new ResizeObserver(() => drawMap(view)).observe(canvas);
  new MutationObserver(() => drawMap(view)).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  view.parts.tokens.addEventListener("scroll", () => paintMap(view));
  listenMap(view);
}

// Another trace: all of it.
function resetMap(view) {
  if (view.map) Object.assign(view.map, { from: 0, to: 0 });
}

function mapRange(view) {
  const n = view.data.tokens.length, { from, to } = view.map;
  return to > from ? [from, Math.min(to, n)] : [0, n];
}

// The peak of each bin, a bin at least a pixel wide.
function binned(entropy, from, to, width) {
  const bins = Math.max(1, Math.min(width, to - from)), peak = new Int32Array(bins);
  for (let b = 0; b < bins; b++) {
    const first = from + Math.floor((b * (to - from)) / bins), end = Math.max(first + 1, from + Math.floor(((b + 1) * (to - from)) / bins));
    let best = first;
    for (let t = first + 1; t < end; t++) if (entropy[t] > entropy[best]) best = t;
    peak[b] = best;
  }
  return peak;
}

function drawMap(view) {
  const { map } = view;
  if (!map) return;
  const { canvas } = view.parts, width = canvas.clientWidth, dense = window.devicePixelRatio || 1;
  const n = view.data.tokens.length, [from, to] = mapRange(view);
  map.width = width;
  if (!width) return;
  for (const c of [canvas, map.base]) {
    if (c.width !== Math.round(width * dense)) c.width = Math.round(width * dense);
    if (c.height !== Math.round(MAP_HEIGHT * dense)) c.height = Math.round(MAP_HEIGHT * dense);
  }
  const ctx = map.base.getContext("2d"), style = getComputedStyle(view.root);
  const color = (name) => style.getPropertyValue("--tv-" + name).trim();
  map.colors = { focus: color("focus"), ink: color("ink") };
  ctx.setTransform(dense, 0, 0, dense, 0, 0);
  ctx.clearRect(0, 0, width, MAP_HEIGHT);
  map.peak = n ? binned(view.data.entropy, from, to, width) : new Int32Array(0);
  map.high = Math.max(1, view.sorted.length ? view.sorted[view.sorted.length - 1] : 1);
  const colors = [color("cool"), ...[1, 2, 3, 4, 5].map((level) => color("bar-" + level))];
  const wide = width / Math.max(1, map.peak.length), room = MAP_HEIGHT - MAP_TOP - 1;
  map.peak.forEach((t, b) => {
    const h = view.data.entropy[t], tall = Math.max(1, (room * h) / map.high);
    ctx.fillStyle = colors[levelOf(h, EDGES)];
    ctx.fillRect(b * wide, MAP_HEIGHT - tall, Math.max(wide - (wide > 3 ? 1 : 0), 0.7), tall);
  });
  ctx.fillStyle = color("line");
  ctx.fillRect(0, MAP_HEIGHT - 1, width, 1);
  ctx.fillStyle = color("pivot");
  const few = view.marked.length <= 60;
  for (const t of view.marked) {
    if (t < from || t >= to) continue;
    const x = mapX(view, t);
    if (few) diamond(ctx, x, 6, 4.5);
    else ctx.fillRect(x, 4, 1, 4);
  }
  ctx.fillStyle = map.colors.focus;
  for (const t of view.found || []) if (t >= from && t < to) ctx.fillRect(mapX(view, t) - 0.5, MAP_HEIGHT - 6, 1.5, 6);
  view.root.dataset.mapped = view.serial; // which trace the map shows
  map.drawn += 1;
  paintMap(view);
}

function diamond(ctx, x, y, r) {
  ctx.beginPath();
  ctx.moveTo(x, y - r);
  ctx.lineTo(x + r, y);
  ctx.lineTo(x, y + r);
  ctx.lineTo(x - r, y);
  ctx.fill();
}

function mapX(view, t) {
  const [from, to] = mapRange(view);
  return ((t + 0.5 - from) / Math.max(1, to - from)) * view.map.width;
}

// What moves: the window over the text and the chosen token.
function paintMap(view) {
  const { map } = view, { canvas } = view.parts;
  if (!map || !map.width || !map.colors) return;
  const ctx = canvas.getContext("2d"), dense = window.devicePixelRatio || 1;
  const seen = (map.seen = view.mode === "tokens" ? visibleRange(view) : null);
  const key = [map.drawn, seen, view.selected ? view.selected.main : ""].join();
  if (key === map.painted) return;
  map.painted = key;
  ctx.setTransform(1, 0, 0, 1, 0, 0);
  ctx.clearRect(0, 0, canvas.width, canvas.height);
  ctx.drawImage(map.base, 0, 0);
  ctx.setTransform(dense, 0, 0, dense, 0, 0);
  if (seen && seen[1] - seen[0] < view.data.tokens.length) {
    const a = mapX(view, seen[0] - 0.5), b = mapX(view, seen[1] - 0.5);
    ctx.globalAlpha = 0.14;
    ctx.fillStyle = map.colors.focus;
    ctx.fillRect(a, 0, Math.max(2, b - a), MAP_HEIGHT);
    ctx.globalAlpha = 1;
    ctx.strokeStyle = map.colors.focus;
    ctx.lineWidth = 1.5;
    ctx.strokeRect(a + 0.75, 0.75, Math.max(1, b - a - 1.5), MAP_HEIGHT - 1.5);
  }
  if (view.selected) {
    const x = mapX(view, view.selected.main);
    ctx.fillStyle = map.colors.ink;
    ctx.fillRect(x - 1, 0, 2, MAP_HEIGHT);
    diamond(ctx, x, 6, 6);
  }
  sayMap(view, seen);
}

function sayMap(view, seen) {
  const { canvas, mapText } = view.parts, n = view.data.tokens.length, [from, to] = mapRange(view);
  const whole = from === 0 && to === n;
  const shown = whole ? n.toLocaleString("en") + (n === 1 ? " token" : " tokens") : "tokens " + (from + 1).toLocaleString("en") + "–" + to.toLocaleString("en") + " of " + n.toLocaleString("en");
  const text = n ? shown + ", highest entropy " + inUnit(view.sorted[n - 1], view.options.unit) : "";
  if (mapText.textContent !== text) mapText.textContent = text;
  const at = seen ? Math.floor((seen[0] + seen[1]) / 2) : 0;
  if (canvas.getAttribute("aria-valuenow") === String(at + 1) && canvas.getAttribute("aria-valuemax") === String(n)) return;
  canvas.setAttribute("aria-valuemin", "0");
  canvas.setAttribute("aria-valuemax", n);
  canvas.setAttribute("aria-valuenow", Math.min(at + 1, n));
  canvas.setAttribute("aria-valuetext", seen ? "tokens " + (seen[0] + 1) + " to " + seen[1] + " of " + n : n + " tokens");
}

// First and one past the last token on view: exact to the line, in proportion within it.
function visibleRange(view) {
  const box = view.parts.tokens, { lines, cells } = view;
  if (!cells.length || !box.clientHeight) return null;
  const at = (y, low) => {
    let a = 0, b = lines.length - 1;
    while (a < b) {
      const mid = (a + b + 1) >> 1;
      if (lines[mid].node.offsetTop <= y) a = mid;
      else b = mid - 1;
    }
    const { node, first } = lines[a], next = a + 1 < lines.length ? lines[a + 1].first : cells.length;
    const share = node.offsetHeight ? Math.max(0, Math.min(1, (y - node.offsetTop) / node.offsetHeight)) : 0;
    const c = first + (low ? Math.floor : Math.ceil)((next - first) * share);
    return c >= cells.length ? view.data.tokens.length : cells[c].from;
  };
  return [at(box.scrollTop, true), Math.max(1, at(box.scrollTop + box.clientHeight, false))];
}

// Brings a token to the middle without laying out the lines in between.
function scrollToToken(view, t) {
  const c = view.cellOf[Math.max(0, Math.min(view.data.tokens.length - 1, t))], { lines } = view;
  if (c === undefined) return;
  let a = 0, b = lines.length - 1;
  while (a < b) {
    const mid = (a + b + 1) >> 1;
    if (lines[mid].first <= c) a = mid;
    else b = mid - 1;
  }
  const { node, first } = lines[a], next = a + 1 < lines.length ? lines[a + 1].first : view.cells.length;
  const box = view.parts.tokens;
  box.scrollTop = node.offsetTop + (node.offsetHeight * (c - first)) / Math.max(1, next - first) - box.clientHeight / 2;
  paintMap(view);
}

function peakAt(view, x) {
  const { map } = view, bins = map.peak.length, wide = map.width / Math.max(1, bins);
  if (!bins) return null;
  const clamp = (b) => Math.max(0, Math.min(bins - 1, Math.floor(b)));
  let best = map.peak[clamp(x / wide)];
  for (let b = clamp((x - REACH) / wide); b <= clamp((x + REACH) / wide); b++) if (view.data.entropy[map.peak[b]] > view.data.entropy[best]) best = map.peak[b];
  return best;
}

function tokenAtX(view, x) {
  const [from, to] = mapRange(view);
  return Math.max(from, Math.min(to - 1, Math.floor(from + (x / view.map.width) * (to - from))));
}

function listenMap(view) {
  const { map } = view, { canvas, zoomIn, zoomOut, zoomAll } = view.parts;
  const xOf = (e) => e.clientX - canvas.getBoundingClientRect().left;
  canvas.addEventListener("pointerdown", (e) => {
    if (e.button) return;
    map.drag = { x: xOf(e), moved: false };
    canvas.setPointerCapture(e.pointerId);
  });
  canvas.addEventListener("pointermove", (e) => {
    const x = xOf(e);
    if (!map.drag) return e.pointerType === "mouse" && view.glance(peakAt(view, x));
    if (Math.abs(x - map.drag.x) > MOVES) map.drag.moved = true;
    if (!map.drag.moved) return;
    if (view.mode !== "tokens") setMode(view, "tokens");
    map.drag.to = tokenAtX(view, x);
    map.drag.due = map.drag.due || requestAnimationFrame(() => {
      if (!map.drag) return;
      map.drag.due = 0;
      scrollToToken(view, map.drag.to);
    });
  });
  canvas.addEventListener("pointerup", (e) => {
    const drag = map.drag, t = drag && !drag.moved ? peakAt(view, xOf(e)) : null;
    map.drag = null;
    if (drag && drag.moved) scrollToToken(view, tokenAtX(view, xOf(e)));
    if (t !== null) view.select(t, true);
  });
  canvas.addEventListener("pointercancel", () => (map.drag = null));
  canvas.addEventListener("pointerleave", () => view.glance(null));
  canvas.addEventListener("wheel", (e) => {
    if (!e.ctrlKey) return; // the page scrolls; ctrl and wheel, or two fingers, zoom
    e.preventDefault();
    zoomMap(view, e.deltaY < 0 ? 0.7 : 1 / 0.7, tokenAtX(view, xOf(e)));
  }, { passive: false });
  canvas.addEventListener("keydown", (e) => {
    const seen = map.seen || [0, 0], half = Math.max(1, (seen[1] - seen[0]) >> 1), middle = (seen[0] + seen[1]) >> 1;
    const acts = {
      ArrowRight: () => scrollToToken(view, middle + half), ArrowLeft: () => scrollToToken(view, middle - half),
      Home: () => scrollToToken(view, 0), End: () => scrollToToken(view, view.data.tokens.length - 1),
      "+": () => zoomMap(view, 0.5, middle), "-": () => zoomMap(view, 2, middle),
      Enter: () => seen[1] > seen[0] && view.select(binned(view.data.entropy, seen[0], seen[1], 1)[0], true),
    };
    if (!acts[e.key] || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    acts[e.key]();
  });
  const center = () => (view.selected ? view.selected.main : map.seen ? (map.seen[0] + map.seen[1]) >> 1 : 0);
  zoomIn.addEventListener("click", () => zoomMap(view, 0.5, center()));
  zoomOut.addEventListener("click", () => zoomMap(view, 2, center()));
  zoomAll.addEventListener("click", () => zoomMap(view, Infinity, 0));
}

function zoomMap(view, factor, t) {
  const { map } = view, n = view.data.tokens.length, [from, to] = mapRange(view);
  const span = Math.min(n, Math.max(Math.min(n, 20), Math.round((to - from) * factor)));
  const start = Math.max(0, Math.min(n - span, Math.round(t - ((t - from) / Math.max(1, to - from)) * span)));
  Object.assign(map, span >= n ? { from: 0, to: 0 } : { from: start, to: start + span });
  drawMap(view);
}

// A zoomed map follows what is chosen.
function followMap(view, t) {
  if (!view.map) return;
  const { map } = view, [from, to] = mapRange(view), n = view.data.tokens.length;
  if (t >= from && t < to) return paintMap(view);
  const span = to - from, start = Math.max(0, Math.min(n - span, t - (span >> 1)));
  Object.assign(map, { from: start, to: start + span });
  drawMap(view);
}
