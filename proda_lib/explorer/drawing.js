// --- the frame: boxes, edges by w, nodes by their score -------------------------------------------------------------

const edgeWidth = (w) => 0.8 + 5 * w;
const edgeOpacity = (w) => 0.12 + 0.83 * Math.sqrt(w);
const discRadius = (score) => 4 + 10 * score;

function drawGraph(a) {
  const width = $("graph").clientWidth || 480, height = Math.round(0.75 * width), here = video().boxes[state.frame];
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": "Boxes, edges and nodes of the frame; the table below says the same" });
  picture.append(svg("rect", { width, height, rx: 8, fill: "#f7f8fa", stroke: "#cfd3da" }));
  const colour = (slot) => data.colours.slots[slot % data.colours.slots.length];
  const centre = (slot) => [((here[slot][0] + here[slot][2]) / 2) * width, ((here[slot][1] + here[slot][3]) / 2) * height];
  const there = video().slots.map((_, slot) => slot).filter((slot) => here[slot]);
  const score = a ? ofFrame(a.node, video().slots.length) : [];
  const radius = (slot) => discRadius(score[slot] ?? 0);
  for (const slot of there) {
    const [x1, y1, x2, y2] = here[slot];
    picture.append(svg("rect", { x: x1 * width, y: y1 * height, width: (x2 - x1) * width, height: (y2 - y1) * height, rx: 3,
      fill: colour(slot), "fill-opacity": 0.07, stroke: colour(slot), "stroke-width": 1.6 }));
  }
  const w = a ? ofFrame(a.w, video().edges.length) : [];
  video().edges.map((ends, edge) => [ends, edge, w[edge] ?? 0]).filter(([[from, to]]) => here[from] && here[to])
    .sort((x, y) => x[2] - y[2]) // the strongest on top
    .forEach(([[from, to], edge, weight]) => {
      const group = arrow(centre(from), centre(to), radius(to), weight, Boolean(a));
      const holds = relationNames(edge);
      group.append(svg("title", {}, `${edgeName([from, to])}${holds && `: ${holds}`}${a ? `; w ${small(weight * a.w_max)}` : ""}`));
      picture.append(group);
    });
  for (const slot of there) {
    const [x, y] = centre(slot), disc = svg("circle", { cx: x, cy: y, r: radius(slot), fill: colour(slot), stroke: "#fff", "stroke-width": 1.5 });
    disc.append(svg("title", {}, `${video().slots[slot]}${a ? `; node score ${two(score[slot])}` : ""}`));
    picture.append(disc);
  }
  $("graph").replaceChildren(picture);
  placeNames(picture, there, (slot) => [here[slot][0] * width, here[slot][1] * height], colour, width, height);
}

function arrow([x1, y1], [x2, y2], gap, weight, known) { // the two directions bow to either side
  const bow = 0.14, mx = (x1 + x2) / 2 - bow * (y2 - y1), my = (y1 + y2) / 2 + bow * (x2 - x1);
  const long = Math.hypot(x2 - mx, y2 - my) || 1, ux = (x2 - mx) / long, uy = (y2 - my) / long;
  const tip = [x2 - ux * (gap + 2), y2 - uy * (gap + 2)], size = 5 + 5 * weight, base = [tip[0] - ux * size, tip[1] - uy * size];
  const side = [-uy * size * 0.45, ux * size * 0.45];
  const group = svg("g", { stroke: "#22262e", fill: "#22262e", opacity: known ? edgeOpacity(weight) : 0.3 });
  group.append(svg("path", { d: `M${x1} ${y1}Q${mx} ${my} ${base[0]} ${base[1]}`, fill: "none", "stroke-width": known ? edgeWidth(weight) : 1 }));
  group.append(svg("path", { d: `M${tip}L${base[0] + side[0]} ${base[1] + side[1]}L${base[0] - side[0]} ${base[1] - side[1]}Z`, stroke: "none" }));
  return group;
}

function placeNames(picture, slots, corner, colour, width, height) { // names move down until they cover no other
  const taken = [];
  for (const slot of slots) {
    const [x, y] = corner(slot), name = video().slots[slot];
    const text = svg("text", { class: "halo", "font-size": 12.5, "font-weight": 600, fill: "#1d2129" });
    text.append(svg("tspan", { fill: colour(slot) }, "■ "), svg("tspan", {}, name));
    picture.append(text);
    const long = text.getComputedTextLength(), left = Math.max(4, Math.min(x + 4, width - long - 4));
    let down = Math.min(y + 14, height - 6);
    for (let tries = 0; tries < 12 && taken.some((t) => left < t.right && t.left < left + long && Math.abs(t.down - down) < 14); tries++)
      down = down + 14 > height - 4 ? 14 : down + 14;
    taken.push({ left, right: left + long, down });
    text.setAttribute("x", left);
    text.setAttribute("y", down);
  }
}

