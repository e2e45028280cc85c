// B-trees by the parts of them: what a table or an index consists of.

function drawTrees(element, { facts }) {
  const rows = facts.trees.map(({ name, pages, words }) => ({ name, parts: pages, words }));
  drawRows(element, { rows, parts: facts.roles });
}
