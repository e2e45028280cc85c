// The map of stable memory: one cell for each OS page that was touched or lies near one.

const COLOURINGS = [
  ["owner", "owner"],
  ["accesses", "reads and writes"],
  ["writer", "last writer"],
  ["age", "age"],
];
const CURVES = [
  ["hilbert", "Hilbert curves"],
  ["snake", "snake"],
  ["linear", "lines"],
];
const ZOOMS = [1, 2, 4, 8];

// Draws the map into an element and returns what a page or a notebook may do with it.
// `data` has `columns`, one entry for each touched unit, and `facts`; see of_page_map.py.
function drawMap(element, data) {
  const map = mapModel(data);
  const view = { colouring: "owner", curve: "hilbert", zoom: 1, owner: null, cursor: -1, pinned: false };
  const canvas = make("canvas", {
    tabindex: "0",
    role: "application",
    "aria-roledescription": "map",
    "aria-label":
      "Map of stable memory. Arrow keys move the cursor, Home and End go to the ends, Enter holds it.",
  });
  const mark = make("div", { class: "map-mark", hidden: "" });
  const sheet = make("div", { class: "map-sheet" }, canvas, mark);
  const frame = make("div", { class: "map-frame" }, sheet);
  const telling = makeTelling();
  const legend = make("div", { class: "picture-legend" });
  const zooming = make("span", { class: "map-zoom", role: "group", "aria-label": "Zoom" });
  const scale = make("p", { class: "picture-scale" }, scaleWords(map));
  element.replaceChildren(
    make(
      "div",
      { class: "picture-controls" },
      choice("Colour by", COLOURINGS, view.colouring, (value) => change({ colouring: value, owner: null })),
      choice("Order", CURVES, view.curve, (value) => change({ curve: value })),
      zooming,
    ),
    make("div", { class: "map-plot" }, frame, make("div", { class: "map-side" }, telling, legend, scale)),
  );
  for (const [sign, by, label] of [["−", -1, "Smaller"], ["+", 1, "Larger"]]) {
    const button = make("button", { type: "button", "aria-label": label }, sign);
    button.addEventListener("click", () => {
      const at = ZOOMS.indexOf(view.zoom) + by;
      if (at >= 0 && at < ZOOMS.length) change({ zoom: ZOOMS[at] });
    });
    zooming.append(button);
  }

  let grid = null;

  function change(changes) {
    Object.assign(view, changes);
    redraw();
  }

  function redraw() {
    if (grid === null || grid.curve !== view.curve) grid = mapGrid(map, view.curve);
    canvas.width = grid.width;
    canvas.height = grid.height;
    sheet.style.width = `${100 * view.zoom}%`;
    sheet.style.aspectRatio = `${grid.width} / ${grid.height}`;
    const context = canvas.getContext("2d");
    const image = context.createImageData(grid.width, grid.height);
    paint(element, map, view, grid, new Uint32Array(image.data.buffer));
    context.putImageData(image, 0, 0);
    drawLegend(element, legend, map, view, (owner, nth) => {
      change({ owner });
      // The legend is new now; who came by keys goes on from the same place.
      legend.querySelectorAll("button")[nth].focus();
    });
    placeMark();
  }

  function placeMark() {
    mark.hidden = view.cursor < 0;
    if (view.cursor < 0) return;
    const pixel = grid.pixels[view.cursor];
    mark.style.left = `${(100 * (pixel % grid.width)) / grid.width}%`;
    mark.style.top = `${(100 * Math.floor(pixel / grid.width)) / grid.height}%`;
    mark.style.width = `${100 / grid.width}%`;
    mark.style.height = `${100 / grid.height}%`;
    mark.classList.toggle("map-pinned", view.pinned);
  }

  function moveTo(cell) {
    view.cursor = cell;
    placeMark();
    tell(telling, map, cell, view.pinned);
    return cell;
  }

  function cellAt(event) {
    const box = canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) * grid.width) / box.width);
    const y = Math.floor(((event.clientY - box.top) * grid.height) / box.height);
    if (x < 0 || y < 0 || x >= grid.width || y >= grid.height) return -1;
    return grid.cells[y * grid.width + x];
  }

  canvas.addEventListener("pointermove", (event) => {
    if (!view.pinned) moveTo(cellAt(event));
  });
  canvas.addEventListener("pointerdown", (event) => {
    const cell = cellAt(event);
    // A finger leaves, and a mouse goes on to the links: what was chosen stays, until it is again.
    view.pinned = cell >= 0 && !(view.pinned && cell === view.cursor);
    moveTo(cell);
  });
  canvas.addEventListener("keydown", (event) => {
    const cell = cellAfterKey(event.key, view.cursor, map, grid);
    if (cell === null) return;
    event.preventDefault();
    if (event.key === "Enter" || event.key === " ") view.pinned = !view.pinned && view.cursor >= 0;
    if (event.key === "Escape") view.pinned = false;
    moveTo(cell);
    mark.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  onThemeChange(redraw);
  redraw();
  tell(telling, map, -1, false);
  return { change, moveTo, redraw, cellCount: map.cellCount, cellOfPage: (page) => cellOfPage(map, page) };
}

// --- cells --------------------------------------------------------------------------------------

// Cells are the units shown, in order, and one for each gap between them.
function mapModel({ columns, facts }) {
  const stretches = [];
  let cell = 0;
  let place = 0;
  const { first, count, gap } = columns;
  const withGaps = facts.os_pages_each === 1;
  const gaps = new Map();
  for (let at = 0; at < first.length; at += 1) {
    if (withGaps && gap[at] > 0) gaps.set(cell++, gap[at]);
    stretches.push({ first: first[at], count: count[at], place, cell });
    place += count[at];
    cell += withGaps ? count[at] : 0;
  }
  if (!withGaps) cell = Math.ceil(place / facts.os_pages_each);
  if (withGaps && facts.gap_after > 0) gaps.set(cell++, facts.gap_after);
  const rowOfCell = new Int32Array(cell).fill(-1);
  let unit = 0;
  let stretch = 0;
  for (let row = 0; row < columns.step.length; row += 1) {
    unit += columns.step[row];
    if (withGaps) {
      while (unit >= stretches[stretch].place + stretches[stretch].count) stretch += 1;
      rowOfCell[stretches[stretch].cell + unit - stretches[stretch].place] = row;
    } else {
      rowOfCell[unit] = row;
    }
  }
  const trees = treesOf(facts.owners);
  return { ...columns, ...trees, shapeOf: shapesOf(columns, facts), facts, stretches, gaps, rowOfCell, cellCount: cell, shown: place };
}

// Shapes stand once for all statements that have them, and only those that are told have one.
function shapesOf({ statement_step: steps, statement_shape: shapes }, facts) {
  const shapeOf = new Map();
  let statement = 0;
  for (let at = 0; at < steps.length; at += 1) {
    statement += steps[at];
    shapeOf.set(statement, facts.shapes[shapes[at]] ?? "");
  }
  return shapeOf;
}

// Owners of one name are one colour, whatever their role. Which one, of_page_map.py decides for all
// pictures together: `colour` is its number, -1 for those that are too small to have one.
function treesOf(owners) {
  const pages = new Map();
  const coloured = [];
  for (const { name, colour, os_pages } of owners) {
    pages.set(name, (pages.get(name) ?? 0) + os_pages);
    if (colour >= 0) coloured[colour] = name;
  }
  return { pagesOfName: pages, coloured };
}

function ownerColour(element, colour) {
  return themeColour(element, colour < 0 ? "--owner-other" : `--owner-${colour}`);
}

function mapGrid(map, curve) {
  const width = widthFor(map.cellCount);
  const pixels = pixelsOfCells(curve, map.cellCount, width);
  let height = 1;
  for (const pixel of pixels) height = Math.max(height, Math.floor(pixel / width) + 1);
  // From pixel to cell by a table: hovering costs the same however large the map is.
  const cells = new Int32Array(width * height).fill(-1);
  pixels.forEach((pixel, cell) => (cells[pixel] = cell));
  return { curve, width, height, pixels, cells };
}

function osPageAt(map, place) {
  let low = 0;
  let high = map.stretches.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (map.stretches[middle].place <= place) low = middle;
    else high = middle - 1;
  }
  return map.stretches[low].first + place - map.stretches[low].place;
}

