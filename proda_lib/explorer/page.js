"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const state = { video: 0, chosen: new Set(), distractors: false, frame: 0 };

// --- what is computed from the data --------------------------------------------------------------------------------

const video = () => data.videos[state.video];
const two = (x) => x.toFixed(2);
const small = (x) => x.toPrecision(2);
const choiceNumber = () =>
  [...state.chosen].reduce((sum, place) => sum + 2 ** place, 0) + (state.distractors ? 2 ** video().actions.length : 0);
const answer = () => video().answers[choiceNumber()];
const added = () => video().distractors.slice(0, Math.max(0, data.K - state.chosen.size)); // what fills up to K

function unpack(packed) { // one byte a number: 0..254 stand for 0..1, 255 for absent
  const bytes = atob(packed.replace(/-/g, "+").replace(/_/g, "/"));
  return Array.from(bytes, (byte) => (byte.charCodeAt(0) === 255 ? null : byte.charCodeAt(0) / 254));
}

function ofFrame(packed, rows) { // the column of the chosen frame, of an array (rows, frames)
  const values = unpack(packed), frames = video().times.length;
  return Array.from({ length: rows }, (_, row) => values[row * frames + state.frame]);
}

function heat(a) { // s² / max s²
  const top = Math.max(...a.s) || 1;
  return a.s.map((s) => (s / top) ** 2);
}

const heaviest = (a) => a.s.indexOf(Math.max(...a.s));
const edgeName = ([from, to]) => `${video().slots[from]} → ${video().slots[to]}`;
const relationNames = (edge) => video().held[state.frame][edge].map((r) => video().relations[r]).join(", ");
const listed = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);

// --- building elements ----------------------------------------------------------------------------------------------

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function svg(name, attributes = {}, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== "") element.textContent = text;
  return element;
}

function bar(value, kind, name) {
  const fill = make("i", { style: `width: ${100 * value}%` });
  return make("div", { class: `bar ${kind}` }, make("div", { class: "track" }, fill), make("output", { "data-score": name }, two(value)));
}

function table(head, rows) {
  const cells = (kind, values) => make("tr", {}, ...values.map((value) => make(kind, {}, value)));
  return make("table", {}, make("thead", {}, cells("th", head)), make("tbody", {}, ...rows.map((row) => cells("td", row))));
}

// --- the question and its answer ------------------------------------------------------------------------------------

function truth(present) {
  return make("span", { class: `truth ${present ? "in" : "out"}` }, present ? "● in video" : "○ absent");
}

function askForActions() { // the rows stay while a question changes, so that the focus stays where it is
  const rows = video().actions.map((name, place) => {
    const box = make("input", { type: "checkbox", id: `action-${place}` });
    box.disabled = !data.controls;
    box.addEventListener("change", () => {
      state.chosen[box.checked ? "add" : "delete"](place);
      show();
    });
    const label = make("label", {}, box, make("span", {}, name, truth(video().present[place])));
    return make("tr", {}, make("th", { scope: "row" }, label), make("td"), make("td"));
  });
  const none = make("tr", { class: "no-action" }, make("th", { scope: "row" }), make("td"), make("td"));
  $("actions").tBodies[0].replaceChildren(...rows, none);
  $("distractors-line").hidden = $("distractors-list").hidden = !video().distractors.length;
  $("frame").max = video().times.length - 1;
  const left = video().not_offered;
  $("not-offered").textContent = left.length ? `Also in the video, but not on offer: ${listed(left)}.` : "";
  const labels = video().present.filter(Boolean).length + left.length;
  $("video-facts").textContent = `${labels} label${labels === 1 ? "" : "s"}, ${video().duration.toFixed(0)} s`;
}

function showAnswer(a) {
  const rows = [...$("actions").tBodies[0].rows];
  const nothing = !video().present.some((present, place) => present && state.chosen.has(place));
  rows.forEach((row, place) => {
    const asked = state.chosen.has(place), last = place === rows.length - 1;
    row.classList.toggle("asked", asked);
    if (!last) row.querySelector("input").checked = asked;
    if (last) row.cells[0].replaceChildren("no-action", make("span", { class: `truth ${nothing ? "in" : "out"}` }, nothing ? "● right here" : "○ wrong here"));
    row.cells[1].replaceChildren(a ? bar(a.a_s[place], asked || last ? "asked" : "mute", `a_s-${place}`) : "");
    row.cells[2].replaceChildren(a && !last ? bar(a.a_t[place], "fused", `a_t-${place}`) : "");
  });
  $("distractors").checked = state.distractors;
  const names = added(), all = names.length + state.chosen.size;
  $("distractors-count").textContent = `${names.length} more, ${all} in all${all === data.K ? ", as in training" : `; in training up to ${data.K}`}`;
  $("distractors-names").textContent = names.join(", ");
}

function showWords(a) {
  const asked = [...state.chosen].sort((x, y) => x - y), name = (place) => video().actions[place];
  const more = state.distractors ? added().length : 0;
  const words = [];
  if (!a) words.push("Nothing is asked for. Choose an action, or fill up with absent ones.");
  else {
    words.push(`Asked for: ${listed([...asked.map(name), ...(more ? [`${more} absent action${more === 1 ? "" : "s"}`] : [])])}.`);
    const says = (wanted, text) => {
      const found = asked.filter((place) => (a.a_s[place] >= 0.5) === wanted);
      const told = (place) => `${name(place)} (${two(a.a_s[place])}, ${(video().present[place] === wanted) ? "right" : "wrong"})`;
      if (found.length) words.push(`${text}: ${listed(found.map(told))}.`);
    };
    says(true, "The model says present");
    says(false, "The model says not present");
    words.push(`No-action: ${two(a.a_s.at(-1))}.`);
    const top = heaviest(a);
    words.push(`The heaviest frame is ${top + 1}, at ${video().times[top].toFixed(1)} s.`);
    const w = ofFrame(a.w, video().edges.length), best = Math.max(...w.filter((x) => x !== null)), edge = w.indexOf(best);
    if (edge < 0) words.push(`Frame ${state.frame + 1} has no edge.`);
    else {
      const holds = relationNames(edge);
      words.push(`Strongest edge in frame ${state.frame + 1}: ${edgeName(video().edges[edge])}${holds && ` (${holds})`}, w ${small(best * a.w_max)}; the largest of all frames is ${small(a.w_max)}.`);
    }
  }
  if ($("summary").textContent !== words.join(" ")) $("summary").textContent = words.join(" ");
}

