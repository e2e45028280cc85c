// Draws each picture of a page into its place, and says when all of them stand.

const PICTURES = {
  "page-map": drawMap,
  "page-time": drawPageTime,
  reuse: drawReuse,
  "miss-ratio": drawMissRatio,
  "working-set": drawWorkingSet,
  regions: drawRegions,
  "hot-set": drawHotSet,
  growth: drawGrowth,
  trees: drawTrees,
};

async function start() {
  performance.mark("pictures-begin");
  const pictures = await unpack(document.getElementById("pictures-data").textContent);
  performance.mark("pictures-unpacked");
  for (const [id, data] of Object.entries(pictures)) {
    const element = document.querySelector(`[data-picture="${id}"]`);
    if (element === null) continue;
    const kind = element.dataset.drawnAs;
    const drawn = PICTURES[kind](element, data);
    if (kind === "page-map") element.map = drawn;
  }
  performance.mark("pictures-ready");
  document.documentElement.dataset.ready = "true";
}

start();
