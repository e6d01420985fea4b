// Swapped tokens: the base's answer after so many swaps beside the trained model's own. The slider only chooses
// among answers that are here already. Hover, focus and arrows show both models' choices at a token.
const one = (name) => element.querySelector(".sv-" + name);
const all = (name) => [...element.querySelectorAll(".sv-" + name)];
const make = (tag, className, text) => Object.assign(document.createElement(tag), { className, textContent: text });
const texts = all("text"), heads = all("pane").map((pane) => pane.querySelector("h3")), verdicts = all("verdict");

const view = {
  data: { steps: [] }, last: null, rows: [null, null], side: 0, at: 0,

  receive(text) {
    if (!text || text === this.last) return;
    this.last = text;
    const data = JSON.parse(text), status = one("status");
    status.textContent = data.text;
    status.hidden = !data.text;
    status.classList.toggle("erpo-error", data.error);
    status.setAttribute("role", data.error ? "alert" : "status");
    if (!data.steps.length) return;
    this.data = data;
    one("all").hidden = false;
    one("question").textContent = data.prompt + (data.gold ? "   (right answer: " + data.gold + ")" : "");
    heads[1].textContent = data.names[1] + ", its own answer";
    one("swaps").max = data.steps.length - 1;
    one("swaps").disabled = data.steps.length < 2;
    one("swaps").value = 0;
    this.draw(1, data.trained);
    this.swap(0);
    this.choose(0, (data.steps[0].differ[0] ?? 0));
  },

  // The base's answer after k swaps.
  swap(k) {
    const step = this.data.steps[k], last = step.swaps[step.swaps.length - 1];
    heads[0].textContent = this.data.names[0] + (k ? ", " + k + (k > 1 ? " swaps" : " swap") : ", its own answer");
    const said = k + " of " + (this.data.steps.length - 1);
    one("count").textContent = said;
    one("swaps").setAttribute("aria-valuetext", said + ", " + verdict(step));
    this.draw(0, step);
    if (k) this.choose(0, last);
    else if (this.side === 0) this.choose(0, step.differ[0] ?? 0);
  },

  draw(side, row) {
    this.rows[side] = row;
    const swapped = new Set(row.swaps), differ = new Set(row.differ);
    texts[side].replaceChildren(...row.pieces.map((piece, t) => {
      const node = make("span", "sv-tok", piece === "" && t === row.pieces.length - 1 ? "(end)" : piece);
      node.classList.toggle("sv-swap", swapped.has(t));
      node.classList.toggle("sv-differs", differ.has(t) && !swapped.has(t));
      node.dataset.t = t;
      return node;
    }));
    verdicts[side].textContent = verdict(row);
    verdicts[side].className = "sv-verdict" + (row.correct === null ? "" : row.correct ? " sv-right" : " sv-wrong");
  },

  choose(side, t) {
    const row = this.rows[side];
    if (!row || !row.pieces.length) return;
    this.side = side;
    this.at = Math.max(0, Math.min(t, row.pieces.length - 1));
    for (const node of all("at")) node.classList.remove("sv-at");
    texts[side].children[this.at].classList.add("sv-at");
    const swapped = row.swaps.includes(this.at);
    one("token").textContent = "Token " + (this.at + 1) + ": " + shown(row.pieces[this.at]) + (swapped ? ", taken from the trained model" : row.differ.includes(this.at) ? ", the models disagree" : "");
    [row.base, row.trained].forEach((dist, i) => {
      const box = all("dist")[i];
      box.querySelector("h4").textContent = this.data.names[i];
      box.querySelector("ol").replaceChildren(...dist[this.at].map(([text, p]) => line(text, p, text === row.pieces[this.at])));
    });
  },
};

function verdict(row) {
  return (row.correct === null ? "" : row.correct ? "✓ correct, " : "✗ wrong, ") + row.pieces.length + " tokens" + (row.ended ? "" : ", cut off");
}

function shown(text) {
  return text === "" ? "(end or nothing)" : text.replace(/\n/g, "↵").replace(/^ | $/g, "␣");
}

function line(text, p, taken) {
  const node = make("li", taken ? "sv-taken" : "", ""), bar = make("span", "sv-bar", "");
  bar.style.width = 100 * p + "%";
  node.append(bar, make("span", "sv-name", shown(text) + (taken ? " ◂" : "")), make("span", "sv-p", (100 * p).toFixed(1) + " %"));
  return node;
}

function keys(event, side) {
  const row = view.rows[side], at = view.side === side ? view.at : -1;
  const next = row && [...row.differ, ...row.swaps].filter((t) => t > at).sort((a, b) => a - b)[0];
  const goes = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: Infinity, n: next ?? at };
  if (!row || !(event.key in goes) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  view.choose(side, goes[event.key]);
}

texts.forEach((box, side) => {
  const pick = (event) => event.target.dataset.t && view.choose(side, +event.target.dataset.t);
  box.addEventListener("mouseover", pick);
  box.addEventListener("click", pick);
  box.addEventListener("keydown", (event) => keys(event, side));
});
one("swaps").addEventListener("input", () => view.swap(+one("swaps").value));
element.querySelector(".sv").__view = view; // for tests
view.receive(props.value);
watch("value", () => view.receive(props.value));
