/* The drawing of the U: blocks to scale, the ways between them, the keys. */

const TALLEST = 132, LEAST_HEIGHT = 9, WIDEST = 60, LEAST_WIDTH = 5;
const DESKTOP = 1170, MARGIN = 64;
const GAP = 7, ROW_GAP = 26, ARC_GAP = 5, PILL = 18;

/** Where each block is drawn: x, y, width and height by its name. */
function layOut(blocks) {
  const images = blocks.filter((block) => block.height !== null);
  const vectors = blocks.filter((block) => block.height === null);
  const sizes = d3.sort(new Set(images.map((x) => x.height)), d3.descending);
  const tall = d3.scaleLinear([0, sizes[0]], [0, TALLEST]);
  // Whole on a desktop, unless there are too many blocks.
  const space = DESKTOP - MARGIN - images.length * GAP;
  const unit = Math.min(
    Math.max(space, 0) / d3.sum(images, (x) => x.channels),
    WIDEST / d3.max(images, (x) => x.channels));
  const places = new Map();
  let left = MARGIN;
  for (const block of images) {
    const width = Math.max(LEAST_WIDTH, unit * block.channels);
    const height = Math.max(LEAST_HEIGHT, tall(block.height));
    places.set(block.name, {x: left, width, height});
    left += width + GAP;
  }
  let top = 0;
  for (const size of sizes) {
    const row = images.filter((block) => block.height === size);
    const arcs = row.filter((block) => block.skip_to).length;
    top += ROW_GAP + ARC_GAP * arcs;
    for (const block of row) places.get(block.name).y = top;
    top += places.get(row[0].name).height;
  }
  const bottom = top + ROW_GAP;
  vectors.forEach((block, index) => places.set(block.name, {
    x: MARGIN + index * 44, y: bottom, width: 36, height: PILL,
  }));
  const width = Math.max(left, MARGIN + vectors.length * 44) + 8;
  return {places, sizes, width, height: bottom + PILL + 10};
}

/** The way of a skip: up, across above its row, and down again. */
function arcPath(from, to, height) {
  const start = from.x + from.width / 2, end = to.x + to.width / 2;
  const top = from.y - height, r = Math.min(4, height);
  const path = d3.path();
  path.moveTo(start, from.y);
  path.arcTo(start, top, start + r, top, r);
  path.arcTo(end, top, end, top + r, r);
  path.lineTo(end, to.y);
  return path.toString();
}

/** The way from one block to the next. */
function flowPath(from, to) {
  const middle = (place) => place.y + place.height / 2;
  return d3.linkHorizontal()({
    source: [from.x + from.width, middle(from)],
    target: [to.x, middle(to)],
  });
}

function skipsOf(blocks, places) {
  const found = blocks.filter((x) => x.skip_to && places.has(x.skip_to))
    .map((x) => ({from: x.name, to: x.skip_to, row: x.height}));
  for (const row of d3.group(found, (skip) => skip.row).values()) {
    // The latest begins nearest to where it ends: arcs lie in each other.
    row.reverse().forEach((skip, index) => {
      skip.height = 6 + ARC_GAP * index;
    });
  }
  return found;
}

function classOf(kind) {
  return kind.replace(" ", "-");
}

function shapeOf(block) {
  return block.height === null
    ? `${block.channels} numbers`
    : `${block.height}×${block.width}×${block.channels}`;
}

/** Draws the network; `choose` is called with the name of a block. */
function draw(blocks, choose) {
  const {places, sizes, width, height} = layOut(blocks);
  const svg = d3.select("#drawing")
    .attr("width", width).attr("height", height)
    .attr("viewBox", [0, 0, width, height]);
  const images = blocks.filter((x) => x.height !== null);
  const skips = skipsOf(blocks, places);
  const isSkip = new Set(skips.map((x) => `${x.from} ${x.to}`));
  const flows = images.flatMap((block) => block.inputs
    .filter((name) => places.has(name) && !isSkip.has(`${name} ${block.name}`))
    .map((name) => flowPath(places.get(name), places.get(block.name))));
  svg.append("g").attr("aria-hidden", true)
    .selectAll("path").data(flows).join("path")
    .attr("class", "flow").attr("d", (path) => path);
  svg.append("g").attr("aria-hidden", true)
    .selectAll("path").data(skips).join("path").attr("class", "arc")
    .attr("d", (x) => arcPath(places.get(x.from), places.get(x.to), x.height));
  labelRows(svg, images, sizes, places);
  labelVectors(svg, blocks, places);
  const groups = svg.append("g").attr("role", "presentation")
    .selectAll("g").data(blocks).join("g")
    .attr("class", "block")
    .classed("conditioned", (x) => x.conditioning.length > 0)
    .attr("role", "option").attr("tabindex", -1)
    .attr("aria-selected", false)
    .attr("aria-label", (x) => `${x.name}, ${x.kind}, ${shapeOf(x)}`)
    .on("click", (_, block) => choose(block.name));
  addShapes(groups, places);
  return {groups, arcs: svg.selectAll(".arc")};
}

