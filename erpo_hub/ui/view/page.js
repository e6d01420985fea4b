() => {
  // Parts of the page that Gradio draws and that a keyboard or a screen reader would miss.
  const SCROLLS = "#card-preview table, .facts-box, #runs-plot";
  let due = false;
  function soon() {
    if (due) return;
    due = true;
    setTimeout(() => { due = false; mend(); }, 100);
  }
  const sizes = new ResizeObserver(soon); // a tab that is opened again changes nothing else
  function mend() {
    for (const box of document.querySelectorAll(SCROLLS)) {
      sizes.observe(box);
      if (!box.clientWidth) continue; // in a closed tab
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
    for (const box of document.querySelectorAll("input.search-input:not([aria-label])")) box.setAttribute("aria-label", box.title);
  }
  // not for the tokens of a stream: mending measures, and measuring lays the page out
  new MutationObserver((changes) => changes.some((c) => !c.target.closest(".tv")) && soon()).observe(document.body, { childList: true, subtree: true });
  // The question box and the view beside it never show two questions; nor does another's right answer stay.
  document.addEventListener("input", (e) => {
    const view = document.querySelector("#view .tv")?.__view, gold = document.querySelector("#gold textarea");
    if (!view || !e.target.closest("#prompt") || view.data.meta.prompt === e.target.value) return;
    view.pose(e.target.value, "", "Press Ask to have this question answered.");
    if (!gold || !gold.value) return;
    gold.value = "";
    gold.dispatchEvent(new Event("input", { bubbles: true }));
  });
}
