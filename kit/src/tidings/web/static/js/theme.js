// Before anything is drawn, so that a page in the dark does not flash: a plain script, not a module.
try {
  const chosen = JSON.parse(localStorage.getItem("pizza.theme"));
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // No storage here, or nothing readable in it: the system's own choice holds.
}
