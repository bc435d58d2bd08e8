
import { Parser } from "@asyncapi/parser";
import { readFileSync } from "fs";
for (const text of JSON.parse(readFileSync(0, "utf8"))) {
  const { diagnostics } = await new Parser().parse(text);
  for (const found of diagnostics.filter((each) => each.severity === 0))
    console.log(found.path.join("/"), found.message);
}
