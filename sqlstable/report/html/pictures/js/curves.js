// Where the n-th cell of a picture lies. The same curves as analysis/curves.py, which explains them.

const SIDE_MAX = 64;

function sideFor(count) {
  let side = 1;
  while (side < SIDE_MAX && 4 * side * side <= count) side *= 2;
  return side;
}

function widthFor(count) {
  const side = sideFor(count);
  return side * Math.ceil(Math.sqrt(Math.ceil(Math.max(count, 1) / (side * side))));
}

function hilbertPlace(along, side) {
  let x = 0;
  let y = 0;
  for (let square = 1; square < side; square *= 2) {
    const right = (along >> 1) & 1;
    const lower = (along ^ right) & 1;
    if (lower === 0) {
      if (right === 1) [x, y] = [square - 1 - x, square - 1 - y];
      [x, y] = [y, x];
    }
    x += square * right;
    y += square * lower;
    along >>= 2;
  }
  return y * side + x;
}

// Returns for each cell its pixel, counted line by line in a picture of that width.
function pixelsOfCells(name, count, width) {
  const pixels = new Int32Array(count);
  if (name === "hilbert") {
    const side = sideFor(count);
    const area = side * side;
    const across = width / side;
    // One curve serves all of them.
    const curve = Int32Array.from({ length: area }, (_, at) => {
      const place = hilbertPlace(at, side);
      return Math.floor(place / side) * width + (place % side);
    });
    for (let cell = 0; cell < count; cell += 1) {
      const nth = Math.floor(cell / area);
      const corner = Math.floor(nth / across) * side * width + (nth % across) * side;
      pixels[cell] = corner + curve[cell % area];
    }
    return pixels;
  }
  for (let cell = 0; cell < count; cell += 1) {
    const line = Math.floor(cell / width);
    const turned = name === "snake" && line % 2 === 1;
    pixels[cell] = turned ? (2 * line + 1) * width - 1 - cell : cell;
  }
  return pixels;
}
