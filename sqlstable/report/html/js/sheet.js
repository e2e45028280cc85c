// A sheet: a table of many rows that is sorted, filtered, and drawn a part at a time. What sheet.py
// packed is read as it is: columns of whole numbers, and texts by their place in a list.

const ROWS_AT_ONCE = 50;
const ROWS_CHOICES = [25, 50, 200, 1000];
const ROWS_PRINTED = 2000;
const UNKNOWN = -1;
const PARTS_OF_A_WHOLE = 10000;

const COLLATOR = new Intl.Collator("en", { numeric: true });
const SHEETS = {};

// --- reading columns ----------------------------------------------------------------------------

const isText = (column) => column.unit === "text" || column.unit === "choice";

// The sign of a change is in its lowest bit.
const changeOf = (value) => (value % 2 === 0 ? value / 2 : -(value + 1) / 2);

function columnAt(described, values) {
  return { ...described, values, ranks: null, lowered: null };
}

// Returns whole numbers in the order of what a column shows; what is not known comes first.
function ranksOf(column) {
  if (column.ranks !== null) return column.ranks;
  const { values, texts, unit } = column;
  if (isText(column)) {
    const order = texts.map((_, at) => at).sort((a, b) => COLLATOR.compare(texts[a], texts[b]));
    const ranks = new Int32Array(texts.length);
    order.forEach((at, rank) => (ranks[at] = rank));
    column.ranks = Float64Array.from(values, (at) => (at < 0 ? UNKNOWN : ranks[at]));
  } else if (unit === "change") {
    column.ranks = Float64Array.from(values, (it) => (it < 0 ? -Infinity : changeOf(it)));
  } else {
    column.ranks = values;
  }
  return column.ranks;
}

function shown(column, row) {
  const value = column.values[row];
  if (value < 0) return isText(column) ? "" : "-";
  if (isText(column)) return column.texts[value];
  if (column.unit === "bytes") return bytes(value);
  if (column.unit === "share") return percent(value / PARTS_OF_A_WHOLE);
  if (column.unit === "change") return signed(changeOf(value));
  return whole(value);
}

const signed = (value) => (value > 0 ? `+${whole(value)}` : whole(value));

function sheetOf({ facts, columns }) {
  const own = facts.columns.map((it) => columnAt(it, columns[it.name]));
  const details = facts.details.map((detail) => {
    const counts = columns[`${detail.name}.count`];
    const starts = new Int32Array(facts.count + 1);
    for (let row = 0; row < facts.count; row += 1) starts[row + 1] = starts[row] + counts[row];
    const below = detail.columns.map((it) => columnAt(it, columns[`${detail.name}.${it.name}`]));
    return { ...detail, starts, columns: below };
  });
  return { ...facts, columns: own, details, byName: new Map(own.map((it) => [it.name, it])) };
}

// --- filters ------------------------------------------------------------------------------------

// Marks the rows in which some text has a word, whatever its case.
function rowsWith(sheet, word) {
  const found = new Uint8Array(sheet.count);
  const marks = (column) => {
    column.lowered ??= column.texts.map((it) => it.toLowerCase());
    return Uint8Array.from(column.lowered, (it) => (it.includes(word) ? 1 : 0));
  };
  for (const column of sheet.columns.filter(isText)) {
    const has = marks(column);
    if (!has.includes(1)) continue;
    for (let row = 0; row < sheet.count; row += 1) {
      if (column.values[row] >= 0 && has[column.values[row]]) found[row] = 1;
    }
  }
  for (const { columns, starts } of sheet.details) {
    for (const column of columns.filter(isText)) {
      const has = marks(column);
      if (has.includes(1)) markBelow(found, starts, (at) => column.values[at] >= 0 && has[column.values[at]]);
    }
  }
  return found;
}

function markBelow(found, starts, matches) {
  for (let row = 0; row < found.length; row += 1) {
    for (let at = starts[row]; at < starts[row + 1]; at += 1) {
      if (matches(at)) found[row] = 1;
    }
  }
}

function rowsChosen(sheet, { detail, column, value }) {
  const found = new Uint8Array(sheet.count);
  if (detail) markBelow(found, detail.starts, (at) => column.values[at] === value);
  else for (let row = 0; row < sheet.count; row += 1) found[row] = column.values[row] === value ? 1 : 0;
  return found;
}

