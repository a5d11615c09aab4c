/* Pictures: from data URIs to canvases. */

/** Loads each picture once; a picture that is asked for again is shared. */
function pictureLoader(uris) {
  const loading = new Map();
  return (name) => {
    if (!loading.has(name)) {
      const image = new Image();
      image.src = uris[name];
      loading.set(name, image.decode().then(() => image));
    }
    return loading.get(name);
  };
}

/** Draws one of several equal parts, side by side or in a grid. */
async function paintPart(canvas, picture, {column, row, columns, rows}) {
  const image = await picture;
  const width = image.naturalWidth / columns;
  const height = image.naturalHeight / rows;
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").drawImage(
    image, column * width, row * height, width, height, 0, 0, width, height);
}

/** 256 colours of numbers around 0, which is the middle one. */
function signedColours(isDark) {
  const ends = isDark
    ? ["#4da3ff", "#161614", "#ffae3d"]
    : ["#1f5fa8", "#fbfaf7", "#b2301c"];
  const colour = d3.scaleLinear([1, 128, 255], ends)
    .interpolate(d3.interpolateLab).clamp(true);
  return d3.range(256).map((value) => d3.rgb(colour(value)));
}

/** Bytes of a part of a picture: the red of its pixels. */
function bytesOf(image, left, top, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(image, left, top, width, height, 0, 0, width, height);
  const {data} = context.getImageData(0, 0, width, height);
  return data.filter((_, index) => index % 4 === 0);
}

/** Draws the channels of a block at one level, a gap between them. */
async function paintFeatures(canvas, picture, block, level, colours) {
  const image = await picture;
  const [rows, columns, height, width] = block.tile;
  const zoom = Math.max(1, Math.round(96 / Math.max(height, width)));
  const gap = block.shown > 1 ? 4 : 0;
  canvas.width = columns * (width * zoom + gap) - gap;
  canvas.height = rows * (height * zoom + gap) - gap;
  const context = canvas.getContext("2d");
  const left = level * columns * width;
  const bytes = bytesOf(image, left, 0, columns * width, rows * height);
  for (let k = 0; k < rows * columns; k++) {
    const row = Math.floor(k / columns), column = k % columns;
    if (gap && k >= block.shown) continue;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const at = (row * height + y) * columns * width + column * width + x;
        context.fillStyle = colours[bytes[at]];
        context.fillRect(
          column * (width * zoom + gap) + x * zoom,
          row * (height * zoom + gap) + y * zoom, zoom, zoom);
      }
    }
  }
}

/** Draws a heat map over what a canvas shows: dark where nothing matters. */
async function paintHeat(canvas, picture) {
  const image = await picture;
  const {naturalWidth: width, naturalHeight: height} = image;
  const bytes = bytesOf(image, 0, 0, width, height);
  const layer = new OffscreenCanvas(width, height);
  const context = layer.getContext("2d");
  const pixels = context.createImageData(width, height);
  bytes.forEach((value, index) => {
    const colour = d3.rgb(d3.interpolateInferno(value / 255));
    pixels.data.set([colour.r, colour.g, colour.b, 200], 4 * index);
  });
  context.putImageData(pixels, 0, 0);
  const on = canvas.getContext("2d");
  on.imageSmoothingEnabled = false;
  on.drawImage(layer, 0, 0, canvas.width, canvas.height);
}

/** Enlarges what a canvas shows by a whole number, for lines drawn on it. */
function enlarge(canvas, least) {
  const zoom = Math.max(1, Math.floor(least / canvas.width));
  if (zoom === 1) return 1;
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  copy.getContext("2d").drawImage(canvas, 0, 0);
  canvas.width *= zoom;
  canvas.height *= zoom;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(copy, 0, 0, canvas.width, canvas.height);
  return zoom;
}

/** Draws the square that the middle pixel can see, cut at the image's edge.

    `size` and `centre` are shares of the image. */
function paintSquare(canvas, size, centre) {
  const context = canvas.getContext("2d");
  const inside = (share) => Math.max(1.5,
    Math.min(canvas.width - 1.5, share * canvas.width));
  const first = inside(centre - size / 2), last = inside(centre + size / 2);
  for (const [colour, width] of [["#000", 5], ["#fff", 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.strokeRect(first, first, last - first, last - first);
  }
}
