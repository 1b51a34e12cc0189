// Tables that sort and filter. The columns and rows are in a block of JSON beside each table.
import {
  AccessorModule,
  DownloadModule,
  EditModule,
  ExportModule,
  FilterModule,
  FormatModule,
  InteractionModule,
  PageModule,
  PrintModule,
  ResizeTableModule,
  SortModule,
  Tabulator,
} from "tabulator-tables";

Tabulator.registerModule([
  AccessorModule,
  DownloadModule,
  EditModule,
  ExportModule,
  FilterModule,
  FormatModule,
  InteractionModule,
  PageModule,
  PrintModule,
  ResizeTableModule,
  SortModule,
]);

const ROWS_OF_A_PAGE = 20;

/** "> 0.5", "<= 3", "0.2..0.4", "= 1", or the beginning of a number as it is shown. */
function numberFilter(wanted, value, row, { digits }) {
  const text = wanted.trim().replace(",", ".").replaceAll("−", "-");
  if (!text) return true;
  const range = /^(-?[\d.]+(?:e-?\d+)?)\s*\.\.\s*(-?[\d.]+(?:e-?\d+)?)$/i.exec(text);
  if (range) return value !== null && value >= Number(range[1]) && value <= Number(range[2]);
  const compared = /^(<=|>=|<|>|=|≤|≥)\s*(-?[\d.]+(?:e-?\d+)?)$/i.exec(text);
  if (!compared) return value !== null && shownNumber(value, digits).replaceAll("−", "-").startsWith(text);
  if (value === null) return false;
  const limit = Number(compared[2]);
  switch (compared[1]) {
    case "<":
      return value < limit;
    case ">":
      return value > limit;
    case "<=":
    case "≤":
      return value <= limit;
    case ">=":
    case "≥":
      return value >= limit;
    default:
      return value === limit;
  }
}

/** With `digits` significant digits. Small and large numbers get a power of ten. */
export function shownNumber(value, digits) {
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value).replace("-", "−");
  const size = Math.abs(value);
  const text = size >= 1e-4 && size < 1e6 ? value.toPrecision(digits) : value.toExponential(digits - 1);
  return (text.includes("e+") && size < 1e6 ? String(Number(text)) : text).replaceAll("-", "−");
}

function textCell(cell) {
  const span = document.createElement("span");
  const { kind, digits, link } = cell.getColumn().getDefinition().formatterParams;
  const value = cell.getValue();
  if (value === null || value === "") {
    span.textContent = kind === "number" ? "–" : "";
  } else if (kind === "number") {
    span.textContent = shownNumber(value, digits);
  } else {
    span.textContent = String(value);
  }
  const target = link === null ? null : cell.getData()[link];
  if (!target) return span;
  const anchor = document.createElement("a");
  anchor.href = `#${target}`;
  anchor.textContent = span.textContent;
  return anchor;
}

function escaped(text) {
  const span = document.createElement("span");
  span.textContent = text;
  return span.innerHTML;
}

function title(cell) {
  const span = document.createElement("span");
  const { title, unit } = cell.getColumn().getDefinition().titleFormatterParams;
  span.textContent = title;
  if (unit) {
    const small = document.createElement("small");
    small.textContent = unit;
    span.append(document.createElement("br"), small);
  }
  return span;
}

function column({ field, title: heading, kind, digits, unit, link }) {
  const isNumber = kind === "number";
  const hint = isNumber ? "> 0.5, < 1, 0..1" : "contains";
  return {
    field,
    title: "", // would be read as HTML; the formatter sets the text
    titleFormatter: title,
    titleFormatterParams: { title: heading, unit },
    titlePrint: escaped(unit ? `${heading} (${unit})` : heading), // becomes HTML
    titleDownload: unit ? `${heading} (${unit})` : heading,
    formatter: textCell,
    formatterParams: { kind, digits, link },
    formatterPrint: textCell,
    hozAlign: isNumber ? "right" : "left",
    headerHozAlign: isNumber ? "right" : "left",
    sorter: isNumber ? "number" : "string",
    sorterParams: { alignEmptyValues: "bottom" },
    headerFilter: "input",
    headerFilterParams: { elementAttributes: { "aria-label": `${heading} filter`, title: hint } },
    headerFilterPlaceholder: isNumber ? "> …" : "contains …",
    headerFilterFunc: isNumber ? numberFilter : "like",
    headerFilterFuncParams: { digits },
    minWidth: isNumber ? 96 : 120,
  };
}

function makeTable(place) {
  const { columns, rows, name } = JSON.parse(document.getElementById(place.dataset.table).textContent);
  const fields = columns.map(({ field }) => field);
  const data = rows.map((row, id) => ({ id, ...Object.fromEntries(fields.map((field, k) => [field, row[k]])) }));
  const shown = place.parentElement.querySelector("[data-rows-shown]");
  const table = new Tabulator(place, {
    data,
    columns: columns.filter(({ hidden }) => !hidden).map(column),
    layout: "fitDataFill",
    pagination: rows.length > ROWS_OF_A_PAGE,
    paginationSize: ROWS_OF_A_PAGE,
    paginationSizeSelector: [ROWS_OF_A_PAGE, 100, 500],
    renderVertical: "basic",
    printAsHtml: true,
    printRowRange: "active",
    printStyled: false,
    columnHeaderSortMulti: true,
    initialHeaderFilter: columns
      .filter(({ firstFilter }) => firstFilter)
      .map(({ field, firstFilter }) => ({ field, value: firstFilter })),
    headerSortTristate: true,
  });
  const count = () => {
    const left = table.getDataCount("active");
    const all = rows.length === 1 ? "1 row" : `${rows.length} rows`;
    shown.textContent = left === rows.length ? `${all}.` : `${left} of ${all}.`;
  };
  table.on("tableBuilt", () => {
    count();
    makeAccessible(place);
    place.classList.add("ready");
  });
  table.on("dataFiltered", () => window.queueMicrotask(count));
  table.on("renderComplete", () => makeAccessible(place));
  const tools = place.parentElement.querySelector("[data-table-tools]");
  tools?.querySelector("[data-csv]")?.addEventListener("click", () => table.download("csv", `${name}.csv`));
  tools?.querySelector("[data-clear]")?.addEventListener("click", () => {
    table.clearHeaderFilter();
    table.clearSort();
  });
}

// Column headings can be reached and used by keys. A grid may have no focusable part that is no row; where the table is
// wider than the page, the headings and links within scroll it.
function makeAccessible(place) {
  place.querySelector(".tabulator-tableholder")?.removeAttribute("tabindex");
  for (const heading of place.querySelectorAll(".tabulator-col")) {
    const text = heading.querySelector(".tabulator-col-title");
    if (!text || text.dataset.ready) continue;
    text.dataset.ready = "yes";
    text.tabIndex = 0;
    text.setAttribute("role", "button");
    text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      text.click();
    });
  }
}

export function makeTables(places) {
  for (const place of places) makeTable(place);
}
