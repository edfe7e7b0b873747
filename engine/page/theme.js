// The button that turns a page's colours from light to dark and back.
"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.querySelector("#theme");
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const showTheme = () =>
    theme.setAttribute("aria-pressed", (root.dataset.theme ?? (systemDark.matches ? "dark" : "light")) === "dark");
  theme.addEventListener("click", () => {
    root.dataset.theme = theme.getAttribute("aria-pressed") === "true" ? "light" : "dark";
    showTheme();
  });
  systemDark.addEventListener("change", showTheme);
  showTheme();
})();