// What can be chosen from: columns of few values, and those of tables below rows.
function choicesOf(sheet) {
  const many = (column) => column.unit === "choice" && column.texts.length > 1;
  const own = sheet.columns.filter(many).map((column) => ({ detail: null, column }));
  const below = sheet.details.flatMap((detail) =>
    detail.columns.filter(many).map((column) => ({ detail, column })),
  );
  return [...own, ...below];
}

// --- drawing ------------------------------------------------------------------------------------

function drawSheet(element, data) {
  const sheet = sheetOf(data);
  const id = element.dataset.sheet;
  const inRows = sheet.columns.filter((it) => it.place === "row" || it.place === "wide");
  const state = {
    order: Int32Array.from({ length: sheet.count }, (_, row) => row),
    sorted: null,
    down: false,
    words: "",
    chosen: new Map(),
    only: null,
    first: 0,
    size: ROWS_AT_ONCE,
    open: new Set(),
  };
  const parts = sheetParts(sheet, id, inRows, {
    onWords: (words) => ((state.words = words), refill()),
    onChoice: (place, chosen) => {
      if (chosen === null) state.chosen.delete(place);
      else state.chosen.set(place, chosen);
      refill();
    },
    onSort: (name) => {
      const column = sheet.byName.get(name);
      state.down = state.sorted === name ? !state.down : !isText(column) && name !== "index";
      state.sorted = name;
      refill();
    },
    onTurn: (pages) => ((state.first = Math.max(0, state.first + pages * state.size)), draw()),
    onSize: (size) => ((state.size = size), (state.first = 0), draw()),
    onEverything: () => clear(),
  });
  element.replaceChildren(...parts.all);

  function clear() {
    [state.words, state.only] = ["", null];
    state.chosen.clear();
    parts.search.value = "";
    for (const select of parts.selects) select.value = "";
    refill();
  }

  function refill() {
    const wanted = state.words.toLowerCase().split(/\s+/).filter(Boolean);
    const tests = [
      ...wanted.map((word) => rowsWith(sheet, word)),
      ...[...state.chosen.values()].map((choice) => rowsChosen(sheet, choice)),
      ...(state.only ? [rowsChosen(sheet, state.only)] : []),
    ];
    const kept = [];
    for (let row = 0; row < sheet.count; row += 1) {
      if (tests.every((test) => test[row])) kept.push(row);
    }
    state.order = Int32Array.from(kept);
    state.first = 0;
    sort();
    draw();
  }

  function sort() {
    if (state.sorted === null) return;
    const own = sheet.byName.get(state.sorted);
    const ranks = ranksOf(sheet.byName.get(own.sort_by) ?? own);
    const sign = state.down ? -1 : 1;
    // Equal ones stay in the order of the trace.
    state.order.sort((a, b) => sign * (ranks[a] - ranks[b]) || a - b);
  }

  function draw(size = state.size) {
    const last = Math.min(state.order.length, state.first + size);
    const rows = [];
    for (let at = state.first; at < last; at += 1) {
      const row = state.order[at];
      rows.push(rowOf(row));
      if (state.open.has(row)) rows.push(detailOf(row));
    }
    parts.body.replaceChildren(...rows);
    parts.tell(state, last, size);
  }

  function rowOf(row) {
    const number = sheet.byName.get("index");
    const label = number && number.values[row] >= 0 ? whole(number.values[row]) : "-";
    const isOpen = state.open.has(row);
    const opener = make("button", {
      type: "button",
      class: "row-open",
      "aria-expanded": String(isOpen),
      "aria-controls": isOpen ? `${id}-${row}-detail` : null,
      "aria-label": `${label}, ${sheet.noun}, details`,
    }, label);
    const made = make("tr", { id: number ? `${sheet.noun}-${number.values[row]}` : null });
    made.dataset.row = String(row);
    made.append(make("th", { scope: "row" }, opener));
    for (const column of inRows) if (column.name !== "index") made.append(cellOf(column, row));
    return made;
  }

  function detailOf(row) {
    const made = make("tr", { class: "row-detail", id: `${id}-${row}-detail` });
    made.append(make("td", { colspan: String(inRows.length) }, ...detailsOf(sheet, row)));
    return made;
  }

  function toggle(row) {
    const made = parts.body.querySelector(`tr[data-row="${row}"]`);
    const opener = made.querySelector(".row-open");
    if (state.open.delete(row)) made.nextElementSibling.remove();
    else {
      state.open.add(row);
      made.after(detailOf(row));
    }
    opener.setAttribute("aria-expanded", String(state.open.has(row)));
    if (state.open.has(row)) opener.setAttribute("aria-controls", `${id}-${row}-detail`);
    else opener.removeAttribute("aria-controls");
  }

  parts.body.addEventListener("click", (event) => {
    const made = event.target.closest("tr[data-row]");
    // Whoever marks a text to copy it does not want the row to open.
    if (made === null || event.target.closest("a") || !getSelection().isCollapsed) return;
    toggle(Number(made.dataset.row));
  });
  parts.body.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined || !event.target.matches(".row-open")) return;
    event.preventDefault();
    const openers = [...parts.body.querySelectorAll(".row-open")];
    openers[openers.indexOf(event.target) + step]?.focus();
  });

  function show(value) {
    const row = sheet.byName.get("index").values.indexOf(value);
    if (row < 0) return;
    if (!state.order.includes(row)) clear();
    state.first = state.size * Math.floor(state.order.indexOf(row) / state.size);
    state.open.add(row);
    draw();
    const made = parts.body.querySelector(`tr[data-row="${row}"]`);
    made.scrollIntoView({ block: "center" });
    made.querySelector(".row-open").focus({ preventScroll: true });
  }

  function only(name, value, words) {
    clear();
    state.only = { detail: null, column: sheet.byName.get(name), value, words };
    refill();
    element.closest("section").scrollIntoView();
    parts.search.focus({ preventScroll: true });
  }

  const print = (isPrinting) => {
    const first = state.first;
    state.first = isPrinting ? 0 : first;
    draw(isPrinting ? ROWS_PRINTED : state.size);
    state.first = first;
  };
  draw();
  SHEETS[id] = { noun: sheet.noun, show, only, print };
}

