// Charts of lines, steps and bars in SVG: axes with units, a cursor for mouse, finger and keys.

const CHART_HEIGHT = 260;
const MARGIN = { left: 64, right: 16, top: 26, bottom: 46 };

// A scale has a place from 0 to 1 for a value, and ticks. Those of bytes are round in KiB or MiB.
function linearScale(low, high, binary) {
  const span = high - low || 1;
  const ground = binary ? 1024 ** Math.floor(Math.log2(span) / 10) : 1;
  const rough = span / ground / 5;
  const unit = 10 ** Math.floor(Math.log10(rough)) * ground;
  const step = [1, 2, 5, 10].find((times) => times * unit >= rough * ground) * unit;
  const ticks = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) ticks.push(at);
  return { place: (value) => (value - low) / span, ticks };
}

// Begins with 0, as distances and sizes do: 0 lies one step of the scale before 1.
function logScale(high) {
  const whole = Math.log1p(Math.max(1, high));
  const ticks = [0, 1];
  const factor = high > 1e5 ? 100 : 10;
  for (let at = 10; at <= high; at *= factor) ticks.push(at);
  return { place: (value) => Math.log1p(value) / whole, ticks };
}

// Draws a chart. `spec`:
//   x, y: { label, largest, log, binary, words } for the axes; words turn a value into text
//   series: [{ name, kind: "line" | "step" | "bars" | "area", points: [[x, y], …] }]
//   marks: [{ x, words }], vertical lines such as a configured size
//   tell: (index) => text of the point of the first series with that index
function drawChart(element, spec) {
  const telling = makeTelling();
  telling.classList.add("chart-telling");
  const holder = make("div", {
    class: "chart-holder",
    tabindex: "0",
    role: "application",
    "aria-roledescription": "chart",
    "aria-label": `${spec.label}. Arrow keys move along it.`,
  });
  const legend = chartLegend(spec.series);
  element.replaceChildren(holder, telling, ...(legend ? [legend] : []));
  telling.textContent = spec.hint ?? "Point at the chart, or move along it with the arrow keys.";
  let cursor = -1;
  let placed = null;

  function redraw() {
    placed = chartPlaces(spec, Math.max(260, holder.clientWidth || 640));
    holder.replaceChildren(chartSvg(spec, placed));
    moveTo(cursor);
  }

  function moveTo(index) {
    cursor = index;
    const line = holder.querySelector(".chart-cursor");
    line.setAttribute("visibility", index < 0 ? "hidden" : "visible");
    if (index < 0) return;
    const x = placed.x(spec.series[0].points[index][0]);
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    telling.textContent = spec.tell(index);
  }

  function nearest(event) {
    const box = holder.getBoundingClientRect();
    const at = ((event.clientX - box.left) * placed.width) / box.width;
    let best = -1;
    let distance = Infinity;
    spec.series[0].points.forEach(([x], index) => {
      const away = Math.abs(placed.x(x) - at);
      if (away < distance) [best, distance] = [index, away];
    });
    return best;
  }

  holder.addEventListener("pointermove", (event) => moveTo(nearest(event)));
  holder.addEventListener("pointerdown", (event) => moveTo(nearest(event)));
  holder.addEventListener("keydown", (event) => {
    const last = spec.series[0].points.length - 1;
    const next = { ArrowLeft: cursor - 1, ArrowRight: cursor + 1, Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    moveTo(Math.min(last, Math.max(0, next)));
  });
  // Text keeps its size when the room changes: the chart is drawn anew, not stretched.
  let width = 0;
  new ResizeObserver(() => {
    if (holder.clientWidth === width) return;
    width = holder.clientWidth;
    redraw();
  }).observe(holder);
  redraw();
  return { moveTo, redraw };
}

function chartPlaces(spec, width) {
  const scales = [spec.x, spec.y].map(({ largest, log, binary }) =>
    log ? logScale(largest) : linearScale(0, largest, binary),
  );
  const across = width - MARGIN.left - MARGIN.right;
  const down = CHART_HEIGHT - MARGIN.top - MARGIN.bottom;
  return {
    width,
    scales,
    x: (value) => MARGIN.left + across * scales[0].place(value),
    y: (value) => MARGIN.top + down * (1 - scales[1].place(value)),
  };
}

function chartSvg(spec, placed) {
  const svg = makeSvg("svg", {
    class: "chart",
    viewBox: `0 0 ${placed.width} ${CHART_HEIGHT}`,
    "aria-hidden": "true",
  });
  drawAxes(svg, spec, placed);
  spec.series.forEach((series, nth) => drawSeries(svg, series, nth, placed));
  for (const { x, words } of spec.marks ?? []) drawMark(svg, placed, x, words);
  const cursor = { class: "chart-cursor", y1: MARGIN.top, y2: CHART_HEIGHT - MARGIN.bottom };
  svg.append(makeSvg("line", cursor));
  return svg;
}

function drawAxes(svg, { x, y }, placed) {
  const bottom = CHART_HEIGHT - MARGIN.bottom;
  const right = placed.width - MARGIN.right;
  for (const tick of placed.scales[1].ticks) {
    const at = placed.y(tick);
    svg.append(makeSvg("line", { class: "chart-grid", x1: MARGIN.left, x2: right, y1: at, y2: at }));
    svg.append(makeSvg("text", { class: "chart-tick", x: MARGIN.left - 8, y: at + 4, "text-anchor": "end" }, y.words(tick)));
  }
  let free = -Infinity;
  for (const tick of placed.scales[0].ticks) {
    const at = placed.x(tick);
    const words = x.words(tick);
    const half = words.length * 3.6;
    svg.append(makeSvg("line", { class: "chart-axis", x1: at, x2: at, y1: bottom, y2: bottom + 4 }));
    // On a phone there is not room for every number.
    if (at - half < free || at + half > placed.width) continue;
    free = at + half + 6;
    svg.append(makeSvg("text", { class: "chart-tick", x: at, y: bottom + 18, "text-anchor": "middle" }, words));
  }
  svg.append(makeSvg("line", { class: "chart-axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }));
  svg.append(makeSvg("text", { class: "chart-label", x: right, y: CHART_HEIGHT - 8, "text-anchor": "end" }, x.label));
  svg.append(makeSvg("text", { class: "chart-label", x: 4, y: 14 }, y.label));
}

function drawSeries(svg, { kind, points }, nth, placed) {
  const floor = placed.y(0);
  if (kind === "bars") {
    for (const [x, y, to] of points) {
      const left = placed.x(x);
      const bar = { class: `chart-bar series-${nth}`, x: left + 0.5, y: placed.y(y) };
      const size = { width: Math.max(1, placed.x(to) - left - 1), height: Math.max(0, floor - placed.y(y)) };
      svg.append(makeSvg("rect", { ...bar, ...size }));
    }
    return;
  }
  const parts = [];
  let before = null;
  for (const [x, y] of points) {
    const [left, top] = [placed.x(x).toFixed(1), placed.y(y).toFixed(1)];
    if (before !== null && kind !== "line") parts.push(`L${left},${before}`);
    parts.push(`${before === null ? "M" : "L"}${left},${top}`);
    before = top;
  }
  if (kind === "area" && points.length > 0) {
    const [from, to] = [points[0][0], points[points.length - 1][0]].map(placed.x);
    const closed = `${parts.join("")}L${to},${floor}L${from},${floor}Z`;
    svg.append(makeSvg("path", { class: `chart-area series-${nth}`, d: closed }));
  }
  svg.append(makeSvg("path", { class: `chart-line series-${nth}`, d: parts.join("") }));
}

function drawMark(svg, placed, at, words) {
  const x = placed.x(at);
  svg.append(makeSvg("line", { class: "chart-mark", x1: x, x2: x, y1: MARGIN.top - 4, y2: CHART_HEIGHT - MARGIN.bottom }));
  const left = x > placed.width * 0.6;
  const anchor = { x: left ? x - 6 : x + 6, y: MARGIN.top - 8, "text-anchor": left ? "end" : "start" };
  svg.append(makeSvg("text", { class: "chart-mark-words", ...anchor }, words));
}

// One series needs no legend: the axis says what it is.
function chartLegend(series) {
  if (series.length < 2) return null;
  return make("div", { class: "picture-legend" }, ...series.map(({ name }, nth) => {
    const patch = make("span", { class: `legend-swatch series-swatch-${nth}` });
    return make("span", { class: "legend-entry" }, patch, name);
  }));
}

// --- bars with names ----------------------------------------------------------------------------

// Draws rows of a name and a bar in parts, as HTML: names may be long, and wrap.
// `rows`: [{ name, parts: [number], words }]; `parts`: names of the parts.
function drawRows(element, { rows, parts }) {
  const most = Math.max(1, ...rows.map((row) => row.parts.reduce((sum, part) => sum + part, 0)));
  const list = make("div", { class: "bar-rows" });
  for (const { name, parts: values, words } of rows) {
    const bar = make("span", { class: "bar", "aria-hidden": "true" });
    values.forEach((value, nth) => {
      const part = make("span", { class: `bar-part series-swatch-${nth}` });
      part.style.width = `${(100 * value) / most}%`;
      if (value > 0) bar.append(part);
    });
    list.append(make("bdi", { class: "bar-name" }, name), bar, make("span", { class: "bar-words" }, words));
  }
  const legend = chartLegend(parts.map((name) => ({ name })));
  element.replaceChildren(list, ...(legend ? [legend] : []));
}
