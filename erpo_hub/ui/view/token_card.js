// What is known about one token: beside the pointer while hovering or focused, fixed and with actions once pinned.
function showCard(view, cell, pinned) {
  const { card } = view.parts;
  if (!cell) {
    card.hidden = true;
    card.classList.remove("tv-pinned");
    return;
  }
  const { data } = view, t = cell.main;
  card.textContent = "";
  card.classList.toggle("tv-pinned", pinned);
  card.setAttribute("role", pinned ? "group" : "tooltip");
  card.setAttribute("aria-label", "Details of token " + (t + 1));
  const head = make("div", "tv-card-head");
  head.appendChild(make("span", "tv-card-token", shortText(tokenText(data, cell.to), 60)));
  head.appendChild(make("span", "tv-card-place", "token " + (t + 1) + " of " + data.tokens.length));
  if (view.pivotSet.has(t)) head.appendChild(make("span", "tv-card-pivot", "◆ pivot"));
  if (pinned) head.appendChild(button("tv-close", "✕", "Close", () => view.release(true)));
  card.appendChild(head);
  card.appendChild(cardNumbers(view, cell));
  if (data.topk[t] && data.topk[t].length) card.appendChild(cardAlternatives(view, t, pinned));
  card.hidden = false;
  placeCard(view, cell);
}

function button(className, text, label, act) {
  const node = make("button", className, text);
  node.type = "button";
  node.setAttribute("aria-label", label);
  node.addEventListener("click", act);
  return node;
}

function cardNumbers(view, cell) {
  const { data } = view, t = cell.main, list = make("dl", "tv-card-numbers");
  const row = (name, value) => {
    list.appendChild(make("dt", "", name));
    list.appendChild(make("dd", "", value));
  };
  row("entropy", Object.keys(UNITS).map((u) => inUnit(data.entropy[t], u)).join(" · "));
  row("probability", percent(Math.exp(data.logprob[t])));
  if (data.sensitivity) row("sensitivity", significant(data.sensitivity[t]) + " logit²");
  if (cell.to > cell.from) row("pieces", cell.to - cell.from + 1 + " tokens make this character; the most uncertain is shown");
  if (data.diverge !== null && cell.from <= data.diverge && data.diverge <= cell.to) row("≠", "the two completions differ from here");
  return list;
}

function cardAlternatives(view, t, pinned) {
  const { data } = view, box = make("div", "tv-card-top");
  box.setAttribute("role", "list");
  box.setAttribute("aria-label", "Most probable tokens");
  const chosen = data.tokens[t], canFork = pinned && view.config.fork && !view.running;
  for (const [id, p] of data.topk[t]) {
    const item = make("div", "tv-alt");
    item.setAttribute("role", "listitem");
    const bar = make("span", "tv-bar");
    bar.style.width = Math.max(1, 100 * p) + "%";
    const text = shortText(data.strings[id] === undefined ? "#" + id : data.strings[id] || "⟨end⟩", 30);
    item.append(bar, make("span", "tv-alt-text", text), make("span", "tv-alt-p", percent(p)));
    if (id === chosen) item.appendChild(make("span", "tv-chosen", "chosen"));
    else if (canFork) item.appendChild(button("tv-fork", "fork", "Fork here with " + text, () => view.fork(t, id)));
    box.appendChild(item);
  }
  return box;
}

function placeCard(view, cell) {
  const { card, body } = view.parts;
  const box = body.getBoundingClientRect(), at = cell.node.getBoundingClientRect();
  const left = Math.max(0, Math.min(at.left - box.left, box.width - card.offsetWidth));
  card.style.left = left + "px";
  card.style.top = at.bottom - box.top + 8 + "px";
}
