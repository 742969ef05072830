// Draws the diagrams with Mermaid, which lies beside this file, in the colours of the page; again when they change.
(() => {
  const isDark = () => {
    const theme = document.body.dataset.theme;
    return theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  };
  const draw = async () => {
    mermaid.initialize({ startOnLoad: false, theme: isDark() ? "dark" : "neutral", fontFamily: "sans-serif" });
    for (const [number, diagram] of document.querySelectorAll(".mermaid").entries()) {
      diagram.dataset.source ??= diagram.textContent;
      const { svg } = await mermaid.render(`diagram-${number}`, diagram.dataset.source);
      diagram.innerHTML = svg;
    }
  };
  document.addEventListener("DOMContentLoaded", () => {
    draw();
    let wasDark = isDark();
    const redraw = () => {
      if (isDark() !== wasDark) {
        wasDark = isDark();
        draw();
      }
    };
    new MutationObserver(redraw).observe(document.body, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  });
})();
