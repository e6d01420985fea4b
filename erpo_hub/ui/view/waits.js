// Said by the page at once: a question may stand in the queue for long before the server speaks of it.
() => {
  const view = document.querySelector("#view .tv")?.__view;
  const box = (id) => document.querySelector(id + " textarea")?.value ?? "";
  view?.pose(box("#prompt"), box("#gold"), "Waiting for its turn: a model answers one question at a time.");
  return [];
}