function drawLegend() {
  const picture = svg("svg", { viewBox: "0 0 330 34", width: 330, height: 34, role: "img", "aria-label": "How wide an edge and how large a node is drawn" });
  const words = (x, text, more = {}) => picture.append(svg("text", { x, y: 21, "font-size": 12, fill: "#1d2129", ...more }, text));
  words(0, "w", { "font-style": "italic" });
  words(164, "score");
  [0.1, 0.5, 0.9].forEach((value, i) => {
    const x = 14 + 48 * i, centre = [206, 248, 294][i], r = discRadius(value);
    picture.append(svg("path", { d: `M${x} 17h20`, stroke: "#22262e", "stroke-width": edgeWidth(value), opacity: edgeOpacity(value) }));
    picture.append(svg("circle", { cx: centre, cy: 17, r, fill: "#565c68" }));
    words(x + 23, value.toFixed(1));
    words(centre + r + 3, value.toFixed(1));
  });
  $("legend").replaceChildren(picture);
}

// --- time: true segments of the offered actions above, heat bar of the frame weights below -----------------------------

function drawTime(a) {
  const width = $("time").clientWidth || 480, row = 19, thick = 30, top = 4;
  const shown = video().actions.map((name, place) => ({ name, place, parts: video().segments[place] })).filter((line) => line.parts.length);
  const bars = top + row * shown.length + 6, height = bars + thick + 24, x = (t) => 1 + ((width - 2) * t) / video().duration;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": "Frame weights over time below the true segments" });
  const hatch = svg("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  hatch.append(svg("rect", { width: 5, height: 5, fill: "#d9f0e8" }), svg("line", { y2: 5, stroke: "var(--truth)", "stroke-width": 4 }));
  picture.append(hatch);
  shown.forEach((line, i) => {
    const y = top + row * i, asked = state.chosen.has(line.place);
    for (const [start, end] of line.parts)
      picture.append(svg("rect", { x: x(start), y: y + 1, width: Math.max(2, x(end) - x(start)), height: row - 4, rx: 3,
        fill: asked ? "url(#hatch)" : "#fff", stroke: asked ? "#00664a" : "#8b919c", "stroke-width": asked ? 1.4 : 1 }));
    const middle = x((line.parts[0][0] + line.parts[0][1]) / 2);
    const text = svg("text", { class: "halo", y: y + row - 7, "font-size": 12, "font-weight": asked ? 600 : 400, fill: "#1d2129" }, line.name);
    picture.append(text);
    $("time").replaceChildren(picture); // in the page, so that the text has a length
    const half = text.getComputedTextLength() / 2;
    text.setAttribute("x", Math.max(half + 3, Math.min(middle, width - half - 3)) - half);
  });
  const values = a ? heat(a) : [];
  video().spans.forEach(([start, end], frame) => {
    const value = values[frame], colour = a ? data.colours.heat[Math.round(value * (data.colours.heat.length - 1))] : "#eef0f3";
    const cell = svg("rect", { class: "cell", x: x(start), y: bars, width: Math.max(0, x(end) - x(start)), height: thick, fill: colour,
      stroke: "#fff", "stroke-width": 0.6, "data-heat": a ? two(value) : "" });
    cell.append(svg("title", {}, `frame ${frame + 1}, ${video().times[frame].toFixed(1)} s${a ? `: s² / max s² ${two(value)}, s ${a.s[frame].toPrecision(2)}` : ""}`));
    cell.addEventListener("click", () => { state.frame = frame; show(); });
    picture.append(cell);
  });
  const [start, end] = video().spans[state.frame], now = x(video().times[state.frame]), below = bars + thick;
  picture.append(svg("rect", { x: x(start), y: bars - 2, width: Math.max(3, x(end) - x(start)), height: thick + 4, rx: 2, fill: "none",
    stroke: "#000", "stroke-width": 2.5, "pointer-events": "none" }));
  picture.append(svg("path", { d: `M${now} ${below + 3}l-5 8h10z`, fill: "#000" }));
  const caption = `${video().times[state.frame].toFixed(1)} s${a ? `, ${two(values[state.frame])}` : ""}`;
  const anchor = now > width - 90 ? "end" : now < 90 ? "start" : "middle";
  picture.append(svg("text", { x: now + { end: -8, start: 8, middle: 0 }[anchor], y: below + 20 + (anchor === "middle" ? 2 : -6), "font-size": 12, "text-anchor": anchor, fill: "#1d2129" }, caption));
  for (const [t, side] of [[0, "start"], [video().duration, "end"]])
    if (Math.abs(x(t) - now) > 130) picture.append(svg("text", { x: x(t), y: below + 16, "font-size": 12, "text-anchor": side, fill: "#565c68" }, `${t.toFixed(0)} s`));
  $("time").replaceChildren(picture);
}
