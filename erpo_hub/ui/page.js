() => {
  // Parts of the page that Gradio draws and that a keyboard or a screen reader would miss.
  const SCROLLS = "#card-preview table, .facts-box, #runs-plot";
  function mend() {
    for (const box of document.querySelectorAll(SCROLLS)) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
    for (const box of document.querySelectorAll("input.search-input:not([aria-label])")) box.setAttribute("aria-label", box.title);
  }
  let due = false;
  function soon() {
    if (due) return;
    due = true;
    setTimeout(() => { due = false; mend(); }, 100);
  }
  // not for the tokens of a stream: mending measures, and measuring lays the page out
  new MutationObserver((changes) => changes.some((c) => !c.target.closest(".tv")) && soon()).observe(document.body, { childList: true, subtree: true });
  window.addEventListener("resize", soon);
}
