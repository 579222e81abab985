// Runs before the first paint, so that a chosen theme never flashes as the other one.
(() => {
  try {
    const theme = localStorage.getItem("underlay.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be forbidden; the system's theme is then the only one.
  }
})();