// Returns the first and the last OS page that a cell stands for.
function osPagesOf(map, cell) {
  const each = map.facts.os_pages_each;
  if (each > 1) return [osPageAt(map, cell * each), osPageAt(map, Math.min(cell * each + each, map.shown) - 1)];
  let low = 0;
  let high = map.stretches.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (map.stretches[middle].cell <= cell) low = middle;
    else high = middle - 1;
  }
  const page = map.stretches[low].first + cell - map.stretches[low].cell;
  return [page, page];
}

function cellOfPage(map, page) {
  const inside = ({ first, count }) => page >= first && page < first + count;
  const stretch = map.stretches.find(inside);
  if (stretch === undefined) return -1;
  if (map.facts.os_pages_each === 1) return stretch.cell + page - stretch.first;
  return Math.floor((stretch.place + page - stretch.first) / map.facts.os_pages_each);
}

// Returns the cell that a key leads to, or null where the key is not one of the map's.
function cellAfterKey(key, cell, map, grid) {
  const last = map.cellCount - 1;
  if (last < 0) return null;
  if (key === "Home") return 0;
  if (key === "End") return last;
  if (key === "Enter" || key === " " || key === "Escape") return cell;
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  if (step === undefined) return null;
  if (cell < 0) return 0;
  const x = (grid.pixels[cell] % grid.width) + step[0];
  const y = Math.floor(grid.pixels[cell] / grid.width) + step[1];
  if (x < 0 || y < 0 || x >= grid.width || y >= grid.height) return cell;
  const next = grid.cells[y * grid.width + x];
  return next < 0 ? cell : next;
}

