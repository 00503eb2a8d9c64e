// The reference of the API, drawn from its own description.

const make = (tag, content = "", properties = {}) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...[content].flat());
  return node;
};

/** What a schema allows, in a few words. */
const kind = (schema = {}, root) => {
  if (schema.$ref) return kind(schema.$ref.slice(2).split("/").reduce((at, name) => at[name], root), root);
  if (schema.anyOf) return schema.anyOf.map((option) => kind(option, root)).filter((text) => text !== "null").join(" or ");
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.format === "binary") return "file";
  const bounds = [
    schema.minimum !== undefined && `from ${schema.minimum}`,
    schema.maximum !== undefined && `to ${schema.maximum}`,
    schema.maxLength !== undefined && `at most ${schema.maxLength} characters`,
  ].filter(Boolean);
  return [schema.type ?? "anything", ...bounds].join(" ");
};

const table = (head, rows) => {
  const cells = (tag, values) => make("tr", values.map((value) => make(tag, value)));
  return make("div", make("table", [make("thead", cells("th", head)), make("tbody", rows.map((row) => cells("td", row)))]), {
    className: "wide", tabIndex: 0, role: "group", ariaLabel: head[0],
  });
};

const fields = (schema, root) =>
  Object.entries(schema.properties ?? {}).map(([name, field]) => [
    make("code", name),
    kind(field, root) + (schema.required?.includes(name) ? ", required" : ""),
    field.default === undefined || field.default === null ? "" : String(field.default),
    field.description ?? "",
  ]);

const example = (method, path, form) => {
  const files = form ? ["image"].concat(form.properties.mask ? ["mask"] : []) : [];
  const parts = files.map((name) => ` -F ${name}=@${name}.png`).join("");
  const address = new URL(`.${path}`, document.baseURI).href;
  return `curl${method === "get" ? "" : ` -X ${method.toUpperCase()}`}${parts} "${address}"`;
};

const operation = (path, method, about, root) => {
  const content = about.requestBody?.content ?? {};
  const form = content["multipart/form-data"]?.schema;
  const parts = [
    make("summary", [make("code", [make("span", method.toUpperCase(), { className: "method" }), path]), ` ${about.summary ?? ""}`]),
    make("pre", make("code", example(method, path, form)), { tabIndex: 0 }),
  ];
  const head = ["Name", "Kind", "Default", "What it is"];
  if (form) {
    const other = Object.keys(content).filter((type) => type !== "multipart/form-data");
    parts.push(make("h3", `Form${other.length ? `, or a body of ${other.join(", ")} and the query` : ", or the query"}`), table(head, fields(form, root)));
  }
  const elsewhere = (about.parameters ?? []).filter(({ name }) => !form?.properties[name]);
  if (elsewhere.length) {
    const rows = elsewhere.map(({ name, in: where, required, schema }) => [
      make("code", name), `${where}, ${kind(schema, root)}${required ? ", required" : ""}`, "", schema?.description ?? "",
    ]);
    parts.push(make("h3", "Parameters"), table(head, rows));
  }
  const answers = Object.entries(about.responses ?? {}).map(([status, { description, content: types }]) => [
    status, Object.keys(types ?? {}).join(", "), description,
  ]);
  parts.push(make("h3", "Answers"), table(["Status", "Type", "What it says"], answers));
  return make("details", parts);
};

const main = document.getElementById("routes");
try {
  const root = await (await fetch("openapi.json")).json();
  const groups = new Map();
  for (const [path, methods] of Object.entries(root.paths)) {
    for (const [method, about] of Object.entries(methods)) {
      const group = about.tags?.[0] ?? "other";
      groups.set(group, [...(groups.get(group) ?? []), operation(path, method, about, root)]);
    }
  }
  main.replaceChildren(...[...groups].flatMap(([group, operations]) => [make("h2", group), ...operations]));
} catch {
  main.replaceChildren(make("p", "The description of the API did not come; load this page again."));
}
