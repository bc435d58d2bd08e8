/** The driven client in Node: a line of JSON for each command, and for all that is told. */

import { flushCompileCache } from "node:module";
import { createInterface } from "node:readline";

import { driven } from "./commands.ts";

flushCompileCache(); // It is going to be killed.
const run = driven(process.argv[2]!, (what) => process.stdout.write(JSON.stringify(what) + "\n"));
for await (const line of createInterface({ input: process.stdin })) run(JSON.parse(line));
