// The front end of ExemplarPicker: thumbnails, keyboard, picks and the compare pane.
// Opacity, outline, filters and sorting live here alone; only picks reach the kernel.

const MARKS = { good: "\u2713", bad: "\u2715" };
const OTHER = { good: "bad", bad: "good" };
const KEYS_HELP =
  "Arrow keys move, g marks good, b marks bad, the same key again takes it back, " +
  "u undoes, Escape leaves the grid.";

/** An element with attributes (functions become listeners) and children. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const percent = (share) => (share == null ? "–" : `${Math.round(share * 100)}%`);

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

/** The synced state as a list of items, and the measures of sheet and maps. */
function readState(model) {
  const rows = model.get("_rows");
  const maps = bytes(model.get("_maps"));
  const [p, q] = rows.map;
  const items = rows.index.map((row, at) => ({
    at,
    row,
    label: rows.classes[rows.label[at]],
    predicted: rows.classes[rows.predicted[at]],
    right: rows.label[at] === rows.predicted[at],
    share: rows.share?.[at],
    confidence: rows.confidence?.[at],
    map: maps.subarray(at * p * q, (at + 1) * p * q),
  }));
  return { ...rows, items, colours: bytes(model.get("_colours")) };
}

/** Where bilinear resizing from `from` to `to` pixels (half-pixel centres) reads each pixel. */
function taps(from, to) {
  return Array.from({ length: to }, (_, i) => {
    const x = Math.min(Math.max(((i + 0.5) * from) / to - 0.5, 0), from - 1);
    const low = Math.min(Math.floor(x), Math.max(from - 2, 0));
    return [low, Math.min(low + 1, from - 1), x - low];
  });
}

/** A map of p x q bytes resized to height x width numbers from 0 to 255. */
function upsample(map, [p, q], [height, width]) {
  const out = new Float32Array(height * width);
  const columns = taps(q, width);
  let k = 0;
  for (const [top, bottom, down] of taps(p, height)) {
    const line = new Float32Array(q);
    for (let x = 0; x < q; x++)
      line[x] = map[top * q + x] * (1 - down) + map[bottom * q + x] * down;
    for (const [left, right, along] of columns)
      out[k++] = line[left] * (1 - along) + line[right] * along;
  }
  return out;
}

/** Colour a resized map; with `veil` it is clear where the map is zero. */
function paintMap(canvas, values, colours, veil) {
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < values.length; i++) {
    const level = Math.round(values[i]);
    pixels.data[4 * i] = colours[3 * level];
    pixels.data[4 * i + 1] = colours[3 * level + 1];
    pixels.data[4 * i + 2] = colours[3 * level + 2];
    pixels.data[4 * i + 3] = veil ? Math.sqrt(values[i] / 255) * 255 : 255;
  }
  context.putImageData(pixels, 0, 0);
}

/** The line where a resized map crosses `level`, by marching squares. */
function contour(values, width, height, level) {
  const path = new Path2D();
  const crossing = (x0, y0, x1, y1) => {
    const a = values[y0 * width + x0] - level;
    const b = values[y1 * width + x1] - level;
    const t = a / (a - b);
    return a < 0 === b < 0 ? [] : [[x0 + t * (x1 - x0) + 0.5, y0 + t * (y1 - y0) + 0.5]];
  };
  for (let y = 0; y + 1 < height; y++)
    for (let x = 0; x + 1 < width; x++) {
      const i = y * width + x;
      const above = (values[i] >= level) + (values[i + 1] >= level);
      const sum = above + (values[i + width] >= level) + (values[i + width + 1] >= level);
      if (sum === 0 || sum === 4) continue; // nearly all squares; keeps 300 maps quick
      const points = [
        ...crossing(x, y, x + 1, y), ...crossing(x + 1, y, x + 1, y + 1),
        ...crossing(x, y + 1, x + 1, y + 1), ...crossing(x, y, x, y + 1),
      ];
      for (let j = 0; j + 1 < points.length; j += 2) {
        path.moveTo(...points[j]);
        path.lineTo(...points[j + 1]);
      }
    }
  return path;
}

