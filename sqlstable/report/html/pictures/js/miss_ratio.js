// The miss-ratio curve: what a cache of each size would have had to fetch.

function drawMissRatio(element, { facts }) {
  const points = facts.points;
  const largest = points.length ? points[points.length - 1][0] : 1;
  const { configured, unit } = facts;
  const marks = configured === null ? [] : [{ x: configured, words: `configured: ${whole(configured)}` }];
  drawChart(element, {
    label: "Miss-ratio curve",
    x: { label: `size of the cache, in ${unit}s`, largest: Math.max(largest, configured ?? 0), log: true, words: short },
    y: { label: "miss ratio", largest: 1, words: (share) => percent(share) },
    series: [{ name: "misses", kind: "area", points }],
    marks,
    tell: (at) => `a cache of ${amount(points[at][0], unit)}: ${percent(points[at][1])} of touches miss`,
  });
}
