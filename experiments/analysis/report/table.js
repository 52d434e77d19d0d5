"use strict";

// Tables that sort by their headings.

/**
 * Fill a place with a table.
 * columns: [{label, text: bool, long: bool}], the first of them heads the rows.
 * rows: arrays of cells, {text, value: what to sort by, bold, action: what a click does, name: of the action, chosen}
 * sort: {column: index, descending}, changed in place by clicks; null: no sorting.
 */
function fillTable(place, columns, rows, sort = { column: null, descending: false }) {
  const redraw = (column) => {
    fillTable(place, columns, rows, sort);
    place.querySelectorAll("thead button")[column].focus();
  };
  const head = columns.map((column, i) => heading(column, i, sort, redraw));
  const body = sorted(rows, sort).map((row) => make("tr", {}, ...row.map((cell, i) => dataCell(cell, columns[i], i))));
  place.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
}

function heading(column, i, sort, redraw) {
  const direction = sort?.column === i ? (sort.descending ? "descending" : "ascending") : null;
  const attributes = { scope: "col", class: column.text || i === 0 ? "text" : "", "aria-sort": direction };
  if (!sort) return make("th", attributes, make("span", {}, column.label));
  const click = () => {
    // Numbers are first seen from the best, texts from A.
    sort.descending = sort.column === i ? !sort.descending : !(column.text || i === 0);
    sort.column = i;
    redraw(i);
  };
  return make("th", attributes, make("button", { type: "button", onclick: click }, column.label));
}

function dataCell(cell, column, i) {
  const inner = cell.action
    ? make("button", { type: "button", "aria-label": cell.name, onclick: cell.action }, cell.text)
    : make("span", {}, cell.text);
  if (i === 0) return make("th", { scope: "row", class: cell.chosen ? "chosen" : "" }, inner);
  const classes = { bold: cell.bold, text: column.text, long: column.long, chosen: cell.chosen };
  return make(
    "td",
    {
      class: Object.keys(classes)
        .filter((name) => classes[name])
        .join(" "),
    },
    inner,
  );
}

/** What has no value comes last, whichever way. */
function sorted(rows, sort) {
  if (!sort || sort.column === null) return rows;
  const value = (row) => row[sort.column].value ?? null;
  const known = rows.filter((row) => value(row) !== null);
  const order = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  known.sort((a, b) => order(value(a), value(b)) * (sort.descending ? -1 : 1));
  return [...known, ...rows.filter((row) => value(row) === null)];
}

/** Whether the label holds one of the words that a filter names, split by commas; an empty filter takes all. */
function passes(label, filter) {
  const words = filter
    .toLowerCase()
    .split(",")
    .map((word) => word.trim())
    .filter(Boolean);
  return !words.length || words.some((word) => label.toLowerCase().includes(word));
}

/** A cell of a text, sorted by it. */
function text(value, more = {}) {
  return { text: String(value), value: String(value), ...more };
}

/** A cell of a number; a dash where there is none. */
function number(value, digits = 1, more = {}) {
  if (value === null || value === undefined) return { text: "–", value: null, ...more };
  return { text: value.toLocaleString("en", { maximumFractionDigits: digits }), value, ...more };
}

function fillSelect(select, options, chosen) {
  select.replaceChildren(...options.map(([value, label]) => make("option", { value }, label)));
  if (options.some(([value]) => String(value) === String(chosen))) select.value = chosen;
}
