// The strips: a canvas a completion, all to one scale of tokens, so that lengths compare.
const ROOM = 13; // pixels a token must have for its text to be written

function drawStrip(view, row) {
  const canvas = row.canvas, width = canvas.clientWidth, height = 26, dense = window.devicePixelRatio || 1;
  if (!width) return;
  canvas.width = Math.round(width * dense);
  canvas.height = Math.round(height * dense);
  const ctx = canvas.getContext("2d"), colors = view.colors, step = Math.min(90, width / view.longest);
  const values = row.columns[view.color] || [];
  ctx.scale(dense, dense);
  ctx.font = "12px " + getComputedStyle(view.parts.text).fontFamily;
  ctx.textBaseline = "middle";
  for (let t = 0; t < row.pieces.length; t++) {
    const x = t * step, w = step - (step > 4 ? 1 : 0);
    ctx.fillStyle = colorOf(view.scale, values[t], colors);
    ctx.fillRect(x, 2, w + (step > 4 ? 0 : 0.5), height - 4);
    if (step < ROOM) continue;
    ctx.strokeStyle = colors.line;
    ctx.strokeRect(x + 0.25, 2.25, w - 0.5, height - 4.5);
    const ended = row.pieces[t] === "" && t === row.pieces.length - 1;
    const text = visible(row.pieces[t], ended).slice(0, 14);
    ctx.fillStyle = colors.ink;
    if (ctx.measureText(text).width > w - 2) {
      if (ended) ctx.fillRect(x + w / 2 - 2.5, height / 2 - 2.5, 5, 5);
      continue;
    }
    ctx.fillText(text, x + Math.max(1, (w - ctx.measureText(text).width) / 2), height / 2 + 0.5);
  }
  if (step < ROOM) { // cells without a border: one line under all of them shows where the completion ends
    ctx.fillStyle = colors.line;
    ctx.fillRect(0, height - 2, row.pieces.length * step, 1);
  }
  const parts = row === view.row ? view.parted : row === view.other ? view.parted : null;
  if (parts !== null && parts !== undefined) mark(ctx, parts * step, height, colors.focus, true);
  if (row === view.row && view.at !== null) mark(ctx, view.at * step, height, colors.ink, false, Math.max(step, 3));
}

function mark(ctx, x, height, color, dashed, width) {
  ctx.strokeStyle = ctx.fillStyle = color;
  ctx.lineWidth = 2;
  if (!dashed) return ctx.strokeRect(x + 1, 1, Math.max(1, width - 2), height - 2);
  ctx.setLineDash([3, 2]);
  ctx.beginPath();
  ctx.moveTo(x + 1, 0);
  ctx.lineTo(x + 1, height);
  ctx.stroke();
  ctx.setLineDash([]);
  ctx.beginPath();
  ctx.moveTo(x - 3, 0);
  ctx.lineTo(x + 5, 0);
  ctx.lineTo(x + 1, 5);
  ctx.fill();
}

function tokenAt(view, row, event) {
  const box = row.canvas.getBoundingClientRect(), step = Math.min(90, box.width / view.longest);
  const t = Math.floor((event.clientX - box.left) / step);
  return t >= 0 && t < row.pieces.length ? t : null;
}

function headCells(view, row) {
  const cell = (text, kind) => {
    const node = document.createElement("span");
    node.textContent = text;
    if (kind) node.className = kind;
    return node;
  };
  const verdict = row.correct === null ? ["not graded", "gv-muted"] : row.correct ? ["✓ right", "gv-right"] : ["✗ wrong", "gv-wrong"];
  const length = cell(row.pieces.length + " tokens, " + row.mean.toFixed(2), "gv-muted");
  if (view.data.watched) return [cell((row.correct ? "✓ " : "✗ ") + "step " + row.step, verdict[1]), cell(row.flipped ? "flips" : ""), length];
  const advantage = typeof row.advantage === "number" ? signedText(row.advantage, 2) : "";
  const reward = typeof row.reward === "number" ? String(+row.reward.toFixed(2)) : "";
  return [cell("#" + (row.index + 1) + " " + verdict[0], verdict[1]), cell(reward), cell(advantage), length];
}
