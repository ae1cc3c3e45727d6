// Sorting, filtering and copying. Without it the page shows the same.
"use strict";

const MISSING = new Set(["", "–"]);

// ---- sorting: a button in every heading that stands over one column; what is missing stays last

function sortValue(cell) {
  const text = (cell.dataset.sort ?? cell.textContent).trim();
  if (MISSING.has(text)) return null;
  return Number.isFinite(Number(text)) ? Number(text) : text;
}

function compare(one, other, sign) {
  if (one === null || other === null) return (one === null) - (other === null);
  if (typeof one === "number" && typeof other === "number") return sign * (one - other);
  if (typeof one !== typeof other) return sign * (typeof one === "number" ? -1 : 1);
  return sign * one.localeCompare(other, "en", { numeric: true });
}

function sortBy(table, heading, column) {
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  for (const body of table.tBodies) {
    const rows = Array.from(body.rows, (row) => [sortValue(row.cells[column]), row]);
    rows.sort(([one], [other]) => compare(one, other, descending ? -1 : 1));
    body.append(...rows.map(([, row]) => row));
  }
}

// [heading, column] of a head whose headings may span columns and rows
function headings(head) {
  const taken = [], found = [];
  Array.from(head.rows).forEach((row, line) => {
    let column = 0;
    for (const cell of row.cells) {
      while (taken[line]?.[column]) column += 1;
      if (cell.colSpan === 1) found.push([cell, column]);
      for (let down = line; down < line + cell.rowSpan; down += 1)
        for (let across = column; across < column + cell.colSpan; across += 1) (taken[down] ??= [])[across] = true;
      column += cell.colSpan;
    }
  });
  return found;
}

for (const table of document.querySelectorAll("table:not([data-unsorted])")) {
  if (!table.tHead || !Array.from(table.tBodies).some((body) => body.rows.length > 1)) continue;
  for (const [heading, column] of headings(table.tHead)) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortBy(table, heading, column));
    heading.append(button);
  }
}

// ---- filtering: rows that hold every word

function filterRows(input, output) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = Array.from(document.querySelector(`table[aria-labelledby="${input.dataset.filters}"]`).tBodies[0].rows);
  for (const row of rows) {
    const text = Array.from(row.cells, (cell) => cell.textContent).join(" ").toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
  const left = rows.filter((row) => !row.hidden).length;
  output.textContent = words.length ? `${left} of ${rows.length}` : "";
}

for (const place of document.querySelectorAll(".filter")) {
  const input = place.querySelector("input");
  input.addEventListener("input", () => filterRows(input, place.querySelector("output")));
  place.hidden = false;
}

// ---- copying: by the clipboard's interface, or where a browser withholds it, by selecting the text

function copySelected(text) {
  const area = document.createElement("textarea");
  area.className = "visually-hidden";
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const said = (await copy(button.dataset.copy)) ? "Copied" : "Not copied: the browser forbids it";
    button.focus();
    button.textContent = said;
    document.getElementById("said").textContent = said;
    setTimeout(() => {
      button.textContent = label;
      document.getElementById("said").textContent = "";
    }, 2000);
  });
  button.hidden = false;
}
