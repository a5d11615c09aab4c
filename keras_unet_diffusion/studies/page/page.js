/* The page: what is selected, and who is told when that changes. */

const data = JSON.parse(document.getElementById("data").textContent);
const page = {
  data,
  picture: pictureLoader(data.pictures),
  byName: new Map(data.blocks.map((block) => [block.name, block])),
  skippedFrom: new Map(data.blocks.filter((block) => block.skip_to)
    .map((block) => [block.skip_to, block.name])),
  selected: null,
  level: data.level,
  step: 0,
  colours: [],
};
const element = (id) => document.getElementById(id);

// A vector conveys the network inputs that it is made of.
for (const block of data.blocks) {
  block.conveys = block.inputs.flatMap(
    (name) => page.byName.get(name)?.conveys ?? [name]);
}

function choose(name, leap = false) {
  const block = page.byName.get(name);
  page.selected = block;
  mark(page.drawing, block);
  page.rows.classed("selected", (x) => x === block);
  element("choice").value = name;
  describeBlock(block, page);
  allowOverlays(block);
  paintLevel();
  const number = data.blocks.indexOf(block) + 1;
  element("status").textContent = `${name}, ${block.kind}, ${shapeOf(block)}, `
    + `block ${number} of ${data.blocks.length}`;
  reveal(name);
  if (leap) {
    element("details").focus({preventScroll: true});
    element("details").scrollIntoView({block: "start"});
  }
}

/** Switches off what is not known of a block, and says why. */
function allowOverlays(block) {
  const blind = block.receptive_field === null
    ? "this block sees no noisy image" : "";
  const reasons = {square: blind, heat: blind || data.no_heat};
  for (const [id, why] of Object.entries(reasons)) {
    element(id).disabled = Boolean(why);
    element(`no-${id}`).textContent = why ? ` (${why})` : "";
  }
}

/** Scrolls the drawing sideways, so that a block is in sight. */
function reveal(name) {
  const node = page.drawing.groups.filter((x) => x.name === name).node();
  const scroll = element("drawing-scroll");
  const {left, right} = node.getBoundingClientRect();
  const frame = scroll.getBoundingClientRect();
  if (left < frame.left + 20 || right > frame.right - 20) {
    scroll.scrollLeft += (left + right) / 2 - (frame.left + frame.right) / 2;
  }
}

async function paintLevel() {
  const {selected: block, level} = page;
  const count = data.levels.length;
  const isCurrent = () => page.selected === block && page.level === level;
  const text = noiseText(data.levels[level], data.about);
  element("noise").value = level;
  element("noise").setAttribute("aria-valuetext", text);
  element("noise-value").textContent = text;
  element("features-caption").textContent = featuresText(block, level);
  element("features").setAttribute("aria-label",
    `Activations of ${block.name}, noise level ${level + 1} of ${count}`);
  await paintNoisy(block, level, count, isCurrent);
  const sheet = await page.picture(`block ${block.name}`);
  if (!isCurrent()) return;
  await paintFeatures(element("features"), sheet, block, level, page.colours);
}

async function paintNoisy(block, level, count, isCurrent) {
  const levels = await page.picture("levels");
  const hasHeat = element("heat").checked && !element("heat").disabled;
  const heat = hasHeat ? await page.picture(`heat ${block.name}`) : null;
  if (!isCurrent()) return;
  const canvas = element("noisy");
  await paintPart(canvas, levels, {column: level, row: 0, columns: count,
    rows: 1});
  enlarge(canvas, 384);
  let caption = "What the network sees, xₜ";
  if (data.about.told) caption += `. It is told ${data.about.told}`;
  if (heat) {
    await paintHeat(canvas, heat);
    caption += `. Bright: what matters to the middle pixel of ${block.name}, `
      + `by gradients at noise level ${data.level + 1} of ${count} (root)`;
  }
  const square = element("square");
  if (square.checked && !square.disabled) {
    const middle = (Math.floor(block.height / 2) + 0.5) / block.height;
    paintSquare(canvas, block.receptive_field / data.about.height, middle);
    const size = block.receptive_field;
    caption += `. Square: ${size}×${size} pixels reach its middle pixel`
      + `${size > data.about.height ? ", more than the image has" : ""}`
      + `${block.sees_whole_image ? "; by attention, all" : ""}`;
  }
  canvas.setAttribute("aria-label", caption);
  element("noisy-caption").textContent = `${caption}.`;
}

function drawStrip() {
  const rows = ["xₜ", "prediction", "estimate of x₀"];
  const table = d3.select("#strip");
  table.append("caption").attr("class", "visually-hidden")
    .text("Each step of the sampler: what the network sees, predicts and "
      + "takes the image to be.");
  const head = table.append("thead").append("tr");
  head.append("td");
  head.selectAll("th").data(data.strip).join("th").attr("scope", "col")
    .append("button").attr("type", "button")
    .attr("aria-label", (_, index) => `Step ${index + 1}`)
    .text((_, index) => index + 1)
    .on("click", (_, step) => showStep(data.strip.indexOf(step)));
  const columns = data.strip.length;
  rows.forEach((name, row) => {
    const line = table.append("tbody").append("tr");
    line.append("th").attr("scope", "row").text(name);
    line.selectAll("td").data(data.strip).join("td").append("canvas")
      .attr("role", "img")
      .attr("aria-label", (_, column) => `${name} at step ${column + 1}`)
      .each(async function paint(_, column) {
        const sheet = await page.picture("strip");
        paintPart(this, sheet, {column, row, columns, rows: 3});
      });
  });
}

