// When which OS pages were touched: time from left to right, stable memory from top to bottom.

function drawPageTime(element, { facts, columns }) {
  const { rows, bins } = facts;
  const canvas = make("canvas", {
    tabindex: "0",
    role: "application",
    "aria-roledescription": "plot",
    "aria-label": "Touches of OS pages by time. Arrow keys move the cursor, Home and End go to the ends.",
  });
  const mark = make("div", { class: "map-mark", hidden: "" });
  const sheet = make("div", { class: "map-sheet time-sheet" }, canvas, mark);
  const owners = make("canvas", { class: "time-owners", "aria-hidden": "true" });
  const telling = makeTelling();
  const legend = make("div", { class: "picture-legend" });
  const view = { which: "all", x: -1, y: -1 };
  const controls = make("div", { class: "picture-controls" }, choice("Show", [["all", "reads and writes"], ["reads", "reads"], ["writes", "writes"]], "all", (which) => {
    view.which = which;
    redraw();
  }));
  const ends = make("div", { class: "time-ends", "aria-hidden": "true" }, make("span", {}, "access 0"), make("span", {}, `time, in accesses`), make("span", {}, whole(facts.access_count)));
  element.replaceChildren(controls, make("div", { class: "time-places", "aria-hidden": "true" }, `${placeWords(0)} at the top; beside it, whose it is`), make("div", { class: "time-plot" }, make("div", { class: "time-strip" }, owners), sheet), ends, telling, legend);

  function count(x, y) {
    const at = x * bins + y;
    const reads = view.which === "writes" ? 0 : columns.reads[at];
    return reads + (view.which === "reads" ? 0 : columns.writes[at]);
  }

  function redraw() {
    canvas.width = Math.max(1, rows);
    canvas.height = Math.max(1, bins);
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    const scale = scalePixels(element);
    const none = pixelOf(themeColour(element, "--map-untouched"));
    let most = 1;
    for (let x = 0; x < rows; x += 1) for (let y = 0; y < bins; y += 1) most = Math.max(most, count(x, y));
    for (let x = 0; x < rows; x += 1) {
      for (let y = 0; y < bins; y += 1) {
        const touches = count(x, y);
        pixels[y * rows + x] = touches === 0 ? none : scale[logPlace(touches, most)];
      }
    }
    context.putImageData(image, 0, 0);
    drawOwners(none);
    legend.replaceChildren(...logLegend(element, "1 touch", most), swatch(element, "--map-untouched", "none"));
  }

  // Beside the plot, in the colours of the map: which rows are whose.
  function drawOwners(none) {
    owners.width = 1;
    owners.height = canvas.height;
    const context = owners.getContext("2d");
    const image = context.createImageData(1, canvas.height);
    const colours = facts.owners.map(({ colour }) => pixelOf(ownerColour(element, colour)));
    const pixels = new Uint32Array(image.data.buffer);
    for (let y = 0; y < bins; y += 1) pixels[y] = columns.owner[y] < 0 ? none : colours[columns.owner[y]];
    context.putImageData(image, 0, 0);
  }

  function moveTo(x, y) {
    Object.assign(view, { x, y });
    mark.hidden = x < 0;
    if (x < 0) return;
    mark.style.left = `${(100 * x) / rows}%`;
    mark.style.top = `${(100 * y) / bins}%`;
    mark.style.width = `${100 / rows}%`;
    mark.style.height = `${100 / bins}%`;
    telling.replaceChildren(make("strong", {}, timeWords(x)), " · ", placeWords(y), ...binOwner(y), make("br"), `${amount(columns.reads[x * bins + y], "read")}, ${amount(columns.writes[x * bins + y], "write")}`);
  }

  function timeWords(x) {
    const first = x * facts.accesses_each;
    const last = Math.min(facts.access_count, first + facts.accesses_each) - 1;
    const accesses = first === last ? `access ${whole(first)}` : `accesses ${whole(first)} to ${whole(last)}`;
    return `${accesses}, from message ${whole(columns.first_message[x])}`;
  }

  function binOwner(y) {
    if (columns.owner[y] < 0) return [];
    return [facts.os_pages_each === 1 ? ", " : ", mostly ", make("bdi", {}, facts.owners[columns.owner[y]].name)];
  }

  function placeWords(y) {
    const page = whole(columns.first_os_page[y] ?? 0);
    return facts.os_pages_each === 1 ? `OS page ${page}` : `${amount(facts.os_pages_each, "OS page")} from ${page} on`;
  }

  function move(event) {
    const box = canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) * rows) / box.width);
    const y = Math.floor(((event.clientY - box.top) * bins) / box.height);
    if (x >= 0 && y >= 0 && x < rows && y < bins) moveTo(x, y);
  }

  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerdown", move);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-rows, 0], End: [rows, 0] }[event.key];
    if (step === undefined || rows === 0) return;
    event.preventDefault();
    const within = (value, most) => Math.min(most - 1, Math.max(0, value));
    moveTo(within(view.x + step[0], rows), within(view.y + step[1], bins));
  });
  telling.textContent = rows === 0 ? "Nothing was accessed." : "Point at the plot, or move the cursor with the arrow keys.";
  onThemeChange(redraw);
  redraw();
}
