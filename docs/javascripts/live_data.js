/* From the numbers of a study to views of them.

   A view has a `title`, a `kind` ("lines", "samples" or "fields"), what its
   cursor moves along, `x`, and one or more `parts`, such as noise levels. The
   `lines` of a part are a map from names to arrays `[seed][point]`, or to
   pictures. `references` names what values can be divided by. */

// Their differences are too small to be seen without a ratio.
const SHOWN_AS_RATIOS = ["attention", "conditioning", "resampling", "skips"];

/** All views that a `Result` (studies/report.py) has numbers for. */
export function viewsOf(result) {
  const {series} = result;
  return [
    series.losses && lossesByTime(result),
    series.receptive_fields && errorsBySize(result),
    series.bands && errorsByBand(result),
    series.checks && lossesInTraining(result),
    series.curves && (series.blocks ? gradients(result) : growth(result)),
    series.samples && samples(result),
    series.fields && fields(result),
  ].filter(Boolean);
}

function lossesByTime({study, series}) {
  return ofLines({
    title: "Loss by time",
    measure: measureOf(study, "loss"),
    x: {
      label: "time t (0 clean, 1 noise)",
      values: series.times,
      names: series.times.map(timeName),
    },
    parts: [{lines: mapOf(series.losses)}],
  }, SHOWN_AS_RATIOS.includes(study));
}

/** Errors by frequency; where they are known by time too, at each time. */
function errorsByBand({study, series}) {
  const {times, bands} = series;
  const isByTime = Array.isArray(Object.values(bands)[0][0][0]);
  const atTimes = (pick) => mapOf(bands, (seeds) => seeds.map(pick));
  const mean = (seed) => d3.transpose(seed).map((band) => d3.mean(band));
  const inNoisyHalf = study === "receptive_field" ? ", noisy half" : "";
  return ofLines({
    title: "Error by frequency",
    measure: measureOf(study, `error${inNoisyHalf}`),
    x: ordinal("cycles per pixel", series.band_names),
    partLabel: "At",
    parts: isByTime
      ? [
        {name: "all times, mean", lines: atTimes(mean)},
        ...times.map((t, at) =>
          ({name: timeName(t), lines: atTimes((seed) => seed[at])})),
      ]
      : [{lines: mapOf(bands)}],
  }, SHOWN_AS_RATIOS.includes(study));
}

/** What plain CNNs of growing size lose; any network may be the measure. */
function errorsBySize({series}) {
  const {bands, band_names: names, receptive_fields: sizes} = series;
  const plain = Object.keys(sizes).filter((name) => name !== "U-Net");
  const seeds = d3.range(bands[plain[0]].length);
  // Of each seed, for each plain network, what `pick` chooses.
  const table = (pick) => seeds.map((seed) =>
    plain.map((name) => pick(name)[seed]));
  const line = (k, pick) => table(pick).map((x) => x.map((band) => band[k]));
  return {
    title: "Error by receptive field",
    kind: "lines",
    measure: "error, noisy half",
    x: {
      label: "receptive field of the plain CNN, pixels",
      values: plain.map((name) => sizes[name]),
      names: plain.map((name) => `${name}, sees ${sizes[name]} pixels`),
    },
    parts: [{
      lines: new Map(names.map((name, k) =>
        [`${name} cycles/pixel`, line(k, (network) => bands[network])])),
      divisor: (reference, index) => line(index, () => bands[reference]),
    }],
    references: Object.keys(bands),
    reference: "U-Net" in bands ? "U-Net" : null,
  };
}

function lossesInTraining({series}) {
  return ofLines({
    title: "Loss in training",
    measure: "held-out loss",
    x: {
      label: "training step",
      values: series.steps,
      names: series.steps.map((n) => `step ${n.toLocaleString("en")}`),
    },
    parts: [{lines: mapOf(series.checks)}],
  });
}