function showTables(a) {
  const value = (x) => (x === null ? "" : two(x));
  const weight = (x) => (x === null ? "" : small(x * a.w_max));
  const w = a ? ofFrame(a.w, video().edges.length) : video().edges.map(() => null);
  const node = a ? ofFrame(a.node, video().slots.length) : video().slots.map(() => null);
  const here = video().boxes[state.frame];
  const edges = video().edges.map((ends, edge) => [ends, edge]).filter(([[from, to]]) => here[from] && here[to])
    .sort((x, y) => w[y[1]] - w[x[1]]).map(([ends, edge]) => [edgeName(ends), relationNames(edge), weight(w[edge])]);
  const nodes = video().slots.map((name, slot) => [name, slot]).filter(([, slot]) => here[slot])
    .sort((x, y) => node[y[1]] - node[x[1]]).map(([name, slot]) => [name, value(node[slot])]);
  $("tables").replaceChildren(table(["edge", "relations", "w"], edges), table(["node", "score"], nodes));
}

// --- everything together --------------------------------------------------------------------------------------------

function show() {
  const a = answer();
  $("video").value = state.video;
  $("frame").value = state.frame;
  $("frame").setAttribute("aria-valuetext", `frame ${state.frame + 1}, ${video().times[state.frame].toFixed(1)} seconds`);
  $("frame-facts").textContent = `frame ${state.frame + 1} of ${video().times.length}, ${video().times[state.frame].toFixed(1)} s`;
  showAnswer(a);
  drawGraph(a);
  drawTime(a);
  showWords(a);
  showTables(a);
  remember();
}

function remember() {
  const parts = { video: state.video, actions: [...state.chosen].sort((x, y) => x - y).join(","), frame: state.frame };
  if (state.distractors) parts.distractors = 1;
  try { // inside another page there is no address to change, and a browser may refuse storage
    if (window.self === window.top) history.replaceState(null, "", `#${Object.entries(parts).map((p) => p.join("=")).join("&")}`);
    else sessionStorage.setItem(`frame of ${video().name}`, state.frame);
  } catch { /* the page works without */ }
}

function choose(choice) { // from the address or from the data
  const within = (value, count, otherwise) => (Number.isInteger(value) && value >= 0 && value < count ? value : otherwise);
  state.video = within(choice.video, data.videos.length, 0);
  const offered = video().actions.length;
  state.chosen = new Set((choice.actions ?? [video().present.indexOf(true)]).filter((place) => within(place, offered, -1) >= 0));
  state.distractors = Boolean(choice.distractors) && video().distractors.length > 0;
  askForActions();
  const best = answer() ? heaviest(answer()) : 0;
  state.frame = within(choice.frame, video().times.length, best);
}

function addressed() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (![...given].length) return null;
  const number = (key) => (given.has(key) ? Number(given.get(key)) : undefined);
  const actions = given.has("actions") ? given.get("actions").split(",").filter(Boolean).map(Number) : undefined;
  return { video: number("video"), actions, frame: number("frame"), distractors: number("distractors") };
}

function step(by) {
  state.frame = Math.min(video().times.length - 1, Math.max(0, state.frame + by));
  show();
}

function remembered() { // a live notebook writes the page anew for each answer: keep its frame
  try {
    const kept = window.self === window.top ? null : sessionStorage.getItem(`frame of ${data.videos[0].name}`);
    return kept === null ? {} : { frame: Number(kept) };
  } catch { return {}; }
}

function start() {
  data.colours.slots.forEach((colour, i) => document.documentElement.style.setProperty(`--slot-${i}`, colour));
  data.videos.forEach((entry, i) => $("video").append(make("option", { value: i }, entry.name)));
  $("video").addEventListener("change", () => { choose({ video: Number($("video").value) }); show(); });
  $("distractors").addEventListener("change", () => { state.distractors = $("distractors").checked; show(); });
  $("frame").addEventListener("input", () => { state.frame = Number($("frame").value); show(); });
  $("back").addEventListener("click", () => step(-1));
  $("forward").addEventListener("click", () => step(1));
  $("layer").textContent = data.layers > 1 ? ` in layer ${data.layer} of ${data.layers}` : "";
  $("about").append(...data.about.map((sentence) => make("p", {}, sentence)));
  document.querySelector("header").hidden = !data.controls;
  $("video-line").hidden = !data.controls;
  $("distractors").disabled = !data.controls;
  window.addEventListener("hashchange", () => { choose(addressed() ?? {}); show(); });
  window.addEventListener("resize", show);
  drawLegend();
  choose(addressed() ?? { ...(data.controls ? {} : remembered()), ...data.choice });
  show();
  if (window.frameElement) new ResizeObserver(() => { // in a notebook or a book: as high as its content
    window.frameElement.style.height = `${document.querySelector("main").offsetHeight + 4}px`;
  }).observe(document.querySelector("main"));
}
