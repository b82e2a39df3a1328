// Addresses within the console: `#/devices/dev-7?tab=load`. What a list is filtered by stands in the address,
// so that a view can be passed on and the browser's Back leads to what was there.

/** The route of the current address; `view` is null when the address can't be read. */
export function currentRoute() {
  const text = location.hash.replace(/^#\/?/, "");
  const mark = text.indexOf("?");
  const path = mark < 0 ? text : text.slice(0, mark);
  try {
    const [view, ...parts] = path.split("/").map(decodeURIComponent);
    const query = new URLSearchParams(mark < 0 ? "" : text.slice(mark + 1));
    return { view: view || "overview", parts, query };
  } catch {
    return { view: null, parts: [], query: new URLSearchParams() };
  }
}

/** `link("devices", id)`; a last argument that is an object becomes the query. */
export function link(...parts) {
  const last = parts.at(-1);
  const values = typeof last === "object" ? parts.pop() : {};
  const path = parts.map(encodeURIComponent).join("/");
  const query = queryText(new URLSearchParams(Object.entries(values)));
  return `#/${path}${query}`;
}

/** Changes the query of the current address without going anywhere. */
export function replaceQuery(values, state = null) {
  const path = location.hash.split("?")[0] || "#/overview";
  history.replaceState(state, "", path + queryText(values));
}

/** What `replaceQuery` was given for this address. */
export function keptState() {
  return history.state;
}

function queryText(values) {
  const text = values.toString();
  return text === "" ? "" : `?${text}`;
}