// --- colours ------------------------------------------------------------------------------------

function paint(element, map, view, grid, image) {
  const untouched = pixelOf(themeColour(element, "--map-untouched"));
  const gap = pixelOf(themeColour(element, "--map-gap"));
  const colour = colouring(element, map, view);
  for (let cell = 0; cell < map.cellCount; cell += 1) {
    const row = map.rowOfCell[cell];
    image[grid.pixels[cell]] = row >= 0 ? colour(row) : map.gaps.has(cell) ? gap : untouched;
  }
}

function colouring(element, map, view) {
  if (view.colouring === "owner") return ownerColouring(element, map, view.owner);
  const scale = scalePixels(element);
  const { value, largest, log } = measureOf(map, view.colouring);
  const never = pixelOf(themeColour(element, "--map-never"));
  const most = Math.max(1, largest);
  return (row) => {
    const one = value(row);
    if (one < 0) return never;
    return scale[log ? logPlace(one, most) : Math.round((255 * one) / most)];
  };
}

function ownerColouring(element, map, chosen) {
  const ground = pixelOf(themeColour(element, "--map-untouched"));
  const ink = pixelOf(themeColour(element, "--map-ink"));
  const colours = map.facts.owners.map(({ name, role, colour }) => {
    const plain = pixelOf(ownerColour(element, colour));
    if (chosen !== null && chosen !== name) return mixed(plain, ground, 0.85);
    // Nodes above the leaves are few and matter to every search: darker, or lighter in the dark.
    return role === "interior" ? mixed(plain, ink, 0.55) : plain;
  });
  return (row) => colours[map.owner[row]];
}

// Returns what a colour stands for: a value for each row, -1 for none, and the largest of all.
function measureOf(map, name) {
  const last = Math.max(0, map.facts.message_count - 1);
  const largest = (value) => {
    let most = 0;
    for (let row = 0; row < map.step.length; row += 1) most = Math.max(most, value(row));
    return most;
  };
  const values = {
    accesses: (row) => map.reads[row] + map.writes[row],
    writer: (row) => map.last_writer[row],
    age: (row) => last - map.last_access[row],
  };
  const value = values[name];
  return { value, largest: name === "writer" ? last : largest(value), log: name === "accesses" };
}

// --- words --------------------------------------------------------------------------------------

function drawLegend(element, legend, map, view, choose) {
  if (view.colouring === "owner") {
    // Of two maps side by side, a table that only one of them has is coloured in both.
    const names = map.coloured
      .map((name, nth) => [name, `--owner-${nth}`])
      .filter(([name]) => map.pagesOfName.get(name) > 0);
    const others = [...map.pagesOfName.keys()].filter(
      (name) => map.pagesOfName.get(name) > 0 && !map.coloured.includes(name),
    );
    legend.replaceChildren(
      ...names.map(([name, colour], nth) =>
        ownerButton(element, map, view, name, colour, (owner) => choose(owner, nth)),
      ),
      ...others.slice(0, 1).map(() => swatch(element, "--owner-other", otherWords(others))),
      swatch(element, "--map-untouched", "untouched"),
      ...(map.gaps.size > 0 ? [swatch(element, "--map-gap", "a gap, left out")] : []),
    );
    return;
  }
  const { largest } = measureOf(map, view.colouring);
  const ends = {
    accesses: () => logLegend(element, "1 read or write", largest),
    writer: () => scaleLegend(element, "written last by message 0", `by message ${whole(largest)}`),
    age: () => scaleLegend(element, "accessed by the last message", `${amount(largest, "message")} ago`),
  }[view.colouring]();
  if (view.colouring === "writer") ends.push(swatch(element, "--map-never", "never written"));
  ends.push(swatch(element, "--map-untouched", "untouched"));
  legend.replaceChildren(...ends);
}

function scaleLegend(element, from, to) {
  const bar = make("span", { class: "legend-scale" });
  bar.style.backgroundImage = scaleGradient(element);
  return [make("span", {}, from), bar, make("span", {}, to)];
}

