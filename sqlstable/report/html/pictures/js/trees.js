// OS pages that were touched, by tree and by what they are in it.

function drawTrees(element, { facts }) {
  const rows = facts.trees.map(({ name, kind, pages }) => ({
    name,
    parts: pages,
    words: `${kind}, ${amount(pages.reduce((sum, one) => sum + one, 0), "OS page")}`,
  }));
  drawRows(element, { rows, parts: facts.roles });
}
