// Writes the JSON Schemas beside this file from the types of @grafana/schema (Apache-2.0), the one package that has those
// of Grafana's own panels. Once for each version of it, in a folder of its own:
//
//   npm install @grafana/schema@12.4.10 ts-json-schema-generator@2.9.0 typescript@5.9.3
//   node .../grafana/lint/schema/generate.mjs
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

const { createGenerator } = createRequire(path.join(process.cwd(), "x.js"))("ts-json-schema-generator");
const types = "node_modules/@grafana/schema/dist/types/raw";
const panels = {
  bargauge: "bargauge", gauge: "gauge", heatmap: "heatmap", piechart: "piechart", stat: "stat",
  "state-timeline": "statetimeline", table: "table", text: "text", timeseries: "timeseries",
};
const roots = [["dashboard", "dashboard/x", "Dashboard"]];
for (const [type, folder] of Object.entries(panels))
  for (const name of ["Options", "FieldConfig"]) roots.push([`${type}.${name}`, `composable/${folder}/panelcfg/x`, name]);

// Grafana fills in what a file leaves out.
const optional = (node) =>
  Array.isArray(node) ? node.map(optional)
  : node && typeof node === "object"
    ? Object.fromEntries(Object.entries(node).filter(([key, value]) => !(key === "required" && Array.isArray(value)))
        .map(([key, value]) => [key, optional(value)]))
    : node;

for (const [name, folder, type] of roots) {
  const file = `${types}/${folder}/types.gen.d.ts`;
  if (!new RegExp(`\\b${type}\\b`).test(fs.readFileSync(file, "utf8"))) continue;
  const settings = { path: file, type, skipTypeCheck: true, additionalProperties: false, jsDoc: "none" };
  const schema = optional(createGenerator(settings).createSchema(type));
  fs.writeFileSync(path.join(import.meta.dirname, `${name}.json`), `${JSON.stringify(schema, null, 1)}\n`);
}
