// The drawer with what asking takes; it opens by itself where there is nothing to read yet.
() => {
  const drawer = document.querySelector("#drawer"), open = getComputedStyle(drawer).display === "none";
  drawer.dataset.open = open ? "yes" : "no";
  document.querySelector("#drawer-open").setAttribute("aria-expanded", String(open));
  return [];
}
