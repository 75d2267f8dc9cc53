"use strict";

function sortable(table) {
  const body = table.tBodies[0], original = [...body.rows], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
      heads.forEach(other => other.hasAttribute("aria-sort") && other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", next);
      body.append(...(next === "none" ? original : sorted(original, column, next === "ascending" ? 1 : -1)));
    });
  });
}

// Cells without a value come last, whatever the direction.
function sorted(rows, column, direction) {
  const keys = new Map(rows.map(row => [row, key(row.cells[column])]));
  return [...rows].sort((one, other) => {
    const [a, b] = [keys.get(one), keys.get(other)];
    if (a === "" || b === "") return (a === "") - (b === "");
    if (typeof a === "number" && typeof b === "number") return direction * (a - b);
    return direction * String(a).localeCompare(String(b), "en", { numeric: true });
  });
}

function key(cell) {
  if (!cell) return "";
  if ("value" in cell.dataset) return Number(cell.dataset.value);
  const text = cell.textContent.trim(), number = text.replace(/,(?=\d{3})/g, "").match(/^[-+]?\d+(\.\d+)?(e[-+]?\d+)?/i);
  return number ? Number(number[0]) : text;
}

function filterable(block, number) {
  const rows = [...block.querySelectorAll("tbody tr")], form = document.createElement("p");
  form.className = "filter";
  form.innerHTML = `<label for="filter-${number}">Filter rows</label>
    <input type="search" id="filter-${number}" autocomplete="off"><output aria-live="polite"></output>`;
  const [, input, output] = form.children;
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
    const num = rows.filter(row => !row.hidden).length;
    output.textContent = num === rows.length ? `${num} rows` : `${num} of ${rows.length} rows match`;
  };
  input.addEventListener("input", apply);
  block.querySelector(".scroll").before(form);
  apply();
}

// Open the folds around an element, and go there.
function reveal(element) {
  for (let fold = element.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  element.scrollIntoView();
}

function revealHash() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target) reveal(target);
}

// Notes stay in the window; Escape hides them.
function place(note) {
  const tip = note.querySelector(".tip"), box = note.getBoundingClientRect();
  document.body.classList.remove("quiet");
  const left = Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8));
  const isBelow = box.bottom + tip.offsetHeight + 8 < innerHeight;
  tip.style.cssText = `margin: 0; left: ${left}px; top: ${isBelow ? box.bottom + 4 : box.top - tip.offsetHeight - 4}px`;
}

document.querySelectorAll(".sortable table").forEach(sortable);
document.querySelectorAll(".filterable").forEach(filterable);
for (const note of document.querySelectorAll(".note"))
  for (const event of ["mouseenter", "focusin"]) note.addEventListener(event, () => place(note));
addEventListener("keydown", event => event.key === "Escape" && document.body.classList.add("quiet"));
addEventListener("click", event => {
  const link = event.target.closest('a[href^="#"]');
  if (!link) return;
  if (link.hash === location.hash) revealHash();
});
addEventListener("hashchange", revealHash);
revealHash();

let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details.fold:not([open])")];
  opened.forEach(fold => { fold.open = true; });
});
addEventListener("afterprint", () => opened.forEach(fold => { fold.open = false; }));
