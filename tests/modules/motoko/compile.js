// Compiles the canisters beside this file: node compile.js FOLDER
const fs = require("fs");
const path = require("path");
const mo = require("motoko");

const here = __dirname;
const folder = process.argv[2];
const core = require("motoko/packages/latest/core.json");

mo.loadPackage(core);
mo.setPublicMetadata(["candid:service", "candid:args"]);
for (const name of ["Notes", "Relay"]) {
  mo.write(`${name}.mo`, fs.readFileSync(path.join(here, `${name}.mo`), "utf8"));
  const compiled = mo.wasm(`${name}.mo`, "ic");
  fs.writeFileSync(path.join(folder, `${name.toLowerCase()}.wasm`), compiled.wasm);
}
