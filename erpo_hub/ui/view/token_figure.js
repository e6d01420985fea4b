// The map as a figure to keep: SVG, or the same as PNG. Drawn light, for a page or a paper.
const FIGURE = { width: 1000, height: 300, left: 56, right: 16, top: 58, bottom: 40, named: 6 };
const FIGURE_COLORS = ["#c9c9cf", "#fdd0a2", "#fdae6b", "#fd8d3c", "#f16913", "#c2470a"];

function figureSvg(view) {
  const { data } = view, n = data.tokens.length, F = FIGURE, unit = UNITS[view.options.unit];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const add = (tag, attributes, text) => {
    const node = document.createElementNS(svg.namespaceURI, tag);
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    if (text !== undefined) node.textContent = text;
    svg.appendChild(node);
    return node;
  };
  for (const [k, v] of Object.entries({ xmlns: svg.namespaceURI, width: F.width, height: F.height, viewBox: "0 0 " + F.width + " " + F.height, "font-family": "system-ui, sans-serif", "font-size": 13 })) svg.setAttribute(k, v);
  const verdict = data.meta.correct === true ? "✓ correct, " : data.meta.correct === false ? "✗ wrong, " : "", title = shortText((data.meta.prompt || data.meta.name || "").replace(/\s+/g, " "), 110);
  add("title", {}, title);
  add("rect", { width: F.width, height: F.height, fill: "#ffffff" });
  add("text", { x: F.left, y: 20, "font-weight": 600, fill: "#18181b" }, title);
  add("text", { x: F.left, y: 38, fill: "#52525b" }, verdict + n + " tokens; ◆ the " + view.marked.length + " strongest pivots by " + STRENGTH_NAMES[view.strengthBy]);
  const wide = F.width - F.left - F.right, room = F.height - F.top - F.bottom, high = Math.max(1, view.sorted[n - 1] || 0);
  const x = (t) => F.left + ((t + 0.5) / n) * wide, y = (h) => F.height - F.bottom - (h / high) * room;
  for (const share of [0, 0.5, 1]) {
    add("line", { x1: F.left, x2: F.width - F.right, y1: y(share * high), y2: y(share * high), stroke: "#e4e4e7" });
    add("text", { x: F.left - 6, y: y(share * high) + 4, "text-anchor": "end", fill: "#52525b" }, unit.of(share * high).toFixed(2));
  }
  const peaks = binned(data.entropy, 0, n, wide), each = wide / peaks.length;
  peaks.forEach((t, b) => add("rect", { x: (F.left + b * each).toFixed(2), y: y(data.entropy[t]).toFixed(2), width: Math.max(0.8, each - (each > 3 ? 1 : 0)).toFixed(2), height: (F.height - F.bottom - y(data.entropy[t])).toFixed(2), fill: FIGURE_COLORS[levelOf(data.entropy[t], EDGES)] }));
  let taken = [];
  view.strong.slice(0, 200).forEach((t, i) => {
    const at = x(t), top = y(data.entropy[t]) - 5;
    add("path", { d: "M" + at + " " + (top - 4) + "l4 4l-4 4l-4-4z", fill: "#b03a06" });
    if (i >= F.named || taken.some((other) => Math.abs(other - at) < 70)) return;
    taken.push(at);
    add("text", { x: at, y: Math.max(F.top - 2, top - 8), "text-anchor": "middle", fill: "#18181b", "font-family": "monospace" }, shortText(tokenText(data, t).trim() || tokenText(data, t), 12));
  });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) add("text", { x: F.left + share * wide, y: F.height - F.bottom + 16, "text-anchor": share === 0 ? "start" : share === 1 ? "end" : "middle", fill: "#52525b" }, String(Math.max(1, Math.round(share * n))));
  add("text", { x: F.left + wide / 2, y: F.height - 8, "text-anchor": "middle", fill: "#52525b" }, "token");
  add("text", { x: 14, y: F.top + room / 2, "text-anchor": "middle", fill: "#52525b", transform: "rotate(-90 14 " + (F.top + room / 2) + ")" }, "entropy (" + unit.name + ")");
  return new XMLSerializer().serializeToString(svg);
}

function saveBlob(blob, name) {
  const link = make("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function saveFigure(view, kind) {
  if (!view.data.tokens.length) return view.say("There is no trace to draw: open one, or ask a question.", "error");
  const name = "entropy-" + view.data.tokens.length + "-tokens." + kind, text = figureSvg(view);
  if (kind === "svg") return saveBlob(new Blob([text], { type: "image/svg+xml" }), name);
  const picture = new Image(), canvas = document.createElement("canvas");
  picture.onload = () => {
    canvas.width = 2 * FIGURE.width;
    canvas.height = 2 * FIGURE.height;
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => saveBlob(blob, name), "image/png");
  };
  picture.onerror = () => view.say("This browser could not draw the figure: take the SVG.", "error");
  picture.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
}
