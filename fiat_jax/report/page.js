"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows];
    const numbers = rows.some((row) => "by" in row.cells[column].dataset);
    const compare = (one, other) => {
      const [a, b] = [one.cells[column], other.cells[column]];
      if (!numbers) return a.textContent.localeCompare(b.textContent) * (down ? -1 : 1);
      const known = ("by" in b.dataset) - ("by" in a.dataset);  // what has no number stays last
      return known || (a.dataset.by - b.dataset.by || 0) * (down ? -1 : 1);
    };
    body.append(...rows.sort(compare));
  }));
}
const themes = document.querySelectorAll("[data-theme]");
for (const button of themes) {
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = button.dataset.theme;
    for (const other of themes) other.setAttribute("aria-pressed", String(other === button));
  });
}
