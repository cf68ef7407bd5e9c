// Plays an asciicast in the core of the real asciinema-player, without a browser, and prints what it did.
//   node play.mjs PACKAGE RECORDING
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [, , packageFolder, recording] = process.argv;
const dist = join(packageFolder, "dist");
const core = readdirSync(dist).find((name) => name.startsWith("core-"));
const { C: Core } = await import(pathToFileURL(join(dist, core)));

const silent = new Proxy({}, { get: () => () => {} });
const player = new Core({ data: readFileSync(recording, "utf8") }, { logger: silent, speed: 20 });
const played = { duration: null, size: null, markers: null, output: "", input: "", resizes: [], ended: false };
player.addEventListener("metadata", ({ duration, markers }) => { Object.assign(played, { duration, markers }); });
player.addEventListener("reset", ({ size, cols, rows }) => { played.size ??= [size?.cols ?? cols, size?.rows ?? rows]; });
player.addEventListener("output", (data) => { played.output += data; });
player.addEventListener("input", (data) => { played.input += data.data; });
player.addEventListener("resize", ({ cols, rows }) => played.resizes.push([cols, rows]));
const ended = new Promise((resolve) => player.addEventListener("ended", resolve));
player.terminalReady();
await player.init();
await player.play();
await ended;
played.ended = true;
process.stdout.write(JSON.stringify(played));
process.exit(0);
