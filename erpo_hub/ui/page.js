() => {
  // Parts of the page that Gradio draws and that a keyboard or a screen reader would miss.
  function mend() {
    for (const table of document.querySelectorAll("#card-preview table:not([tabindex])")) table.tabIndex = 0; // it scrolls
    for (const box of document.querySelectorAll("input.search-input:not([aria-label])")) box.setAttribute("aria-label", box.title);
  }
  let due = false;
  new MutationObserver(() => {
    if (due) return;
    due = true;
    setTimeout(() => { due = false; mend(); }, 100);
  }).observe(document.body, { childList: true, subtree: true });
}
