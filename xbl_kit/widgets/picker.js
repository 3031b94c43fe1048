// The front end of ExemplarPicker: thumbnails, keyboard, picks and the compare pane.
// Opacity, outline, filters and sorting live here alone; only picks reach the kernel.

const KINDS = ["good", "bad"];
const MARKS = { good: "\u2713", bad: "\u2715" };
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

/** What one can sort by: its name, and what stands below a thumbnail then. */
const MEASURES = {
  row: ["row", (item) => `row ${item.row}`],
  share: ["in lungs", (item) => `${percent(item.share)} in lungs`],
  confidence: ["confidence", (item) => `${percent(item.confidence)} confident`],
};

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
  return canvas;
}

/** Multiply an image by a resized map. What is left is dim, so its brightest grey becomes white. */
function paintProduct(canvas, values) {
  const context = canvas.getContext("2d");
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const product = values.map((value, i) => value * pixels.data[4 * i]);
  const brightest = product.reduce((a, b) => Math.max(a, b), 1);
  product.forEach((value, i) => pixels.data.fill((value / brightest) * 255, 4 * i, 4 * i + 3));
  context.putImageData(pixels, 0, 0);
  return canvas;
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
  return canvas;
}

/** What draws one image, map, product or outline of the picker's data as a canvas. */
function painter({ image: size, map: cells, across, colours }, sheet) {
  const [height, width] = size;
  const blank = (kind) => h("canvas", { class: `xbl-${kind}`, width, height });
  const levels = (item) => upsample(item.map, cells, size);
  const image = ({ at }, kind = "image") => {
    const canvas = blank(kind);
    const [x, y] = [(at % across) * width, Math.floor(at / across) * height];
    canvas.getContext("2d").drawImage(sheet, x, y, width, height, 0, 0, width, height);
    return canvas;
  };
  return {
    image,
    map: (item) => paintMap(blank("map"), levels(item), colours, false),
    veil: (item) => paintMap(blank("veil"), levels(item), colours, true),
    outline: (item) => paintOutline(blank("outline"), levels(item)),
    product: (item) => paintProduct(image(item, "product"), levels(item)),
  };
}

/** The picks as lists of rows, whatever form the model keeps them in; only picks are undone. */
function makePicks(model, several) {
  const past = [];
  const of = (kind) => [model.get(kind) ?? []].flat();
  const store = (picks) => {
    for (const kind of KINDS) model.set(kind, several ? picks[kind] : (picks[kind][0] ?? null));
    model.save_changes();
  };
  const toggle = (kind, row) => {
    const had = of(kind).includes(row);
    const [good, bad] = KINDS.map((one) => of(one).filter((other) => other !== row));
    const next = { good, bad };
    if (!had) next[kind] = several ? [...next[kind], row] : [row];
    past.push({ good: of("good"), bad: of("bad") });
    store(next);
    return !had;
  };
  const undo = () => past.length > 0 && (store(past.pop()), true);
  const kindOf = (row) => KINDS.find((kind) => of(kind).includes(row));
  return { of, toggle, undo, kindOf };
}

const badge = (kind) =>
  h("span", { class: `xbl-badge xbl-${kind}`, "aria-hidden": "true" }, `${MARKS[kind]} ${kind}`);

const verdict = (item) =>
  item.right ? `${item.label}, predicted right` : `${item.label}, predicted ${item.predicted}`;

/** All that the caption says and the picture shows, in words. */
function describe(item, kind) {
  const measures = [[item.share, "of the map in the lungs"], [item.confidence, "confident"]]
    .filter(([value]) => value != null).map(([value, text]) => `, ${percent(value)} ${text}`);
  const picked = kind ? `, picked as ${kind}` : "";
  return `Row ${item.row}, ${verdict(item)}${measures.join("")}${picked}`;
}

/** One thumbnail: an option of the listbox, with its layers and caption. */
function makeThumbnail(item, paint) {
  const picture = h("div", { class: "xbl-picture" }, paint.image(item), paint.veil(item));
  const caption = h("div", { class: "xbl-caption", "aria-hidden": "true" },
    h("span", {}, item.label),
    ...(item.right ? [] : [h("span", { class: "xbl-wrong" }, `\u2192 ${item.predicted}`)]),
    h("span", { class: "xbl-measure" }));
  const option = h("div", { role: "option", tabindex: -1, class: "xbl-option" }, picture, caption);
  return Object.assign(option, { item });
}

