// Reuse distances: how many other OS pages were touched before one was touched again.

function drawReuse(element, { facts }) {
  const bins = facts.bins;
  const largest = bins.length ? bins[bins.length - 1].to : 1;
  drawChart(element, {
    label: "Histogram of reuse distances",
    x: { label: "reuse distance, in OS pages", largest, log: true, words: short },
    y: { label: "touches", largest: Math.max(1, ...bins.map((bin) => bin.touches)), words: short },
    series: [{ name: "touches", kind: "bars", points: bins.map((bin) => [bin.from, bin.touches, bin.to]) }],
    tell: (at) => {
      const { from, to, touches } = bins[at];
      const distance = to === from + 1 ? `distance ${whole(from)}` : `distance ${whole(from)} to ${whole(to - 1)}`;
      return `${distance}: ${whole(touches)} touches, ${percent(touches / facts.touches)} of all`;
    },
    hint: `${whole(facts.first_touches)} of ${whole(facts.touches)} touches were of an OS page never touched before.`,
  });
}
