// Plays casts of asciinema's format in a page: <div class="cast"> with the cast in a script.
// Only what our stories write is understood: lines, and colours by SGR codes.
"use strict";

(() => {
  const SCENE = /^── \d+ {2}/;
  const SGR = /\x1b\[[\d;]*m/g;

  // Text with SGR codes becomes spans.
  function coloured(text) {
    const line = document.createDocumentFragment();
    let style = {};
    for (const [at, piece] of text.split(/\x1b\[([\d;]*)m/).entries()) {
      if (at % 2) {
        style = changed(style, piece.split(";").map(Number));
      } else if (piece) {
        const span = document.createElement("span");
        span.textContent = piece;
        Object.assign(span.style, style);
        line.append(span);
      }
    }
    return line;
  }

  function changed(style, codes) {
    let next = { ...style };
    for (let at = 0; at < codes.length; at++) {
      const code = codes[at];
      if (code === 0) next = {};
      else if (code === 1) next.fontWeight = "bold";
      else if (code === 2) next.opacity = "0.75";
      else if (code === 22) { delete next.fontWeight; delete next.opacity; }
      else if (code === 39) delete next.color;
      else if (code === 38 && codes[at + 1] === 2) {
        next.color = `rgb(${codes.slice(at + 2, at + 5).join(",")})`;
        at += 4;
      }
    }
    return next;
  }

  function clock(seconds) {
    return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
  }

  function button(bar, words, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = words;
    made.addEventListener("click", act);
    bar.append(made);
    return made;
  }

  function setUp(box) {
    const source = box.querySelector("script[type='application/x-asciicast']");
    if (!source || box.dataset.ready) return;
    box.dataset.ready = "1";
    const [header, ...events] = source.textContent.trim().split("\n").map((it) => JSON.parse(it));
    const end = events.at(-1)[0] + 1;
    const scenes = events.filter((it) => SCENE.test(it[2].replace(SGR, ""))).map((it) => it[0]);
    const screen = document.createElement("pre");
    screen.className = "cast-screen";
    screen.tabIndex = 0;
    screen.setAttribute("role", "img");
    screen.setAttribute("aria-label", `${header.title}, as it shows on a terminal`);
    screen.style.setProperty("--cast-rows", header.height);
    const bar = document.createElement("div");
    bar.className = "cast-bar";
    box.append(screen, bar);

    let now = 0, shown = 0, from = null, speed = 1;

    function show() {
      while (shown < events.length && events[shown][0] <= now) {
        screen.append(coloured(events[shown][2].replaceAll("\r", "")));
        shown++;
      }
      screen.scrollTop = screen.scrollHeight;
      slider.value = now;
      time.textContent = `${clock(now)} of ${clock(end)}`;
      play.textContent = from === null ? (now >= end ? "Again" : "Play") : "Pause";
    }

    function seek(seconds) {
      if (seconds < now) { screen.replaceChildren(); shown = 0; }
      now = Math.min(Math.max(seconds, 0), end);
      show();
    }

    function tick(stamp) {
      if (from === null) return;
      seek(now + ((stamp - from) / 1000) * speed);
      from = now < end ? stamp : null;
      if (from === null) show();
      else requestAnimationFrame(tick);
    }

    const play = button(bar, "Play", () => {
      if (from !== null) { from = null; show(); return; }
      if (now >= end || !box.dataset.begun) seek(0);
      box.dataset.begun = "1";
      from = performance.now();
      requestAnimationFrame(tick);
      show();
    });
    button(bar, "Previous scene", () => go(scenes.findLast((it) => it < now - 0.5) ?? 0));
    button(bar, "Next scene", () => go(scenes.find((it) => it > now + 0.01) ?? end));
    const slower = button(bar, "1 ×", () => {
      speed = speed >= 4 ? 1 : speed * 2;
      slower.textContent = `${speed} ×`;
    });
    slower.setAttribute("aria-label", "Speed");
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: 0, max: end, step: "any" });
    slider.setAttribute("aria-label", "Time");
    slider.addEventListener("input", () => go(Number(slider.value)));
    const time = document.createElement("span");
    bar.append(slider, time);

    function go(seconds) {
      box.dataset.begun = "1";
      seek(seconds);
    }

    // Before anybody presses a button: the first scene, whole.
    seek((scenes[1] ?? end) - 0.01);
  }

  const all = () => document.querySelectorAll("div.cast").forEach(setUp);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", all);
  else all();
})();