function growth({series}) {
  const count = Object.values(series.curves)[0][0].length;
  const steps = d3.range(1, count + 1);
  return ofLines({
    title: "Error by sampling step",
    measure: "difference of x_t / error of one prediction",
    x: {
      label: `sampling step, of ${count}`,
      values: steps,
      names: steps.map((n) => `after step ${n}`),
    },
    parts: [{lines: mapOf(series.curves)}],
  });
}

function gradients({series}) {
  const numbers = series.blocks.map((_, at) => `${at + 1}`);
  const names = series.blocks.map((name, at) =>
    `block ${at + 1}, ${name.replaceAll("_", " ")}`);
  return ofLines({
    title: "Gradient by block",
    measure: "gradient, root mean square",
    x: {...ordinal("residual block, from the image", numbers), names},
    partLabel: "When",
    parts: Object.entries(series.curves).map(([name, lines]) =>
      ({name, lines: mapOf(lines)})),
  });
}

function samples({series}) {
  const count = Object.values(series.samples)[0].length;
  const names = d3.range(count).map((at) => `sample ${at + 1} of ${count}`);
  return {
    title: "Samples",
    kind: "samples",
    x: {label: "sample", values: d3.range(count), names},
    parts: [{lines: mapOf(series.samples)}],
    references: [],
    reference: null,
  };
}

function fields({series}) {
  const width = Object.values(series.fields)[0][0].length;
  const middle = Math.floor(width / 2);
  const values = d3.range(width).map((column) => column - middle);
  return {
    title: "What the middle pixel depends on",
    kind: "fields",
    x: {
      label: "pixels to the right of the middle",
      values,
      names: values.map((n) => (n === 0 ? "the middle" : `${Math.abs(n)} px `
        + (n < 0 ? "left" : "right") + " of the middle")),
    },
    parts: [{lines: mapOf(series.fields)}],
    sizes: series.receptive_fields,
    references: [],
    reference: null,
  };
}

/** A view of lines, each of which may be divided by any of them. */
function ofLines(view, isRatio = false) {
  for (const part of view.parts) {
    part.divisor = (name) => part.lines.get(name);
  }
  const references = [...view.parts[0].lines.keys()];
  const reference = isRatio ? references[0] : null;
  return {kind: "lines", references, reference, ...view};
}

/** In the study of scales, numbers are ratios already. */
function measureOf(study, name) {
  return study === "scales" ? `${name} / that of the whole network` : name;
}

function ordinal(label, names) {
  return {label, values: d3.range(names.length), names, ticks: names};
}

function mapOf(object, change = (x) => x) {
  return new Map(Object.entries(object)
    .map(([name, value]) => [name, change(value)]));
}

function timeName(t) {
  return `t = ${Number(t.toFixed(4))}`;
}

/** What the values of a view are called, divided or not. */
export function measureName(view, reference) {
  if (reference === null) return view.measure;
  // A ratio to the whole network cancels out.
  return `${view.measure.split(" / that of")[0]} / that of ${reference}`;
}

/** Lines of a part, `{name, index, values}`, divided seed by seed. */
export function linesOf(part, reference) {
  return [...part.lines].map(([name, values], index) => {
    if (reference === null) return {name, index, values};
    const divisor = part.divisor(reference, index);
    return {name, index, values: values.map((points, seed) =>
      points.map((value, at) => value / divisor[seed][at]))};
  });
}

/** Mean ± standard deviation, as in the tables of the pages. */
export function meanAndDeviation(values) {
  const deviation = d3.deviation(values) ?? 0;
  return `${digits(d3.mean(values))} ± ${digits(deviation, 2)}`;
}

/** A number to so many digits; the same rule as studies/report.py has. */
export function digits(number, count = 3) {
  if (number === 0 || !Number.isFinite(number)) return `${number}`;
  const rounded = Number(number.toPrecision(count));
  const places = count - 1 - Math.floor(Math.log10(Math.abs(rounded)));
  if (places > 6) {
    return number.toExponential(count - 1).replace(/e-(\d)$/, "e-0$1");
  }
  const shown = Math.max(places, 0);
  return rounded.toLocaleString("en", {
    minimumFractionDigits: shown, maximumFractionDigits: shown,
  });
}