function cellOf(column, row) {
  const text = shown(column, row);
  const kind = isText(column) ? (column.unit === "choice" ? "word" : "text") : "number";
  const made = make("td", { class: `${kind} ${column.place}` });
  if (kind === "number") made.textContent = text;
  else made.append(make(kind === "text" ? "div" : "bdi", { class: "clip", dir: "auto" }, text));
  if (kind === "word") made.dataset.word = text;
  return made;
}

// Returns all that is known of a row: whole texts, every number, tables, and links to other sheets.
function detailsOf(sheet, row) {
  const known = sheet.columns.filter((it) => it.place !== "nowhere" && it.values[row] >= 0 && it.name !== "index");
  // Of texts beside it, tables and lists below have more.
  const texts = known.filter((it) => it.unit === "text" && it.place !== "wide");
  const list = make("dl", { class: "facts" });
  for (const column of known) {
    if (column.unit === "text") continue;
    const said = make("dd", {}, make("bdi", {}, shown(column, row)));
    list.append(make("div", {}, make("dt", {}, column.heading), said));
  }
  const blocks = texts.map((it) => wholeText(it, row));
  const tables = sheet.details.map((it) => detailTable(it, row)).filter(Boolean);
  const links = sheet.links.filter((it) => SHEETS[it.sheet]).map((it) => linkTo(it, sheet, row));
  const ends = links.length ? [make("p", { class: "row-links" }, ...links)] : [];
  return [...blocks, list, make("div", { class: "detail-tables" }, ...tables), ...ends];
}

function linkTo({ words, sheet, there, here }, from, row) {
  const value = from.byName.get(here).values[row];
  const link = make("button", { type: "button" }, words);
  link.addEventListener("click", () => {
    if (there === "index") SHEETS[sheet].show(value);
    else SHEETS[sheet].only(there, value, `of ${there} ${whole(value)}`);
  });
  return link;
}

