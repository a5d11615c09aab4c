/* What is said of the selected block, and the table of all. */

const whole = d3.format(",");

function bytesText(count) {
  if (count < 2 ** 10) return `${count} B`;
  return count < 2 ** 20
    ? `${d3.format(",.3~r")(count / 2 ** 10)} KiB`
    : `${d3.format(",.3~r")(count / 2 ** 20)} MiB`;
}

function flopsText(count) {
  const [, number, prefix] = d3.format(".3~s")(count).match(/([\d.]+)(.*)/);
  return `${number} ${prefix}FLOP`;
}

function shareText(part, total) {
  const share = part / total;
  if (share > 0 && share < 0.001) return "less than 0.1% of all";
  return `${d3.format(".1%")(share)} of all`;
}

function seenText(block, about) {
  if (block.receptive_field === null) return "none: it sees no noisy image";
  const size = block.receptive_field;
  const beyond = size > about.height
    ? `, more than the image's ${about.height}` : "";
  return `${size}×${size} pixels by arithmetic${beyond}`;
}

function measuredText(block) {
  if (block.measured === null) return "not measured";
  const agrees = block.measured === block.receptive_field
    ? "as by arithmetic" : "unlike arithmetic";
  return `${block.measured}×${block.measured} from gradients, ${agrees}`;
}

function attentionText(block) {
  if (block.kind.endsWith("attention")) return "here: every pixel sees all";
  return block.sees_whole_image
    ? "earlier: it sees the whole image" : "none before or here";
}

/** Facts about a block, as pairs of names and values. */
function factsOf(block, {about}) {
  const inputs = block.inputs.join(", ");
  const facts = [
    ["Kind", `${block.kind}, ${block.part}`],
    ["Reads", inputs],
    ["Puts out", shapeOf(block)],
    ["Parameters",
      `${whole(block.parameters)}, ${shareText(block.parameters,
        about.parameters)}`],
    ["Operations",
      `${flopsText(block.flops)}, ${shareText(block.flops, about.flops)}`],
    ["Activations", `${bytesText(block.activation_bytes)} in float32, `
      + shareText(block.activation_bytes, about.activation_bytes)],
  ];
  if (block.height !== null) {
    facts.push(
      ["Receptive field", seenText(block, about)],
      ["Measured", measuredText(block)],
      ["Attention", attentionText(block)],
      ["Is told", block.conditioning.join(", ").replaceAll("_", " ")
        || "nothing but the image"],
    );
  }
  if (block.skip_to) facts.push(["Its skip goes to", block.skip_to]);
  facts.push(["In the code", block.source]);
  return facts;
}

function describeBlock(block, page) {
  d3.select("#name").text(block.name);
  for (const part of ["function", "formula", "reason"]) {
    d3.select(`#${part}`).text(block[part]);
  }
  d3.select("#reference").text(`Reference: ${block.reference}.`);
  const partner = block.skip_to ?? page.skippedFrom.get(block.name);
  d3.select("#skip-line").attr("hidden", partner ? null : "");
  if (partner) {
    d3.select("#follow").datum(partner).text(block.skip_to
      ? `Follow its skip to ${partner}` : `Back to ${partner}`);
  }
  d3.select("#facts").selectAll("*").remove();
  for (const [name, value] of factsOf(block, page.data)) {
    d3.select("#facts").append("dt").text(name);
    d3.select("#facts").append("dd").text(value);
  }
}

function featuresText(block, level) {
  const rms = `root mean square of all: ${block.rms[level]}`;
  if (block.height === null) {
    return `All ${block.channels} numbers, row by row; ${rms}. `
      + "Red or orange above 0, blue below.";
  }
  return `${block.shown} of ${block.channels} channels on this image; ${rms}. `
    + "Red or orange above 0, blue below; each channel has one scale at all "
    + "noise levels.";
}

function noiseText(level, about) {
  const what = about.noise_level_is ? ` (${about.noise_level_is})` : "";
  const ratio = level.ratio === null ? "no image at all" : level.ratio;
  return `Noise per image (σ / α) ${ratio}; time t ${level.t}; the network `
    + `is told ${level.told}${what}`;
}

const COLUMNS = [
  ["Kind", (x) => x.kind],
  ["Output", shapeOf],
  ["Parameters", (x) => whole(x.parameters), "number"],
  ["MFLOP", (x) => d3.format(",.1f")(x.flops / 1e6), "number"],
  ["Activations, KiB",
    (x) => d3.format(",.0f")(x.activation_bytes / 1024), "number"],
  ["Receptive field", (x) => x.receptive_field ?? "–", "number"],
  ["Measured", (x) => x.measured ?? "–", "number"],
  ["Sees all", (x) => (x.sees_whole_image ? "yes" : "no")],
  ["Is told",
    (x) => x.conditioning.join(", ").replaceAll("_", "\u00a0") || "–",
    "wrapped"],
  ["Skip to", (x) => x.skip_to ?? "–"],
];

function drawTable({about, blocks}, choose) {
  const table = d3.select("#table");
  table.append("caption").text("All blocks in the order of computation.");
  const head = table.append("thead").append("tr");
  head.append("th").attr("scope", "col").text("Block");
  head.selectAll("th.column").data(COLUMNS).join("th")
    .attr("scope", "col").attr("class", (column) => column[2] ?? null)
    .text((column) => column[0]);
  const rows = table.append("tbody").selectAll("tr").data(blocks).join("tr");
  rows.append("th").attr("scope", "row").append("button")
    .attr("type", "button").text((block) => block.name)
    .on("click", (_, block) => choose(block.name, true));
  for (const [, value, className] of COLUMNS) {
    rows.append("td").attr("class", className ?? null).text(value);
  }
  const foot = table.append("tfoot").append("tr");
  foot.append("th").attr("scope", "row").text("Total");
  const totals = ["", "", whole(about.parameters),
    d3.format(",.1f")(about.flops / 1e6),
    d3.format(",.0f")(about.activation_bytes / 1024)];
  COLUMNS.forEach(([, , className], index) => foot.append("td")
    .attr("class", className ?? null).text(totals[index] ?? ""));
  return rows;
}
