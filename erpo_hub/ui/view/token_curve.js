// The entropy curve beside the text. The plot is a gr.Plot (which brings plotly.js); its data come from the
// views that share its elem_id, so text and curve can't disagree and a growing completion costs no new figure.
const COLORS = { main: "#d9480f", branch: "#1c7ed6", a: "#1c7ed6", b: "#d9480f" };
const MANY_PIVOTS = 500; // above: one path of stems in place of a marker each

function curveOf(id) {
  const all = (window.erpoCurves = window.erpoCurves || new Map());
  if (!all.has(id)) all.set(id, { id, views: new Map(), plot: null, due: 0 });
  return all.get(id);
}

function joinCurve(view) {
  const curve = curveOf(view.config.curve);
  curve.views.set(view.config.role, view);
  view.curve = curve;
  if (!curve.observer) {
    curve.observer = new MutationObserver(() => findPlot(curve));
    curve.observer.observe(document.body, { childList: true, subtree: true });
  }
  findPlot(curve);
}

function findPlot(curve) {
  const plot = document.querySelector("#" + curve.id + " .js-plotly-plot");
  if (!plot || plot === curve.plot || !window.Plotly || !plot.on) return;
  curve.plot = plot;
  plot.on("plotly_click", (e) => fromPlot(curve, e, (view, t) => view.select(t, true)));
  plot.on("plotly_hover", (e) => fromPlot(curve, e, (view, t) => view.glance(t)));
  plot.on("plotly_unhover", () => curve.views.forEach((view) => view.glance(null)));
  plot.on("plotly_afterplot", () => (plot.dataset.tokens = [...curve.views.values()].map((v) => v.data.tokens.length).join(" ")));
  drawCurve(curve, 0);
}

function fromPlot(curve, event, act) {
  if (curve.own) return; // our own Fx.hover comes back as an event
  const point = event.points && event.points.find((p) => p.customdata !== undefined);
  if (point && curve.order) act(curve.order[Math.floor(point.curveNumber / 3)], point.customdata);
}

function drawCurve(curve, wait) {
  if (!curve || curve.due) return;
  curve.due = setTimeout(() => {
    curve.due = 0;
    const started = performance.now();
    const plot = curve.plot;
    if (!plot || !plot.isConnected || !plot.offsetParent) return;
    const shown = [...curve.views.values()].filter((v) => v.data.tokens.length);
    curve.order = shown;
    const data = shown.flatMap((view) => viewTraces(view, shown.length));
    window.Plotly.react(plot, data, curveLayout(shown), { displayModeBar: false, responsive: true });
    curve.cost = performance.now() - started;
  }, Math.max(wait, wait && 5 * (curve.cost || 0)));
}

// Plotly reads a small markup in hover texts; the ampersand form shows it literally.
function noMarkup(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function viewTraces(view, count) {
  const { data, config } = view, n = data.tokens.length;
  const x = config.relative ? data.entropy.map((_, t) => (t + 0.5) / n) : data.entropy.map((_, t) => t + 1);
  const y = data.entropy.map((h) => UNITS[view.options.unit].of(h));
  const text = data.entropy.map((_, t) => noMarkup(shortText(tokenText(data, t), 40)));
  const color = COLORS[config.role];
  const name = noMarkup(shortText(data.meta.name || config.label, 40));
  const line = { x, y, text, name, customdata: data.entropy.map((_, t) => t), mode: "lines", type: "scatter" };
  line.line = { color: color, width: 1.5, dash: config.role === "branch" ? "dot" : "solid" };
  line.hovertemplate = "%{text}: %{y:.3f}<extra></extra>";
  const pivots = { name: count > 1 ? name + " pivots" : "pivots", type: "scatter", hoverinfo: "skip", showlegend: count === 1 };
  if (view.pivots.length > MANY_PIVOTS) {
    pivots.mode = "lines";
    pivots.line = { color: color, width: 0.6 };
    pivots.x = view.pivots.flatMap((t) => [x[t], x[t], null]);
    pivots.y = view.pivots.flatMap((t) => [0, y[t], null]);
  } else {
    pivots.mode = "markers";
    pivots.marker = { color: color, size: 8, symbol: "diamond" };
    pivots.x = view.pivots.map((t) => x[t]);
    pivots.y = view.pivots.map((t) => y[t]);
  }
  const at = view.selected ? view.selected.main : null;
  const cursor = { mode: "markers", type: "scatter", showlegend: false, hoverinfo: "skip", x: at === null ? [] : [x[at]], y: at === null ? [] : [y[at]] };
  cursor.marker = { color: "rgba(0,0,0,0)", size: 15, line: { color: color, width: 2.5 } };
  return [line, pivots, cursor];
}

function curveLayout(shown) {
  const view = shown[0];
  const style = view ? getComputedStyle(view.root) : null;
  const ink = style ? style.getPropertyValue("--tv-muted").trim() : "#777";
  const axis = { gridcolor: "#8883", zeroline: false, linecolor: "#8886" };
  const relative = view && view.config.relative;
  return {
    height: 250, autosize: true, uirevision: "keep", hovermode: "x", dragmode: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 12 },
    margin: { l: 52, r: 12, t: 8, b: 40 },
    xaxis: Object.assign({ title: { text: relative ? "progress through the completion" : "token" }, tickformat: relative ? ".0%" : "" }, axis),
    yaxis: Object.assign({ title: { text: "entropy (" + UNITS[view ? view.options.unit : "nats"].name + ")" }, rangemode: "tozero" }, axis),
    legend: { orientation: "h", y: 1.12, x: 1, xanchor: "right" }, showlegend: true,
  };
}

function pointAt(view, t) {
  const curve = view.curve, plot = curve && curve.plot;
  if (!plot || !plot.isConnected || !plot.offsetParent || !curve.order) return;
  const k = curve.order.indexOf(view);
  if (k < 0 || !plot.data[3 * k] || t >= plot.data[3 * k].x.length) return;
  curve.own = true;
  if (t === null) window.Plotly.Fx.unhover(plot);
  else window.Plotly.Fx.hover(plot, [{ curveNumber: 3 * k, pointNumber: t }]);
  curve.own = false;
}

function moveCursor(view) {
  const curve = view.curve, plot = curve && curve.plot;
  if (!plot || !plot.isConnected || !curve.order) return;
  const k = curve.order.indexOf(view);
  if (k < 0 || !plot.data[3 * k + 2]) return;
  const t = view.selected ? view.selected.main : null, line = plot.data[3 * k];
  window.Plotly.restyle(plot, { x: [t === null ? [] : [line.x[t]]], y: [t === null ? [] : [line.y[t]]] }, [3 * k + 2]);
}