/** The images that stay the same: the one that is followed, and the made. */
function showImages() {
  const all = {column: 0, row: 0, columns: 1, rows: 1};
  paintPart(element("clean"), page.picture("image"), all);
  paintPart(element("result"), page.picture("result"), all);
  const text = `The clean image, x₀: ${data.about.image}`;
  element("clean").setAttribute("aria-label", text);
  element("clean-caption").textContent = `${text}.`;
}

async function showStep(step) {
  page.step = step;
  const {ratio, t, rms} = data.strip[step];
  const text = `${step + 1} of ${data.strip.length}: noise per image `
    + `${ratio ?? "without bound"}, time t ${t}, root mean square of the `
    + `prediction ${rms}`;
  element("step").value = step;
  element("step").setAttribute("aria-valuetext", text);
  element("step-value").textContent = text;
  d3.selectAll("#strip button").attr("aria-current",
    (_, index) => (index === step ? "true" : null));
  const columns = data.strip.length;
  const names = ["What the network sees", "What it predicts",
    "Its estimate of the image"];
  const sheet = await page.picture("strip");
  names.forEach((name, row) => {
    const canvas = element(`strip-${row}`);
    canvas.setAttribute("aria-label", `${name}, step ${step + 1}`);
    paintPart(canvas, sheet, {column: step, row, columns, rows: 3});
  });
}

function introduce() {
  const {about} = data;
  element("summary").textContent = `${about.network}: `
    + `${whole(about.parameters)} parameters, ${flopsText(about.flops)} `
    + `for one image, ${bytesText(about.activation_bytes)} of activations; `
    + `${about.schedule}, ${about.prediction}. ${about.weights}`;
  element("warning").hidden = about.is_trained;
  element("warning").textContent = "This network is not trained: its weights "
    + "are random. Sizes, costs and receptive fields are those of any network "
    + "built like it; activations and images say nothing yet.";
  const {name, formula, looks} = about.predicts;
  element("predicts").textContent = `What it predicts, ${name}: ${formula}`;
  const told = about.told ? ` It is told ${about.told}.` : "";
  element("strip-help").textContent = `The network makes an image of noise in `
    + `${data.strip.length} steps of DDIM.${told} In each it sees `
    + "xₜ = α x₀ + σ ε, an image x₀ under noise ε, and predicts "
    + `${name}: ${formula}. ${looks} That prediction says what the finished `
    + "image would be: a blur of all that is possible first, then one image. "
    + `To be shown, xₜ is divided by its spread${about.shows_image ? ""
      : ", and a prediction by three times its own"}.`;
}

function useTheme() {
  const wish = element("theme").value;
  const isDark = wish === "system"
    ? matchMedia("(prefers-color-scheme: dark)").matches : wish === "dark";
  document.documentElement.classList.toggle("dark", isDark);
  page.colours = signedColours(isDark).map(String);
}

function listen() {
  element("noise").max = data.levels.length - 1;
  element("noise").addEventListener("input", (event) => {
    page.level = Number(event.target.value);
    paintLevel();
  });
  element("step").max = data.strip.length - 1;
  element("step").addEventListener("input", (event) => {
    showStep(Number(event.target.value));
  });
  const beside = (by) => {
    const index = data.blocks.indexOf(page.selected) + by;
    if (data.blocks[index]) choose(data.blocks[index].name);
  };
  element("previous").addEventListener("click", () => beside(-1));
  element("next").addEventListener("click", () => beside(1));
  element("choice").addEventListener("change", (event) => {
    choose(event.target.value);
  });
  element("follow").addEventListener("click", () => {
    choose(d3.select("#follow").datum());
  });
  element("all-skips").addEventListener("change", (event) => {
    element("drawing").classList.toggle("lit-all", event.target.checked);
  });
  for (const id of ["square", "heat"]) {
    element(id).addEventListener("change", paintLevel);
  }
  const retheme = () => { useTheme(); paintLevel(); };
  element("theme").addEventListener("change", retheme);
  matchMedia("(prefers-color-scheme: dark)")
    .addEventListener("change", retheme);
  element("drawing").addEventListener("keydown", useKey);
}

/** Arrow keys move the focus, Enter and Space select. */
function useKey(event) {
  const {groups} = page.drawing;
  const nodes = groups.nodes();
  const index = nodes.indexOf(document.activeElement);
  if (index < 0) return;
  if (event.key === "Enter" || event.key === " ") {
    choose(data.blocks[index].name);
  } else {
    const to = blockByKey(event.key, index, nodes.length);
    if (to === null) return;
    groups.attr("tabindex", (_, k) => (k === to ? 0 : -1));
    nodes[to].focus({preventScroll: true});
    reveal(data.blocks[to].name);
  }
  event.preventDefault();
}

d3.select("#choice").selectAll("option").data(data.blocks).join("option")
  .attr("value", (block) => block.name)
  .text((block) => `${block.name} (${block.kind})`);
page.drawing = draw(data.blocks, choose);
page.rows = drawTable(data, choose);
drawLegend(data.blocks);
introduce();
useTheme();
listen();
drawStrip();
showStep(0);
showImages();
choose((data.blocks.find((block) => block.skip_to)
  ?? data.blocks.find((block) => block.height !== null)).name);
document.documentElement.dataset.readyAfter = Math.round(performance.now());
