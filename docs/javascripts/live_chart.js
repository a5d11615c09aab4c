/* A chart of lines with their spread, drawn by D3. */

const HEIGHT = 290;
const MARGIN = {top: 30, right: 26, bottom: 40, left: 56};
// Colours are seven, see live_figures.css; dashes are eight, so that fifty-six
// lines differ. Marks tell lines apart without colours, too.
const NUM_COLOURS = 7;
const DASHES = [
  "none", "7 3", "2 3", "10 3 2 3", "4 2", "12 4", "8 2 2 2 2 2", "1 2",
];

/** The colour of a line, by its place among all lines of the view. */
export function colourOf(index) {
  return `var(--live-line-${index % NUM_COLOURS})`;
}

/** A short piece of a line with its mark, for the button that shows it. */
export function drawSwatch(svg, index) {
  svg.attr("class", "live-swatch").attr("viewBox", "0 0 34 12")
    .attr("aria-hidden", "true").style("color", colourOf(index));
  svg.append("path").attr("class", "live-line").attr("d", "M1 6H33")
    .attr("stroke-dasharray", DASHES[index % DASHES.length]);
  svg.append("path").attr("class", "live-mark").attr("d", markOf(index))
    .attr("transform", "translate(17,6)");
}

function markOf(index) {
  const shapes = d3.symbolsFill;
  return d3.symbol(shapes[index % shapes.length], 42)();
}

/** Draws lines into an empty element.

    @param root selection of the element.
    @param x what the x axis shows, see live_data.js.
    @param lines list of `{name, index, values}`, values by seed and point.
    @param label of the y axis.
    @param isLog whether y is logarithmic.
    @param isRatio whether 1 means "the same".
    @param onPoint called with the number of the point at the pointer.
    @returns function that moves the cursor to the point of a number. */
export function drawChart(root, {x, lines, label, isLog, isRatio, onPoint}) {
  const width = root.node().clientWidth;
  const scales = {
    x: d3.scaleLinear(d3.extent(x.values),
      [MARGIN.left + 12, width - MARGIN.right]),
    y: scaleOf(lines, isLog),
  };
  const svg = root.append("svg").attr("class", "live-chart")
    .attr("width", width).attr("height", HEIGHT).attr("role", "img")
    .attr("aria-label", `Chart: ${label}, by ${x.label}. The table below has `
      + "the values at the cursor.");
  drawAxes(svg, width, x, scales, label);
  if (isRatio) drawRule(svg, width, scales.y);
  for (const line of lines) drawLine(svg, x, line, scales);
  const cursor = svg.append("line").attr("class", "live-cursor-line")
    .attr("y1", MARGIN.top).attr("y2", HEIGHT - MARGIN.bottom);
  followPointer(svg, x.values.map(scales.x), onPoint);
  return (at) => cursor.attr("transform",
    `translate(${scales.x(x.values[at])},0)`);
}

function scaleOf(lines, isLog) {
  const [least = 1, largest = 1] = d3.extent(
    lines.flatMap(({values}) => values.flat()));
  // Equal values, as a ratio to itself, have no extent to be drawn in.
  const ends = least < largest ? [least, largest]
    : [least - 0.1 * Math.abs(least), largest + 0.1 * Math.abs(largest)];
  const range = [HEIGHT - MARGIN.bottom, MARGIN.top];
  if (!isLog) return d3.scaleLinear(ends, range).nice();
  // `nice` would go on to powers of ten; marks at the ends want little.
  const margin = (ends[1] / ends[0]) ** 0.03;
  return d3.scaleLog([ends[0] / margin, ends[1] * margin], range);
}

function drawAxes(svg, width, x, scales, label) {
  const axis = d3.axisBottom(scales.x).tickSizeOuter(0);
  if (x.ticks) {
    axis.tickValues(x.values).tickFormat((_, at) => x.ticks[at]);
  } else {
    axis.ticks(Math.min(x.values.length, width / 70));
  }
  svg.append("g").attr("class", "live-axis")
    .attr("transform", `translate(0,${HEIGHT - MARGIN.bottom})`).call(axis);
  svg.append("g").attr("class", "live-axis")
    .attr("transform", `translate(${MARGIN.left},0)`)
    .call(d3.axisLeft(scales.y).ticks(6, "~g").tickSizeOuter(0))
    .call((group) => group.selectAll(".tick line").clone()
      .attr("class", "live-grid").attr("x2", width - MARGIN.left));
  const title = svg.append("g").attr("class", "live-title");
  title.append("text").attr("x", 0).attr("y", 14).text(label);
  title.append("text").attr("x", (MARGIN.left + width) / 2)
    .attr("y", HEIGHT - 5).attr("text-anchor", "middle").text(x.label);
}

/** Where a line would be that is the same as the one it is divided by. */
function drawRule(svg, width, y) {
  const [least, largest] = y.domain();
  if (least > 1 || largest < 1) return;
  svg.append("line").attr("class", "live-rule").attr("x1", MARGIN.left)
    .attr("x2", width).attr("y1", y(1)).attr("y2", y(1));
}

/** A band from the least to the largest seed, a dot for each, their mean. */
function drawLine(svg, x, {name, index, values}, scales) {
  const points = d3.transpose(values)
    .map((seeds, at) => ({x: scales.x(x.values[at]), seeds}));
  const group = svg.append("g").attr("class", "live-series")
    .attr("data-name", name).style("color", colourOf(index));
  const mean = (point) => scales.y(d3.mean(point.seeds));
  group.append("path").attr("class", "live-band").attr("d",
    d3.area((point) => point.x, (point) => scales.y(d3.min(point.seeds)),
      (point) => scales.y(d3.max(point.seeds)))(points));
  group.append("path").attr("class", "live-line")
    .attr("stroke-dasharray", DASHES[index % DASHES.length])
    .attr("d", d3.line((point) => point.x, mean)(points));
  for (const point of points) {
    group.selectAll(null).data(point.seeds).join("circle")
      .attr("class", "live-seed").attr("r", 2.2)
      .attr("cx", point.x).attr("cy", scales.y);
  }
  group.selectAll(null).data(points).join("path").attr("class", "live-mark")
    .attr("d", markOf(index))
    .attr("transform", (point) => `translate(${point.x},${mean(point)})`);
}

function followPointer(svg, places, onPoint) {
  svg.on("pointerdown pointermove", (event) => {
    const [x] = d3.pointer(event);
    onPoint(d3.leastIndex(places, (place) => Math.abs(place - x)));
  });
}
