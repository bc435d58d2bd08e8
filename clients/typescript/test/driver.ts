/** The driven client in Node: a line of JSON for each command, and for all that is told. */

import * as modules from "node:module";
import { createInterface } from "node:readline";

import { driven } from "./commands.ts";

modules.flushCompileCache?.(); // It is going to be killed. (Deno has no such cache.)
const run = driven(process.argv[2]!, (what) => process.stdout.write(JSON.stringify(what) + "\n"));
for await (const line of createInterface({ input: process.stdin })) run(JSON.parse(line));
