// What a logged number looks like. Pure functions of the numbers and of the page's colors, no page.
const SIGNED = new Set(["GRPO's advantage", "the method's advantage", "difference", "log-prob − reference", "progress"]);
const ALIKE = new Set(["GRPO's advantage", "the method's advantage"]); // one scale, so that they compare

function rgb(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

function mixed(ground, hue, share) {
  return "rgb(" + ground.map((g, i) => Math.round(g + (hue[i] - g) * share)).join(",") + ")";
}

function palette(root) {
  const style = getComputedStyle(root), get = (name) => style.getPropertyValue("--gv-" + name).trim();
  return { ink: get("ink"), line: get("line"), focus: get("focus"), ground: rgb(get("ground")), heat: rgb(get("heat")), up: rgb(get("up")), down: rgb(get("down")) };
}

// The scale of one column over all completions: entropy's levels are absolute, the others' are the group's.
function scaleOf(rows, name) {
  const names = ALIKE.has(name) ? [...ALIKE] : [name];
  let low = Infinity, high = -Infinity;
  for (const row of rows) {
    for (const n of names) {
      for (const v of row.columns[n] || []) {
        if (v < low) low = v;
        if (v > high) high = v;
      }
    }
  }
  if (low > high) [low, high] = [0, 0];
  const top = Math.max(Math.abs(low), Math.abs(high));
  return { name, low, high, top, signed: SIGNED.has(name) };
}

function colorOf(scale, value, colors) {
  if (value === undefined) return mixed(colors.ground, colors.ground, 0);
  if (scale.name === "entropy") {
    let level = 0;
    while (level < EDGES.length && value >= EDGES[level]) level++;
    return mixed(colors.ground, colors.heat, [0, 0.2, 0.38, 0.55, 0.75, 0.92][level]);
  }
  if (scale.signed) return mixed(colors.ground, value < 0 ? colors.down : colors.up, scale.top ? 0.8 * Math.abs(value) / scale.top : 0);
  const span = scale.high - scale.low;
  return mixed(colors.ground, colors.heat, span ? 0.85 * (value - scale.low) / span : 0);
}

function signedText(value, digits) {
  const text = Math.abs(value).toFixed(digits === undefined ? 3 : digits);
  return (value < 0 && +text !== 0 ? "−" : "+") + text;
}

function numberText(name, value) {
  if (value === undefined) return "";
  if (SIGNED.has(name)) return signedText(value);
  return Number.isInteger(value) ? String(value).replace("-", "−") : value.toFixed(3).replace("-", "−");
}

// A token as one line: what can't be seen is shown by a sign.
function visible(piece, ended) {
  if (piece === "") return ended ? "(end)" : "(no text)";
  return piece.replace(/\n/g, "⏎").replace(/\t/g, "⇥");
}

// The first position at which two completions differ, by token; where one merely goes on, its next token.
function firstDifference(a, b) {
  const n = Math.min(a.tokens.length, b.tokens.length);
  for (let t = 0; t < n; t++) if (a.tokens[t] !== b.tokens[t]) return t;
  return a.tokens.length === b.tokens.length ? null : n;
}