/** One pick at full size: image, map and their product, which is what eXBL compares. */
function makePick(item, paint) {
  const figure = (canvas, name) => {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${name} of row ${item.row}`);
    return h("figure", {}, canvas, h("figcaption", { "aria-hidden": "true" }, name));
  };
  const lungs = item.share == null ? "" : `, ${percent(item.share)} in lungs`;
  return h("div", { class: "xbl-pick" },
    h("p", {}, h("b", {}, `Row ${item.row}`), `: ${verdict(item)}${lungs}`),
    h("div", { class: "xbl-triple" }, figure(paint.image(item), "image"),
      figure(paint.map(item), "map"), figure(paint.product(item), "image \u00d7 map")));
}

function makeCard(kind, items, paint) {
  const empty = h("p", { class: "xbl-none" }, `No ${kind} explanation yet: press ${kind[0]}.`);
  return h("section", { class: `xbl-card xbl-${kind}`, "aria-label": `${kind} picks` },
    badge(kind), ...(items.length ? items.map((item) => makePick(item, paint)) : [empty]));
}

/** What stands above the grid; it changes what is shown, and tells the kernel nothing. */
function makeToolbar(ui) {
  const select = (label, name, options) =>
    h("label", {}, label,
      h("select", { onchange: (event) => look(ui, { [name]: event.target.value }) },
        ...options.map(([value, text = value]) => h("option", { value }, text))));
  const sorts = ["share", "confidence"].filter((key) => ui[key]).flatMap((key) =>
    [["-1", "high first"], ["1", "low first"]].map(([sign, order]) =>
      [`${key},${sign}`, `${MEASURES[key][0]}, ${order}`]));
  const fade = ({ target }) => ui.root.style.setProperty("--xbl-opacity", target.value / 100);
  return h("div", { class: "xbl-bar", role: "group", "aria-label": "View" },
    select("Class", "label", [["", "all"], ...ui.classes.map((name) => [name])]),
    select("Prediction", "right", [["", "all"], ["true", "right"], ["false", "wrong"]]),
    select("Sort", "sort", [["row,1", "row"], ...sorts]),
    h("label", {}, "Map opacity",
      h("input", { type: "range", min: 0, max: 100, step: 5, value: 55, oninput: fade })),
    h("label", {}, h("input", { type: "checkbox", onchange: (event) => outline(ui, event) }),
      "Outline"));
}

/** The buttons do what the keys do, on the thumbnail that had the focus last. */
function makeActions(ui) {
  const button = (name, text, act) =>
    h("button", { type: "button", class: `xbl-${name}`, onclick: () => act(ui, name) }, text,
      h("kbd", { "aria-hidden": "true" }, name[0]));
  return h("div", { class: "xbl-bar", role: "group", "aria-label": "Pick" },
    button("good", `${MARKS.good} Good`, pick), button("bad", `${MARKS.bad} Bad`, pick),
    button("undo", "Undo", undo),
    h("span", { class: "xbl-help" }, "In the grid: arrow keys, then g, b or u; Esc leaves"),
    ui.count);
}

/** A name and a button: the kernel saves the picks, and says where. */
function makeSaving(ui) {
  const name = h("input", { type: "text", maxlength: 60, autocomplete: "off", required: true });
  const send = (event) => {
    event.preventDefault();
    ui.model.send({ name: name.value });
  };
  return h("form", { class: "xbl-bar", "aria-label": "Save", onsubmit: send },
    h("label", {}, "Your name", name), h("button", { type: "submit" }, "Save"), ui.saved);
}

/** Order by a measure; items without one (an empty map has no share) come last. */
function compareBy(key, sign) {
  return (a, b) => (a[key] == null) - (b[key] == null) || sign * (a[key] - b[key]) || a.row - b.row;
}

/** Show the items that the filters let through, in order. */
function look(ui, change = {}) {
  Object.assign(ui.view, change);
  const { label, right, sort } = ui.view;
  const [key, sign] = sort.split(",");
  ui.shown = ui.items
    .filter((item) => (!label || item.label === label) && (!right || String(item.right) === right))
    .sort(compareBy(key, Number(sign)));
  const text = MEASURES[key][1];
  for (const item of ui.items) item.option.querySelector(".xbl-measure").textContent = text(item);
  ui.grid.replaceChildren(...ui.shown.map((item) => item.option));
  ui.grid.hidden = !ui.shown.length;
  ui.count.value = `${ui.shown.length} of ${ui.items.length}`;
  ui.grid.scrollTop = 0;
  if (!ui.shown.includes(ui.current)) setCurrent(ui, ui.shown[0]);
}

/** Roving tabindex: one thumbnail alone is a tab stop. */
function setCurrent(ui, item) {
  for (const [one, on] of [[ui.current, false], [item, true]]) {
    one?.option.setAttribute("tabindex", on ? 0 : -1);
    one?.option.classList.toggle("xbl-current", on);
  }
  ui.current = item;
}

/** The place in the grid to which a key leads, undefined for other keys. */
function goal(ui, key) {
  const columns = getComputedStyle(ui.grid).gridTemplateColumns.split(" ").length;
  const lines = Math.max(1, Math.floor(ui.grid.clientHeight / ui.current.option.offsetHeight));
  const [at, last] = [ui.shown.indexOf(ui.current), ui.shown.length - 1];
  return { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns,
    PageUp: Math.max(at - columns * lines, 0), PageDown: Math.min(at + columns * lines, last),
    Home: 0, End: last }[key];
}

function onKey(ui, event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !ui.current) return;
  const acts = { g: () => pick(ui, "good"), b: () => pick(ui, "bad"), u: () => undo(ui),
    Escape: () => ui.root.querySelector("button").focus() };
  const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  const place = goal(ui, event.key);
  if (!act && place === undefined) return;
  if (act) act();
  else ui.shown[place]?.option.focus();
  event.preventDefault();
}

function pick(ui, kind) {
  if (!ui.current) return void (ui.live.textContent = "The filters leave nothing to pick");
  const put = ui.picks.toggle(kind, ui.current.row);
  ui.live.textContent = `Row ${ui.current.row} ${put ? `picked as ${kind}` : `no longer ${kind}`}`;
}

function undo(ui) {
  const done = ui.picks.undo();
  const rows = (kind) => ui.picks.of(kind).join(", ") || "none";
  const said = `Undone. Good: ${rows("good")}. Bad: ${rows("bad")}`;
  ui.live.textContent = done ? said : "Nothing to undo";
}

/** Marks, labels and the compare pane say what the model holds, whoever set it. */
function showPicks(ui) {
  for (const item of ui.items) {
    const kind = ui.picks.kindOf(item.row);
    item.option.querySelector(".xbl-badge")?.remove();
    if (kind) item.option.firstChild.append(badge(kind));
    for (const one of KINDS) item.option.classList.toggle(`xbl-${one}`, kind === one);
    item.option.setAttribute("aria-selected", Boolean(kind));
    const words = describe(item, kind);
    for (const name of ["aria-label", "title"]) item.option.setAttribute(name, words);
  }
  const items = (kind) => ui.picks.of(kind).map((row) => ui.items.find((one) => one.row === row));
  ui.compare.replaceChildren(...KINDS.map((kind) => makeCard(kind, items(kind), ui.paint)));
}

/** Outlines are drawn when first asked for; then CSS shows and hides them. */
function outline(ui, { target }) {
  ui.root.classList.toggle("xbl-outlined", target.checked);
  if (ui.outlined) return;
  ui.outlined = true;
  for (const item of ui.items) item.option.firstChild.append(ui.paint.outline(item));
}

/** All parts on one page, in the order in which Tab reaches them. */
function layOut(ui) {
  ui.grid = h("div", {
    role: "listbox", class: "xbl-grid", "aria-multiselectable": "true",
    "aria-label": "Explanations", "aria-description": KEYS_HELP,
    onkeydown: (event) => onKey(ui, event),
    onfocusin: (event) => setCurrent(ui, event.target.item ?? ui.current),
  });
  ui.count = h("output", { class: "xbl-count", "aria-label": "shown" });
  ui.live = h("div", { class: "xbl-hidden", role: "status", "aria-live": "polite" });
  ui.saved = h("output", { class: "xbl-saved" });
  ui.compare = h("div", { class: "xbl-compare" });
  const none = h("p", { class: "xbl-empty" },
    "No explanation fits the filters. Set Class or Prediction back to all.");
  const sizes = `--xbl-size: ${ui.thumbnail}px; --xbl-image: ${ui.image[1]}px`;
  ui.root = h("div", { class: "xbl-picker", style: sizes },
    makeToolbar(ui), ui.grid, none, makeActions(ui), ui.compare,
    ...(ui.saves ? [makeSaving(ui)] : []), ui.live);
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
  const ui = { ...state, model, paint: painter(state, sheet), picks: makePicks(model, state.several),
    view: { label: "", right: "", sort: "row,1" }, shown: [] };
  for (const item of ui.items) item.option = makeThumbnail(item, ui.paint);
  layOut(ui);
  keepKeys(ui.root);
  look(ui);
  const onPicks = () => showPicks(ui);
  const onSaved = () => (ui.saved.value = model.get("_said"));
  onPicks();
  onSaved();
  el.append(ui.root);
  for (const kind of KINDS) model.on(`change:${kind}`, onPicks);
  model.on("change:_said", onSaved);
  return () => {
    for (const kind of KINDS) model.off(`change:${kind}`, onPicks);
    model.off("change:_said", onSaved);
    sheet.close();
  };
}

export default { render };
