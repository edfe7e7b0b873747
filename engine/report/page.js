// The report's behaviour: tables sort by the heading that is pressed, words are searched.
"use strict";
(() => {
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const words = new Intl.Collator("en", { numeric: true });

  for (const table of $$("table.sortable")) {
    const heads = $$("thead th", table);
    const body = table.tBodies[0];
    heads.forEach((head, place) => {
      const text = "text" in head.dataset;
      head.querySelector("button").addEventListener("click", () => {
        // Numbers are looked at from the largest on, words from the first.
        const first = text ? "ascending" : "descending";
        const other = text ? "descending" : "ascending";
        const way = head.getAttribute("aria-sort") === first ? other : first;
        for (const one of heads) one.setAttribute("aria-sort", one === head ? way : "none");
        const sign = way === "ascending" ? 1 : -1;
        const value = (row) => row.cells[place].dataset.value;
        const compare = text ? words.compare : (left, right) => left - right;
        body.append(...[...body.rows].sort((left, right) => sign * compare(value(left), value(right))));
      });
    });
  }

  const search = document.querySelector("#search");
  const status = document.querySelector("#status");
  const rows = $$("#words tbody tr");
  const show = () => {
    const needle = search.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      row.hidden = !row.cells[0].dataset.value.toLowerCase().includes(needle);
      count += !row.hidden;
    }
    status.textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} words`;
  };
  search.addEventListener("input", show);
  show();
})();