/** Outline the upper half of a map: a light line in a dark casing shows on any X-ray. */
function paintOutline(canvas, values) {
  const context = canvas.getContext("2d");
  const path = contour(values, canvas.width, canvas.height, 127.5);
  for (const [strokeStyle, share] of [["#0008", 0.028], ["#6ff2ff", 0.013]]) {
    Object.assign(context, { strokeStyle, lineWidth: share * canvas.width, lineCap: "round" });
    context.stroke(path);
  }
}

/** What draws one image, map, product or outline of the picker's data as a canvas. */
function painter(state, sheet) {
  const size = state.image;
  const [height, width] = size;
  const blank = (kind) => h("canvas", { class: `xbl-${kind}`, width, height });
  const image = ({ at }, canvas = blank("image")) => {
    const [x, y] = [(at % state.across) * width, Math.floor(at / state.across) * height];
    canvas.getContext("2d").drawImage(sheet, x, y, width, height, 0, 0, width, height);
    return canvas;
  };
  const map = (item, veil) => {
    const canvas = blank(veil ? "veil" : "map");
    paintMap(canvas, upsample(item.map, state.map, size), state.colours, veil);
    return canvas;
  };
  const outline = (item) => {
    const canvas = blank("outline");
    paintOutline(canvas, upsample(item.map, state.map, size));
    return canvas;
  };
  const product = (item) => {
    const canvas = image(item, blank("product"));
    const pixels = canvas.getContext("2d").getImageData(0, 0, width, height);
    upsample(item.map, state.map, size).forEach((value, i) => {
      for (let c = 4 * i; c < 4 * i + 3; c++) pixels.data[c] *= value / 255;
    });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  };
  return { image, map, outline, product };
}

/** The picks as lists of rows, whatever form the model keeps them in; only picks are undone. */
function makePicks(model, several) {
  const past = [];
  const of = (kind) => (several ? model.get(kind) : [model.get(kind)].filter((r) => r != null));
  const store = (picks) => {
    for (const kind of ["good", "bad"])
      model.set(kind, several ? picks[kind] : (picks[kind][0] ?? null));
    model.save_changes();
  };
  const toggle = (kind, row) => {
    const before = { good: of("good"), bad: of("bad") };
    const without = (rows) => rows.filter((other) => other !== row);
    const had = before[kind].includes(row);
    const kept = several || had ? without(before[kind]) : [];
    past.push(before);
    store({ [kind]: had ? kept : [...kept, row], [OTHER[kind]]: without(before[OTHER[kind]]) });
    return !had;
  };
  const undo = () => past.length > 0 && (store(past.pop()), true);
  const kindOf = (row) => ["good", "bad"].find((kind) => of(kind).includes(row));
  return { of, toggle, undo, kindOf };
}

const badge = (kind) =>
  h("span", { class: `xbl-badge xbl-${kind}`, "aria-hidden": "true" }, `${MARKS[kind]} ${kind}`);

const verdict = (item) =>
  item.right ? `${item.label}, predicted right` : `${item.label}, predicted ${item.predicted}`;

/** One thumbnail: an option of the listbox, with its layers and caption. */
function makeThumbnail(item, paint) {
  const picture = h("div", { class: "xbl-picture" }, paint.image(item), paint.map(item, true));
  const caption = h("div", { class: "xbl-caption", "aria-hidden": "true" },
    h("span", {}, item.label),
    ...(item.right ? [] : [h("span", { class: "xbl-wrong" }, `\u2192 ${item.predicted}`)]),
    h("span", { class: "xbl-figures" }, `#${item.row}`, h("span", { class: "xbl-measure" })));
  return h("div", { role: "option", tabindex: -1, class: "xbl-option", title: verdict(item) },
    picture, caption);
}

/** Both picks at full size: image, map and their product, which is what eXBL compares. */
function makeCard(kind, rows, byRow, paint) {
  const figure = (canvas, name) => {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", name);
    return h("figure", {}, canvas, h("figcaption", { "aria-hidden": "true" }, name));
  };
  const shown = rows.map((row) => {
    const item = byRow.get(row);
    const lungs = item.share == null ? "" : `, ${percent(item.share)} in the lungs`;
    return h("div", { class: "xbl-pick" },
      h("p", {}, h("b", {}, `Row ${row}`), `: ${verdict(item)}${lungs}`),
      h("div", { class: "xbl-triple" }, figure(paint.image(item), "image"),
        figure(paint.map(item, false), "map"), figure(paint.product(item), "image \u00d7 map")));
  });
  const empty = h("p", { class: "xbl-none" }, `No ${kind} explanation yet: press ${kind[0]}.`);
  return h("section", { class: `xbl-card xbl-${kind}`, "aria-label": `${kind} picks` },
    badge(kind), ...(shown.length ? shown : [empty]));
}

