// The page around sheets and pictures: its theme, its links to rows, and what paper needs.

const THEMES = ["system", "light", "dark"];

function startTheme() {
  const button = document.getElementById("theme");
  let at = 0;
  button.hidden = false;
  button.addEventListener("click", () => {
    at = (at + 1) % THEMES.length;
    if (at === 0) delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = THEMES[at];
    button.textContent = `Theme: ${THEMES[at]}`;
  });
}

// A link such as #statement-12 opens that row, on whatever part of its sheet it stands.
function followLink() {
  const found = /^#([a-z]+)-(\d+)$/.exec(location.hash);
  if (found === null) return;
  const sheet = Object.values(SHEETS).find((it) => it.noun === found[1]);
  sheet?.show(Number(found[2]));
}

// On paper nothing can be opened or turned: all is there, up to what a stack of paper holds.
function startPrinting() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const it of opened) it.open = true;
    for (const it of Object.values(SHEETS)) it.print(true);
  });
  addEventListener("afterprint", () => {
    for (const it of opened) it.open = false;
    for (const it of Object.values(SHEETS)) it.print(false);
  });
}

async function startSheets() {
  const sheets = await unpack(document.getElementById("sheets-data").textContent);
  for (const [id, data] of Object.entries(sheets)) {
    const element = document.querySelector(`[data-sheet="${id}"]`);
    if (element !== null) drawSheet(element, data);
  }
  document.documentElement.dataset.sheets = "ready";
  followLink();
  addEventListener("hashchange", followLink);
  // A second click on the same link changes no address.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link !== null && link.getAttribute("href") === location.hash) followLink();
  });
}

startTheme();
startPrinting();
startSheets();
