// The hot set: the fewest OS pages that have half of the touches, nine in ten, and so on.

function drawHotSet(element, { facts }) {
  const rows = facts.shares.map(([share, pages]) => ({
    name: `${percent(share)} of touches`,
    parts: [pages, facts.distinct - pages],
    words: `${amount(pages, "OS page")}, ${percent(facts.distinct ? pages / facts.distinct : 0)}`,
  }));
  drawRows(element, { rows, parts: ["hot", "the rest of those touched"] });
}
