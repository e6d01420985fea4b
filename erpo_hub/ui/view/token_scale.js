// What a number of nats looks like: heat levels, units, quantiles, pivots. Pure functions, no page.
// EDGES (nats, lower ends of levels 1 to 5) come from traces.figures: absolute, so that views compare.
const RANKS = [0.5, 0.75, 0.9, 0.95, 0.99]; // lower ends of the levels in percentile mode
const UNITS = {
  nats: { name: "nats", digits: 2, of: (h) => h },
  bits: { name: "bits", digits: 2, of: (h) => h / Math.LN2 },
  choices: { name: "choices", digits: 1, of: (h) => Math.exp(h) },
};

function levelOf(value, edges) {
  let level = 0;
  while (level < edges.length && value >= edges[level]) level++;
  return level;
}

// Linear interpolation between order statistics, operation for operation as numpy does it, so that the
// pivots of the page are the pivots of the record to the last bit.
function quantile(sorted, q) {
  if (!sorted.length) return 0;
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  const a = sorted[low], b = sorted[Math.min(low + 1, sorted.length - 1)], t = at - low;
  return t >= 0.5 ? b - (b - a) * (1 - t) : a + (b - a) * t;
}

function sortedCopy(values) {
  return Float64Array.from(values).sort();
}

function findPivots(entropy, sorted, q, floor) {
  const edge = quantile(sorted, q);
  const pivots = [];
  for (let t = 0; t < entropy.length; t++) if (entropy[t] > edge && entropy[t] >= floor) pivots.push(t);
  return pivots;
}

function inUnit(h, unit) {
  const u = UNITS[unit];
  return u.of(h).toFixed(u.digits) + " " + u.name;
}

function percent(p) {
  if (p < 0.001) return "< 0.1 %";
  if (p < 1 && p > 0.999) return "> 99.9 %";
  return (100 * p).toFixed(1) + " %";
}

function significant(value) {
  return value === 0 ? "0" : Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6 ? String(+value.toPrecision(3)) : value.toExponential(1);
}
