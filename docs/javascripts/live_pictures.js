/* Pictures of a study on canvases: samples, and fields as heat maps. */

import {colourOf} from "./live_chart.js";

const COLUMNS = 4;
const GAP = 2;
// Powers of ten between the darkest and the brightest of a heat map.
const DECADES = 4;

/** Draws, for each network, its sample at the cursor and all its samples.

    Arguments and what is returned are those of `drawChart`. */
export function drawSamples(root, {x, lines, onPoint}) {
  const painters = lines.map(({name, index, values: images}) => {
    const figure = addFigure(root, name, index);
    const large = addCanvas(figure, "live-large");
    const all = addCanvas(figure, "live-grid-of-samples",
      `All samples of ${name}; press one to enlarge it`);
    const side = images[0].length + GAP;
    all.on("pointerdown", (event) => {
      const [column, row] = placeOn(event, all.node())
        .map((pixel) => Math.floor(pixel / side));
      // The gap on the right belongs to the last column.
      const at = row * COLUMNS + Math.min(column, COLUMNS - 1);
      onPoint(Math.min(at, images.length - 1));
    });
    return (at) => {
      large.attr("aria-label", `${name}, ${x.names[at]}`);
      fit(large, images[at]);
      paint(large, images[at], 0, 0);
      paintAll(all, images, at, side);
    };
  });
  return (at) => painters.forEach((painter) => painter(at));
}

/** A grid of images, the one at the cursor in a frame. */
function paintAll(canvas, images, at, side) {
  const node = canvas.node();
  node.width = COLUMNS * side + GAP;
  node.height = Math.ceil(images.length / COLUMNS) * side + GAP;
  const context = node.getContext("2d");
  context.fillStyle = getComputedStyle(node).color;
  images.forEach((image, k) => {
    const left = (k % COLUMNS) * side, top = Math.floor(k / COLUMNS) * side;
    if (k === at) context.fillRect(left, top, side + GAP, side + GAP);
    paint(canvas, image, left + GAP, top + GAP);
  });
}

/** An image `[row][column][channel]`, grey or coloured, of pixels in [-1, 1],
    into a canvas. */
function paint(canvas, image, left, top) {
  putPixels(canvas, image, left, top, (pixel) => {
    const bytes = pixel.map((value) => Math.round(127.5 * (value + 1)));
    return bytes.length === 1 ? [bytes[0], bytes[0], bytes[0]] : bytes;
  });
}

/** Draws, for each network, how much its middle pixel depends on each other.

    Arguments and what is returned are those of `drawChart`. */
export function drawFields(root, {x, lines, onPoint}) {
  const painters = lines.map(({name, index, values: field}) => {
    const figure = addFigure(root, name, index);
    const canvas = addCanvas(figure, "live-large", `Heat map: what the middle `
      + `pixel of ${name} depends on; press or point to move the cursor`);
    const last = field[0].length - 1;
    canvas.on("pointerdown pointermove", (event) => {
      const [column] = placeOn(event, canvas.node());
      onPoint(d3.median([0, Math.floor(column), last]));
    });
    return (at) => {
      fit(canvas, field);
      paintField(canvas, field);
      markPixel(canvas, at, Math.floor(field.length / 2));
    };
  });
  addScale(root);
  return (at) => painters.forEach((painter) => painter(at));
}

/** As in the figures: logarithmic, over four powers of ten. */
function paintField(canvas, field) {
  const largest = d3.max(field.flat());
  const colour = d3.scaleSequentialLog(d3.interpolateCividis)
    .domain([largest / 10 ** DECADES, largest]).clamp(true);
  putPixels(canvas, field, 0, 0, (value) => {
    // A logarithm needs more than nothing.
    const {r, g, b} = d3.rgb(colour(Math.max(value, 1e-300)));
    return [r, g, b];
  });
}

function markPixel(canvas, column, row) {
  const context = canvas.node().getContext("2d");
  context.fillStyle = "#e4002b";
  context.fillRect(column, row, 1, 1);
}

function addScale(root) {
  const scale = root.append("p").attr("class", "live-scale");
  const stops = d3.range(0, 1.01, 0.125).map(d3.interpolateCividis);
  scale.append("span").text(`1/${(10 ** DECADES).toLocaleString("en")}`);
  scale.append("span").attr("class", "live-ramp")
    .style("background", `linear-gradient(90deg, ${stops.join(", ")})`);
  scale.append("span").text("the largest; red: the cursor");
}

function addFigure(root, name, index) {
  const figure = root.append("figure").attr("class", "live-picture")
    .attr("data-name", name);
  figure.append("figcaption").style("border-color", colourOf(index))
    .text(name);
  return figure;
}

function addCanvas(figure, className, label) {
  return figure.append("canvas").attr("class", className).attr("role", "img")
    .attr("aria-label", label);
}

/** Makes a canvas as large as a picture, and empty. */
function fit(canvas, picture) {
  canvas.attr("width", picture[0].length).attr("height", picture.length);
}

function putPixels(canvas, picture, left, top, bytesOf) {
  const height = picture.length, width = picture[0].length;
  const bytes = picture.flat().flatMap((pixel) => [...bytesOf(pixel), 255]);
  const data = new ImageData(new Uint8ClampedArray(bytes), width, height);
  canvas.node().getContext("2d").putImageData(data, left, top);
}

/** Where an event is on a canvas, in its own pixels. */
function placeOn(event, canvas) {
  const [x, y] = d3.pointer(event, canvas);
  return [
    x * canvas.width / canvas.clientWidth,
    y * canvas.height / canvas.clientHeight,
  ];
}