function labelRows(svg, images, sizes, places) {
  const firsts = sizes.map((size) => images.find((x) => x.height === size));
  svg.append("g").attr("aria-hidden", true)
    .selectAll("text").data(firsts).join("text")
    .attr("text-anchor", "end")
    .attr("x", (x) => places.get(x.name).x - 10)
    .attr("y", (x) => places.get(x.name).y + places.get(x.name).height / 2 + 4)
    .text((x) => `${x.height}×${x.width}`);
}

/** Says what the pills below the U are. */
function labelVectors(svg, blocks, places) {
  const first = blocks.find((block) => block.height === null);
  if (!first) return;
  const {x, y, height} = places.get(first.name);
  svg.append("text").attr("aria-hidden", true).attr("text-anchor", "end")
    .attr("x", x - 10).attr("y", y + height / 2 + 4).text("vectors");
}

function addShapes(groups, places) {
  const place = (x) => places.get(x.name);
  groups.append("title").text((x) => x.name);
  groups.append("rect").attr("class", "hit")
    .attr("x", (x) => place(x).x - GAP / 2)
    .attr("y", (x) => place(x).y + place(x).height / 2
      - Math.max(24, place(x).height) / 2)
    .attr("width", (x) => place(x).width + GAP)
    .attr("height", (x) => Math.max(24, place(x).height));
  const rectangle = (className, grown) => groups.append("rect")
    .attr("class", className)
    .attr("x", (x) => place(x).x - grown).attr("y", (x) => place(x).y - grown)
    .attr("width", (x) => place(x).width + 2 * grown)
    .attr("height", (x) => place(x).height + 2 * grown)
    .attr("rx", (x) => (x.height === null ? PILL / 2 : 1.5) + grown);
  rectangle("shape", 0)
    .attr("class", (x) => `shape ${classOf(x.kind)}`);
  rectangle("frame", 3);
  groups.append("circle").attr("class", "told").attr("r", 2)
    .attr("cx", (x) => place(x).x + place(x).width / 2)
    .attr("cy", (x) => place(x).y + place(x).height + 6);
}

/** Marks the selected block, its skip, and whom a vector addresses. */
function mark({groups, arcs}, block) {
  const source = (skip) => skip.from === block.name || skip.to === block.name;
  arcs.classed("lit", source).filter(source).raise();
  const partners = new Set(arcs.data().filter(source)
    .flatMap((skip) => [skip.from, skip.to]));
  const told = block.height === null ? new Set(block.conveys) : new Set();
  groups.attr("aria-selected", (x) => x.name === block.name)
    .attr("tabindex", (x) => (x.name === block.name ? 0 : -1))
    .classed("partner", (x) => x.name !== block.name && partners.has(x.name))
    .classed("addressed", (x) => x.height !== null
      && x.conditioning.some((name) => told.has(name)));
}

/** Which block a key leads to, from the focused one; null for none. */
function blockByKey(key, index, count) {
  const to = {
    ArrowRight: index + 1, ArrowDown: index + 1,
    ArrowLeft: index - 1, ArrowUp: index - 1,
    Home: 0, End: count - 1,
  }[key];
  return to === undefined ? null : Math.max(0, Math.min(count - 1, to));
}

function drawLegend(blocks) {
  const kinds = [...new Set(blocks.map((block) => block.kind))];
  const items = d3.select("#legend").selectAll("li").data(kinds).join("li");
  items.append("svg").attr("width", 12).attr("height", 12)
    .attr("aria-hidden", true)
    .append("rect").attr("width", 12).attr("height", 12).attr("rx", 2)
    .attr("class", classOf);
  items.append("span").text((kind) => kind);
  if (!blocks.some((block) => block.conditioning.length)) return;
  const told = d3.select("#legend").append("li");
  told.append("svg").attr("width", 12).attr("height", 12)
    .attr("aria-hidden", true)
    .append("circle").attr("cx", 6).attr("cy", 6).attr("r", 3)
    .attr("class", "embedding");
  told.append("span").text("is told the noise level");
}
