// How stable memory grew, and how much of it messages had touched by then.

function drawGrowth(element, { facts }) {
  const { messages, stable_bytes: stable, touched_bytes: touched } = facts;
  const last = messages.length ? messages[messages.length - 1] : 1;
  drawChart(element, {
    label: "Growth of stable memory",
    x: { label: "message", largest: Math.max(1, last), words: short },
    y: { label: "bytes", largest: Math.max(1, ...stable), binary: true, words: bytes },
    series: [
      { name: "size of stable memory", kind: "step", points: messages.map((at, nth) => [at, stable[nth]]) },
      { name: "OS pages touched so far", kind: "area", points: messages.map((at, nth) => [at, touched[nth]]) },
    ],
    tell: (at) => `after message ${whole(messages[at])}: ${bytes(stable[at])}, touched so far ${bytes(touched[at])}`,
  });
}
