// The forks of a solution as a tree: where each left its parent, with what, and how it ended.
function drawBranches(view) {
  const { branches } = view.parts, rows = view.data.tree;
  branches.hidden = !rows || !rows.length;
  branches.textContent = "";
  if (branches.hidden) return;
  const children = new Map();
  rows.forEach((row, i) => children.set(row.parent, [...(children.get(row.parent) || []), i]));
  const list = make("ul", "tv-tree"), add = (parent, depth) => {
    for (const i of children.get(parent) || []) {
      list.appendChild(branchRow(view, rows[i], i, depth));
      add(i, depth + 1);
    }
  };
  add(null, 0);
  branches.append(make("h4", "tv-side-title", rows.length === 1 ? "1 branch" : rows.length + " branches"), list);
}

function branchRow(view, row, i, depth) {
  const item = make("li"), shown = i === view.data.shown, verdict = row.correct === null ? "" : row.correct ? "✓" : "✗";
  item.style.paddingLeft = 14 * depth + "px";
  const words = "token " + (row.at + 1) + ": " + shortText(row.was, 12) + " → " + shortText(row.text, 12);
  const node = button("tv-branch", "", "Show the branch at " + words, () => trigger("branch", { index: i }));
  node.setAttribute("aria-pressed", String(shown));
  node.append(make("span", "tv-mono", words));
  if (verdict) node.append(make("span", row.correct ? "tv-right" : "tv-wrong", verdict));
  node.append(make("span", "tv-branch-answer", row.running ? "…" : row.answer ? "answer " + shortText(row.answer, 16) : "no answer"));
  item.appendChild(node);
  return item;
}
