"use strict";
// Sorts and searches the table of tensors. Without it every row is there, in the order of execution.
(() => {
  const table = document.getElementById("tensor-table");
  if (!table) return;
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const search = document.getElementById("tensor-search");
  const broken = document.getElementById("tensor-broken");
  const count = document.getElementById("tensor-count");

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, index) => {
      const fits =
        words.every((word) => texts[index].includes(word)) && (!broken.checked || row.className);
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    });
    count.textContent = `${shown} of ${rows.length} shown`;
  };

  const number = (text) => {
    if (text.startsWith("inf")) return Infinity;
    const value = parseFloat(text.replace("<", ""));
    return Number.isNaN(value) ? -1 : value;
  };

  const sort = (head) => {
    const isNumber = "number" in head.dataset;
    const wasSorted = head.getAttribute("aria-sort");
    const first = isNumber && head.cellIndex ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const direction = wasSorted === first ? second : first;
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = rows.map((row, index) => {
      const text = row.cells[head.cellIndex].textContent;
      return [isNumber ? number(text) : text, index, row];
    });
    const compare = isNumber ? (a, b) => (a < b ? -1 : a > b ? 1 : 0) : new Intl.Collator().compare;
    keyed.sort((a, b) => sign * compare(a[0], b[0]) || a[1] - b[1]);
    body.append(...keyed.map((entry) => entry[2]));
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", direction);
  };

  heads.forEach((head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(head));
    head.replaceChildren(button);
  });
  search.addEventListener("input", filter);
  broken.addEventListener("change", filter);
  document.getElementById("tensor-tools").hidden = false;
  filter();
})();
