// The working-set curve: OS pages touched in a window of that many touches, on average.

function drawWorkingSet(element, { facts }) {
  const points = facts.points;
  const [window, size] = points.length ? points[points.length - 1] : [1, 1];
  drawChart(element, {
    label: "Working-set curve",
    x: { label: "window, in touches", largest: window, log: true, words: short },
    y: { label: "OS pages in the working set, on average", largest: size, words: short },
    series: [{ name: "working set", kind: "line", points }],
    tell: (at) => `a window of ${whole(points[at][0])} touches: ${short(points[at][1])} OS pages`,
  });
}
