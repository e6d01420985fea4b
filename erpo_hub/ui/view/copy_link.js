(shipped, model, prompt, gold, temperature, topP, tokens, seed) => {
  const view = document.querySelector("#view .tv"), state = view && view.__view;
  const url = new URL(window.location.href), answer = url.searchParams.get("answer"); // of this answer, see address.js
  url.search = "";
  const fill = (values) => Object.entries(values).forEach(([k, v]) => v !== null && v !== "" && url.searchParams.set(k, String(v)));
  const own = state && state.data.meta.name === shipped;
  if (own) fill({ trace: shipped });
  else fill({ model, prompt, gold, temperature, top_p: topP, tokens, seed });
  if (!own && answer) fill({ answer });
  if ((own || answer) && state && state.selected) fill({ token: state.selected.main + 1 });
  const text = url.toString();
  if (navigator.clipboard) navigator.clipboard.writeText(text).catch(() => {});
  return { __type__: "update", value: text, visible: true };
}
