// Makes the two files that a report contains, and the checksums that a test compares.
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = dirname(HERE);
const BUNDLE = join(ROOT, "ssimpert/report/html/bundle");
const AXE = join(ROOT, "tests/ssimpert/report/html/axe");

const shared = { bundle: true, minify: true, target: "es2022", charset: "ascii", legalComments: "none" };
await build({
  ...shared,
  entryPoints: [join(HERE, "src/report.js")],
  format: "iife",
  outfile: join(BUNDLE, "report.js"),
});
await build({ ...shared, entryPoints: [join(HERE, "src/report.css")], outfile: join(BUNDLE, "report.css") });

// Only the tests need axe-core; it is not part of the package.
mkdirSync(AXE, { recursive: true });
const axe = join(HERE, "node_modules/axe-core");
copyFileSync(join(axe, "axe.min.js"), join(AXE, "axe.min.js"));
copyFileSync(join(axe, "LICENSE"), join(AXE, "LICENSE"));

const sources = readdirSync(join(HERE, "src")).map((name) => join(HERE, "src", name));
const settled = ["build.mjs", "package.json", "package-lock.json"].map((name) => join(HERE, name));
const made = [join(BUNDLE, "report.css"), join(BUNDLE, "report.js"), join(AXE, "axe.min.js"), join(AXE, "LICENSE")];
const lines = [...settled, ...sources, ...made]
  .map((path) => `${createHash("sha256").update(readFileSync(path)).digest("hex")}  ${relative(ROOT, path)}`)
  .sort((one, other) => (one.slice(66) < other.slice(66) ? -1 : 1));
writeFileSync(join(HERE, "SHA256SUMS"), `${lines.join("\n")}\n`);