const select = (label, options, change) =>
  h("label", {}, label, h("select", { onchange: change },
    ...options.map(([value, text]) => h("option", { value }, text))));

function sortOptions(state) {
  const known = [["share", "in lungs"], ["confidence", "confidence"]];
  return [["row,1", "row"]].concat(
    known.filter(([key]) => state[key]).flatMap(([key, text]) =>
      [[`${key},-1`, `${text}, high first`], [`${key},1`, `${text}, low first`]]));
}

/** Order by a measure; items without one (an empty map has no share) come last. */
function compareBy(key, sign) {
  return (a, b) => (a[key] == null) - (b[key] == null) || sign * (a[key] - b[key]) || a.row - b.row;
}

/** Jupyter reads keys before the page does; this attribute on what has the focus, no ancestor,
 * keeps "b" from inserting a cell. Control and Command lift it: saving must still work. */
function keepKeys(root) {
  const guard = (event, on) => event.target.toggleAttribute("data-lm-suppress-shortcuts", on);
  root.addEventListener("focusin", (event) => guard(event, true));
  root.addEventListener("keyup", (event) => guard(event, true));
  root.addEventListener("keydown", (event) => {
    if (event.key === "Control" || event.key === "Meta") guard(event, false);
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  });
}

async function render({ model, el }) {
  const state = readState(model);
  const sheet = await createImageBitmap(new Blob([bytes(model.get("_sheet"))]));
  const paint = painter(state, sheet);
  const picks = makePicks(model, state.several);
  const byRow = new Map(state.items.map((item) => [item.row, item]));
  const view = { label: "", right: "", sort: "row,1" };
  let shown = [];
  let current = state.items[0];

  const grid = h("div", {
    role: "listbox", class: "xbl-grid", "aria-multiselectable": "true",
    "aria-label": "Explanations", "aria-description": KEYS_HELP, onkeydown: onKey,
    onfocusin: (event) => setCurrent(event.target.item ?? current),
  });
  const count = h("output", { class: "xbl-count", "aria-label": "shown" });
  const live = h("div", { class: "xbl-hidden", role: "status", "aria-live": "polite" });
  const compare = h("div", { class: "xbl-compare" });
  const classes = state.classes.map((name) => [name, name]);
  const opacity = h("input", { type: "range", min: 0, max: 100, step: 5, value: 55,
    oninput: () => root.style.setProperty("--xbl-opacity", opacity.value / 100) });
  const toolbar = h("div", { class: "xbl-bar", role: "group", "aria-label": "View" },
    select("Class", [["", "all"], ...classes], (e) => look({ label: e.target.value })),
    select("Prediction", [["", "all"], ["true", "right"], ["false", "wrong"]],
      (e) => look({ right: e.target.value })),
    select("Sort", sortOptions(state), (e) => look({ sort: e.target.value })),
    h("label", {}, "Map opacity", opacity),
    h("label", {}, h("input", { type: "checkbox", onchange: drawOutlines }), "Outline"));
  const button = (kind, text, act) =>
    h("button", { type: "button", class: `xbl-${kind}`, onclick: act }, text,
      h("kbd", { "aria-hidden": "true" }, kind[0]));
  const actions = h("div", { class: "xbl-bar", role: "group", "aria-label": "Pick" },
    button("good", `${MARKS.good} Good`, () => pick("good")),
    button("bad", `${MARKS.bad} Bad`, () => pick("bad")), button("undo", "Undo", undo),
    h("span", { class: "xbl-help" }, "In the grid: arrow keys, then g, b or u; Esc leaves"), count);
  const sizes = `--xbl-size: ${state.thumbnail}px; --xbl-image: ${state.image[1]}px`;
  const root = h("div", { class: "xbl-picker", style: sizes },
    toolbar, grid, actions, compare, live);

  /** Show the items that the filters let through, in order. */
  function look(change = {}) {
    Object.assign(view, change);
    const [key, sign] = view.sort.split(",");
    shown = state.items
      .filter((item) => !view.label || item.label === view.label)
      .filter((item) => !view.right || String(item.right) === view.right)
      .sort(compareBy(key, Number(sign)));
    measure(key);
    grid.replaceChildren(...shown.map((item) => item.option));
    const none = h("p", { class: "xbl-none" }, "No explanation fits the filters.");
    if (!shown.length) grid.append(none);
    count.value = `${shown.length} of ${state.items.length}`;
    grid.scrollTop = 0;
    if (!shown.includes(current)) setCurrent(shown[0]);
  }

  /** The figure under each thumbnail follows the sorting. */
  function measure(key) {
    const what = key === "confidence" || !state.share ? "confidence" : "share";
    if (!state[what]) return;
    const word = what === "share" ? "lungs" : "conf.";
    for (const item of state.items)
      item.option.querySelector(".xbl-measure").textContent = `${word} ${percent(item[what])}`;
  }

  /** Roving tabindex: one thumbnail alone is a tab stop. */
  function setCurrent(item) {
    current?.option.setAttribute("tabindex", "-1");
    current?.option.classList.remove("xbl-current");
    current = item;
    current?.option.setAttribute("tabindex", "0");
    current?.option.classList.add("xbl-current");
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !current) return;
    const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
    const page = columns * Math.floor(grid.clientHeight / current.option.offsetHeight);
    const [at, last] = [shown.indexOf(current), shown.length - 1];
    const goals = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns,
      ArrowDown: at + columns, PageUp: Math.max(at - page, 0), PageDown: Math.min(at + page, last),
      Home: 0, End: last };
    const acts = { g: () => pick("good"), b: () => pick("bad"), u: undo,
      Escape: () => actions.querySelector("button").focus() };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key in goals) shown[goals[key]]?.option.focus();
    else if (key in acts) acts[key]();
    else return;
    event.preventDefault();
  }

  function pick(kind) {
    if (!current) return;
    const put = picks.toggle(kind, current.row);
    live.textContent = `Row ${current.row} ${put ? `picked as ${kind}` : `no longer ${kind}`}`;
  }

  function undo() {
    const done = picks.undo();
    const rows = (kind) => picks.of(kind).join(", ") || "none";
    const said = `Undone. Good: ${rows("good")}. Bad: ${rows("bad")}`;
    live.textContent = done ? said : "Nothing to undo";
  }

  /** Marks, labels and the compare pane say what the model holds, whoever set it. */
  function showPicks() {
    for (const item of state.items) {
      const kind = picks.kindOf(item.row);
      item.option.querySelector(".xbl-badge")?.remove();
      if (kind) item.option.firstChild.append(badge(kind));
      item.option.classList.toggle("xbl-good", kind === "good");
      item.option.classList.toggle("xbl-bad", kind === "bad");
      item.option.setAttribute("aria-selected", Boolean(kind));
      item.option.setAttribute("aria-label", describe(item, kind));
    }
    const cards = ["good", "bad"].map((kind) => makeCard(kind, picks.of(kind), byRow, paint));
    compare.replaceChildren(...cards);
  }

  function describe(item, kind) {
    const measures = [[item.share, "of the map in the lungs"], [item.confidence, "confident"]]
      .filter(([value]) => value != null).map(([value, text]) => `, ${percent(value)} ${text}`);
    const picked = kind ? `, picked as ${kind}` : "";
    return `Row ${item.row}, ${verdict(item)}${measures.join("")}${picked}`;
  }

  function drawOutlines(event) {
    root.classList.toggle("xbl-outlined", event.target.checked);
    if (state.items[0].option.querySelector(".xbl-outline")) return; // once; CSS hides them
    for (const item of state.items) item.option.firstChild.append(paint.outline(item));
  }

  for (const item of state.items) {
    item.option = makeThumbnail(item, paint);
    item.option.item = item;
  }
  keepKeys(root);
  look();
  setCurrent(current);
  showPicks();
  el.append(root);
  model.on("change:good", showPicks);
  model.on("change:bad", showPicks);
  return () => {
    model.off("change:good", showPicks);
    model.off("change:bad", showPicks);
    sheet.close();
  };
}

export default { render };