function detailTable({ heading, is_list: isList, columns, starts }, row) {
  const rows = [];
  for (let at = starts[row]; at < starts[row + 1]; at += 1) rows.push(at);
  if (rows.length === 0) return null;
  const title = make("h3", {}, heading);
  if (isList) {
    const lines = rows.map((at) => make("li", { dir: "auto" }, shown(columns[0], at)));
    return make("div", {}, title, make("ul", { class: "lines" }, ...lines));
  }
  const cells = (at) => columns.map((it, nth) => {
    const attributes = isText(it) ? {} : { class: "number" };
    const text = make("bdi", { class: isText(it) ? "name" : null }, shown(it, at));
    return nth === 0 ? make("th", { scope: "row" }, text) : make("td", attributes, text);
  });
  const head = make("tr", {}, ...columns.map((it) =>
    make("th", { scope: "col", class: isText(it) ? null : "number" }, it.heading)));
  const body = make("tbody", {}, ...rows.map((at) => make("tr", {}, ...cells(at))));
  const table = make("table", { class: "plain" }, make("thead", {}, head), body);
  return make("div", {}, title, make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": heading }, table));
}

// Long ones scroll in their place, so it can be reached by keyboard.
function wholeText(column, row) {
  const attributes = { class: "whole-text", dir: "auto", tabindex: "0", role: "group", "aria-label": `Whole ${column.heading}` };
  return make("pre", attributes, column.texts[column.values[row]]);
}

// --- what stands around the rows ----------------------------------------------------------------

function sheetParts(sheet, id, inRows, on) {
  const search = make("input", { type: "search", placeholder: "Filter by any text", "aria-label": `Filter ${sheet.noun}s by text`, autocomplete: "off", spellcheck: "false" });
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => on.onWords(search.value), 80);
  });
  const selects = choicesOf(sheet).map((choice, place) => selectOf(choice, place, on));
  const everything = make("button", { type: "button", class: "everything", hidden: "" }, "Show all");
  everything.addEventListener("click", () => {
    on.onEverything();
    search.focus();
  });
  const tools = make("div", { class: "tools", role: "group", "aria-label": `Filters of ${sheet.noun}s` }, search, ...selects.map((it) => it.label), everything);

  const headings = inRows.map((column) => headingOf(column, on));
  const body = make("tbody");
  const caption = make("caption", { class: "unseen" }, `${sheet.noun}s; headings sort, rows open`);
  const table = make("table", { class: "rows" }, caption, make("thead", {}, make("tr", {}, ...headings)), body);
  const frame = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table of ${sheet.noun}s` }, table);

  const told = make("output", { class: "told", "aria-live": "polite" });
  const [back, forth] = [["Previous", -1], ["Next", 1]].map(([words, pages]) => {
    const button = make("button", { type: "button" }, words);
    button.addEventListener("click", () => on.onTurn(pages));
    return button;
  });
  const size = choice("Rows at once", ROWS_CHOICES.map((it) => [String(it), whole(it)]), String(ROWS_AT_ONCE), (value) => on.onSize(Number(value)));
  const turner = make("nav", { class: "turner", "aria-label": `Rows of ${sheet.noun}s` }, told, back, forth, size);

  function tell(state, last, shownAtOnce) {
    const count = state.order.length;
    const filtered = count < sheet.count ? ` (of ${whole(sheet.count)}${state.only ? `, ${state.only.words}` : ""})` : "";
    told.textContent = count === 0 ? `No ${sheet.noun} matches` : `${whole(state.first + 1)}–${whole(last)} of ${whole(count)}${filtered}`;
    back.disabled = state.first === 0;
    forth.disabled = last >= count;
    turner.classList.toggle("turner-short", sheet.count <= ROWS_CHOICES[0]);
    table.classList.toggle("cut-in-print", shownAtOnce === ROWS_PRINTED && last < count);
    everything.hidden = count === sheet.count;
    inRows.forEach((column, nth) => {
      if (column.name === state.sorted) headings[nth].setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else headings[nth].removeAttribute("aria-sort");
    });
  }
  return { all: [tools, frame, turner], body, search, selects: selects.map((it) => it.select), tell };
}

function selectOf({ detail, column }, place, on) {
  const sorted = column.texts.map((text, value) => [String(value), text || "(none)"]);
  sorted.sort((a, b) => COLLATOR.compare(a[1], b[1]));
  const label = choice(column.heading, [["", "all"], ...sorted], "", (value) =>
    on.onChoice(place, value === "" ? null : { detail, column, value: Number(value) }));
  return { label, select: label.querySelector("select") };
}

function headingOf(column, on) {
  const button = make("button", { type: "button" }, column.heading);
  button.addEventListener("click", () => on.onSort(column.name));
  const kind = isText(column) ? (column.unit === "choice" ? "word" : "text") : "number";
  return make("th", { scope: "col", class: `${kind} ${column.place}` }, button);
}
