  // The address is the state: what is on view is written there, a new place as a new entry of the history, another
  // token or filter of the same place over it. Nothing is written until the server has opened what the address names.
  const ASKED = { model: "#model input", prompt: "#prompt textarea", gold: "#gold textarea", temperature: "#ask-temperature input[type=number]", top_p: "#ask-top-p input[type=number]", tokens: "#ask-tokens input[type=number]", seed: "#ask-seed input" };
  const PLACES = ["tab", "trace", "answer", "sides", "question", "run", "show", "step", "group", "runs"];
  const SETTLES = 2500; // ms after which the page counts as what the address stands for, whatever it says
  const find = (id) => document.querySelector(id);
  const valueOf = (id) => find(id)?.value ?? "";
  const names = (id) => [...document.querySelectorAll(id + " .token > span")].map((e) => e.textContent.trim()).join("|");
  // Its number on the server, asked for once an answer; "" until it is there.
  let seen = null, text = "", box = "";
  function keptAnswer(tokens) {
    const number = valueOf("#address-answer textarea, #address-answer input");
    if (tokens !== seen) {
      seen = tokens;
      const now = (tokens || []).join(" ");
      if (now !== text) {
        [text, box] = [now, number];
        if (now) find("#address-keep")?.click();
      }
    }
    return number === box ? "" : number;
  }
  const STATES = {
    inspect() {
      const view = find("#view .tv")?.__view, meta = view?.data.meta, at = view?.selected ? { token: view.selected.main + 1 } : {};
      if (!meta || view.running) return null;
      if (meta.name && meta.name === valueOf("#shipped input")) return { trace: meta.name, ...at };
      const answer = keptAnswer(view.data.tokens);
      const asked = Object.fromEntries(Object.entries(ASKED).map(([k, id]) => [k, valueOf(id)]));
      return answer && view.data.tokens?.length ? { answer, ...asked, ...at } : {};
    },
    compare() {
      const view = find("#overview .ov")?.__view;
      if (!view) return null;
      return { sides: view.data.sides.map((s) => s.name).join("|"), kind: view.kind, question: view.open === null ? "" : view.open + 1 };
    },
    group() {
      const view = find("#group .gv")?.__view, follows = find("#group-follow input")?.checked;
      const shown = { "The same questions over training": "watch" }[valueOf("#group-kind input")] || "group";
      const place = { run: valueOf("#group-run input"), show: shown, step: follows || shown === "watch" ? "" : valueOf("#group-step input"), group: valueOf("#group-question input") };
      return view?.row ? { ...place, row: view.row.index + 1, token: view.at + 1, color: view.color, sort: view.sort } : place;
    },
    runs: () => ({ runs: names("#runs") }),
    card: () => ({ run: valueOf("#card-run input") }),
  };
  function stateNow() {
    const tabs = [...document.querySelectorAll("#tabs button[role=tab]")], at = tabs.find((t) => t.getAttribute("aria-selected") === "true");
    const tab = at?.textContent.trim().toLowerCase(), state = tab && STATES[tab] ? STATES[tab]() : {};
    return tab && state ? { tab, ...state } : null;
  }
  const written = (state) => new URLSearchParams(Object.entries(state).filter(([, v]) => v !== "" && v !== null && v !== undefined)).toString();
  const placeOf = (state) => PLACES.map((k) => state[k] ?? "").join("\n");
  const urlOf = (text) => {
    const url = new URL(window.location.href), theme = url.searchParams.get("__theme");
    url.search = text + (theme ? "&__theme=" + theme : "");
    return url;
  };
  // settled: what the address stands for, null while the page is on its way there. awaited: answers of the server.
  let settled = null, awaited = 1, since = Infinity;
  function follow() {
    const state = awaited ? null : stateNow();
    if (!state) return;
    const text = written(state), place = placeOf(state);
    if (settled === null) {
      const wanted = [...new URLSearchParams(window.location.search)].filter(([k]) => k !== "__theme");
      if (wanted.every(([k, v]) => v === String(state[k] ?? "")) || performance.now() - since > SETTLES) settled = { text, place };
    } else if (text !== settled.text) {
      if (place === settled.place) history.replaceState(null, "", urlOf(text));
      else history.pushState(null, "", urlOf(text));
      settled = { text, place };
    }
  }
  window.erpoAddress = { release() { awaited = Math.max(0, awaited - 1); since = performance.now(); } };
  setInterval(follow, 250);
  window.addEventListener("popstate", () => {
    [awaited, settled] = [awaited + 1, null];
    find("#address-go")?.click();
  });
