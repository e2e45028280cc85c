// What all pictures share: making elements, numbers as words, colours of the theme, unpacking.
// These files are joined into one script, so what stands here is in scope everywhere below.

// Strings of a trace may hold anything. They enter the document by textContent alone.
function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null) made.setAttribute(key, value);
  }
  for (const child of children) made.append(child);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

function makeSvg(name, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

// The language is fixed: a page says the same wherever it is opened.
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const FINE = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

const whole = (value) => WHOLE.format(value);
const short = (value) => (Math.abs(value) < 10000 ? FINE.format(value) : SHORT.format(value));
const percent = (share) => `${FINE.format(100 * share)}%`;
const amount = (count, unit) => `${whole(count)} ${unit}${count === 1 ? "" : "s"}`;

function bytes(count) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${FINE.format(count)} ${units[unit]}`;
}

// --- colours ------------------------------------------------------------------------------------

// Colours are custom properties of pictures.css, light and dark in one. What they come to, only an
// element can say that has them: it is asked anew at each drawing, so a theme needs no script.
function themeColour(element, name) {
  const probe = make("span", { hidden: "" });
  probe.style.color = `var(${name})`;
  element.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

// Canvases hold pixels: red, green, blue and opacity as one number, as Uint32Array views them.
function pixelOf(colour) {
  const [red, green, blue] = colour.match(/[\d.]+/g).map(Number);
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

function mixed(first, second, share) {
  const part = (shift) => {
    const one = (first >> shift) & 255;
    return Math.round(one + (((second >> shift) & 255) - one) * share) << shift;
  };
  return ((255 << 24) | part(16) | part(8) | part(0)) >>> 0;
}

// A scale from little to much in 256 steps, lightness rising or falling all the way, so that it
// can be read without telling hues apart, and in print.
function scalePixels(element) {
  const stops = [0, 1, 2, 3, 4].map((at) => pixelOf(themeColour(element, `--scale-${at}`)));
  return Uint32Array.from({ length: 256 }, (_, at) => {
    const place = (at / 255) * (stops.length - 1);
    const stop = Math.min(stops.length - 2, Math.floor(place));
    return mixed(stops[stop], stops[stop + 1], place - stop);
  });
}

// From 1 to `most` on a logarithmic scale, as a place in it.
function logPlace(count, most) {
  return most > 1 ? Math.round((255 * Math.log(count)) / Math.log(most)) : 255;
}

function scaleGradient(element) {
  const stops = [0, 1, 2, 3, 4].map((at) => themeColour(element, `--scale-${at}`));
  return `linear-gradient(to right, ${stops.join(", ")})`;
}

// Light and dark may come from the system, from a switch of the page, or from printing.
function onThemeChange(redraw) {
  for (const query of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(query).addEventListener("change", redraw);
  }
  new MutationObserver(redraw).observe(document.documentElement, {
    attributes: true,
    attributeFilter: ["data-theme", "class"],
  });
}

// --- data ---------------------------------------------------------------------------------------

async function gunzipped(base64) {
  const text = atob(base64);
  const packed = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) packed[at] = text.charCodeAt(at);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The lowest bytes of a column stand together, then the next ones, as they compress better so.
function columnOf(raw, start, { width, count, bias }) {
  const column = width <= 2 ? new Int32Array(count) : new Float64Array(count);
  for (let plane = 0, unit = 1; plane < width; plane += 1, unit *= 256) {
    const from = start + plane * count;
    for (let at = 0; at < count; at += 1) column[at] += raw[from + at] * unit;
  }
  if (bias) for (let at = 0; at < count; at += 1) column[at] -= bias;
  return column;
}

// Returns for each picture its facts and columns. See payload.py, which packs them.
async function unpack(base64) {
  const raw = await gunzipped(base64);
  const size = raw[0] | (raw[1] << 8) | (raw[2] << 16) | (raw[3] << 24);
  const header = JSON.parse(new TextDecoder().decode(raw.subarray(4, 4 + size)));
  const pictures = {};
  let start = 4 + size;
  for (const { id, facts, columns } of header) {
    const unpacked = {};
    for (const column of columns) {
      unpacked[column.name] = columnOf(raw, start, column);
      start += column.width * column.count;
    }
    pictures[id] = { facts, columns: unpacked };
  }
  return pictures;
}

// --- what a picture stands in -------------------------------------------------------------------

// What the cursor is on is told below the picture, and read out: politely, after what is read.
function makeTelling() {
  return make("output", { class: "picture-telling", "aria-live": "polite" });
}

function choice(label, options, chosen, onChange) {
  const select = make("select");
  for (const [value, text] of options) select.append(make("option", { value }, text));
  select.value = chosen;
  select.addEventListener("change", () => onChange(select.value));
  return make("label", {}, `${label} `, select);
}
