// How full the 64 KiB regions are that messages were charged for.

function drawRegions(element, { facts }) {
  const bars = (counts) => counts.map((count, at) => [at + 0.55, count, at + 1.45]);
  const { accessed, dirty } = facts;
  drawChart(element, {
    label: "Fullness of regions",
    x: { label: "OS pages touched of the 16 in a region", largest: 17, words: short },
    y: { label: "regions charged", largest: Math.max(1, ...accessed, ...dirty), words: short },
    series: [
      { name: "first accessed", kind: "bars", points: bars(accessed) },
      { name: "first written", kind: "bars", points: bars(dirty).map(([from, y, to]) => [from + 0.25, y, to - 0.25]) },
    ],
    tell: (at) => `${amount(at + 1, "OS page")} of 16: ${amount(accessed[at], "region")} accessed, ${whole(dirty[at])} written`,
    hint: facts.words,
  });
}
