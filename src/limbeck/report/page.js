// One slider for all masks. The page reads without it: it stays hidden where scripts do not run.
for (const row of document.querySelectorAll(".opacity")) {
  row.hidden = false;
  const slider = row.querySelector("input");
  slider.addEventListener("input", () => document.documentElement.style.setProperty("--mask", slider.value / 100));
}