function logLegend(element, one, most) {
  if (most <= 1) return [swatch(element, "--scale-4", one)];
  return scaleLegend(element, one, `${whole(most)}, on a logarithmic scale`);
}

function swatch(element, colour, words) {
  const patch = make("span", { class: "legend-swatch" });
  patch.style.backgroundColor = themeColour(element, colour);
  return make("span", { class: "legend-entry" }, patch, words);
}

function ownerButton(element, map, view, name, colour, choose) {
  const pressed = view.owner === name;
  const button = make("button", { type: "button", class: "legend-entry", "aria-pressed": String(pressed) });
  const words = make("bdi", {}, shortened(name, 40));
  const patch = make("span", { class: "legend-swatch" });
  patch.style.backgroundColor = themeColour(element, colour);
  button.append(patch, words, ` ${whole(map.pagesOfName.get(name))}`);
  button.addEventListener("click", () => choose(pressed ? null : name));
  return button;
}

const otherWords = (names) => (names.length === 1 ? names[0] : amount(names.length, "other owner"));
const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function scaleWords(map) {
  const { os_pages_each: each, gap_after: after, stable_os_pages: all } = map.facts;
  const gaps = map.stretches.length ? map.gap.filter((one) => one > 0).length + (after > 0) : 0;
  const parts = [each === 1 ? "A cell is one OS page of 4 KiB." : `A cell stands for ${whole(each)} OS pages of 4 KiB.`];
  parts.push(`Stable memory has ${amount(all, "OS page")}; shown are ${whole(map.shown)}, in whole 64 KiB regions.`);
  if (gaps > 0) parts.push(`Left out: ${amount(gaps, "gap")} that nobody touched.`);
  return parts.join(" ");
}

function tell(telling, map, cell, pinned) {
  if (map.step.length === 0) return telling.replaceChildren("No OS page was touched.");
  if (cell < 0) return telling.replaceChildren("Point at a cell, or move the cursor with the arrow keys.");
  if (map.gaps.has(cell)) {
    const gap = map.gaps.get(cell);
    return telling.replaceChildren(`A gap: ${amount(gap, "OS page")} (${bytes(4096 * gap)}) that nobody touched.`);
  }
  const head = make("strong", {}, pageWords(map, cell) + (pinned ? " (held)" : ""));
  const row = map.rowOfCell[cell];
  if (row < 0) return telling.replaceChildren(head, " · not touched");
  telling.replaceChildren(head, " · ", ...ownerWords(map, row), useWords(map, row), statementWords(map, row));
}

function pageWords(map, cell) {
  const [first, last] = osPagesOf(map, cell);
  if (first === last) return `OS page ${whole(first)}`;
  const gap = last - first + 1 > map.facts.os_pages_each ? ", with a gap between" : "";
  return `OS pages ${whole(first)} to ${whole(last)}${gap}`;
}

function ownerWords(map, row) {
  const { name, kind, role } = map.facts.owners[map.owner[row]];
  const told = [kind, role].filter((word) => word && !name.includes(word)).join(", ");
  const many = map.facts.os_pages_each > 1 ? "mostly " : "";
  return [many, make("bdi", {}, name), told ? ` (${told})` : ""];
}

function useWords(map, row) {
  const reads = amount(map.reads[row], "read");
  const writes = amount(map.writes[row], "write");
  const writer = map.last_writer[row];
  const written = writer < 0 ? ["never written"] : ["written last by ", messageLink(map, writer)];
  const accessed = [", accessed last by ", messageLink(map, map.last_access[row])];
  return make("div", {}, `${reads}, ${writes} · `, ...written, ...accessed);
}

function messageLink(map, index) {
  const words = `message ${whole(index)}`;
  return map.facts.statement_link === null ? words : make("a", { href: `#message-${index}` }, words);
}

function statementWords(map, row) {
  const count = map.statement_count[row];
  if (count === 0) return make("div", {}, "touched by no statement");
  const tops = [map.top_0, map.top_1, map.top_2].map((top) => top?.[row] ?? -1).filter((top) => top >= 0);
  const busiest = map.facts.os_pages_each > 1 ? "its busiest OS page: " : "";
  const most = count > tops.length ? ", most often by" : "";
  return make(
    "div",
    {},
    `${busiest}${amount(count, "statement")}${most}`,
    ...tops.map((top) => make("div", { class: "map-statement" }, statementLink(map, top))),
  );
}

// What is told is a shape; the linked row has the SQL.
function statementLink(map, index) {
  const words = make("bdi", {}, `${index} · ${map.shapeOf.get(index)}`);
  if (map.facts.statement_link === null) return words;
  return make("a", { href: `#${map.facts.statement_link}${index}` }, words);
}
