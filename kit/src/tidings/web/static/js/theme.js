// A plain script, because a module would run after the first paint and dark pages would flash.
try {
  const chosen = JSON.parse(localStorage.getItem("pizza.theme"));
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Without readable storage, the system's preference applies.
}
