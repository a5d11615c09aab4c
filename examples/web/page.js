/* The page: what the user asks for, and what the worker answers. */

const ids = [
  "form", "controls", "label", "label-field", "steps", "seed", "guidance",
  "guidance-field", "accelerator", "generate", "cancel", "progress",
  "status", "error", "noisy", "estimate", "gallery",
];
const parts = Object.fromEntries(
  ids.map((id) => [id, document.getElementById(id)]),
);

let worker = null;
let imageShape = null; // null while no model is loaded
let order = null; // of the image that is being made

function say(text) {
  parts.status.textContent = text;
}

function complain(text) {
  parts.error.textContent = text;
  parts.error.hidden = !text;
}

function setBusy(isBusy) {
  parts.controls.disabled = isBusy;
  parts.generate.disabled = isBusy || !imageShape;
  parts.cancel.disabled = !order;
}

/** Starts a worker with the model on what the user wants it to run on. */
function load() {
  worker?.terminate();
  order = imageShape = null;
  setBusy(true);
  complain("");
  say("Loading the model…");
  worker = new Worker("/build/worker.js");
  worker.onmessage = ({data}) => answers[data.type](data);
  worker.onerror = (event) => answers.error({message: event.message});
  worker.postMessage({type: "load", accelerator: parts.accelerator.value});
}

function readOrder() {
  return {
    label: Number(parts.label.value),
    steps: Number(parts.steps.value),
    seed: Number(parts.seed.value),
    guidance: Number(parts.guidance.value),
  };
}

function describe({label, steps, seed, guidance}) {
  const facts = [`seed ${seed}`, `${steps} steps`];
  if (!parts["label-field"].hidden) facts.unshift(`class ${label}`);
  if (!parts["guidance-field"].hidden) facts.push(`guidance ${guidance}`);
  return facts.join(", ");
}

function start(event) {
  event.preventDefault();
  if (parts.generate.disabled) return;
  order = readOrder();
  complain("");
  setBusy(true);
  parts.progress.max = order.steps;
  parts.progress.value = 0;
  say(`Drawing ${describe(order)}.`);
  parts.cancel.focus(); // the button that was pressed is disabled now
  worker.postMessage({type: "sample", order});
}

function cancel() {
  if (order) worker.postMessage({type: "cancel"});
}

/** Ends an order and gives the keyboard back where it was. */
function finish(text) {
  const hadFocus = document.activeElement === parts.cancel;
  order = null;
  setBusy(false);
  if (hadFocus) parts.generate.focus();
  say(text);
}

/** Draws numbers in [-1, 1] as pixels; one channel as grey. */
function draw(canvas, values, text) {
  const [height, width, channels] = imageShape;
  const pixels = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) {
      const value = values[i * channels + (channels === 1 ? 0 : c)];
      // Clipped and rounded by the array itself.
      pixels.data[4 * i + c] = (value + 1) * 127.5;
    }
    pixels.data[4 * i + 3] = 255;
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  canvas.setAttribute("aria-label", text);
}

function addToGallery() {
  const item = document.createElement("li");
  const image = new Image();
  image.src = parts.noisy.toDataURL("image/png");
  image.alt = image.title = describe(order);
  item.append(image);
  parts.gallery.prepend(item);
}

const answers = {
  ready({manifest, mostSteps, takes}) {
    imageShape = manifest.image_shape;
    parts.steps.max = mostSteps;
    parts["label-field"].hidden = !takes.includes("labels");
    parts["guidance-field"].hidden = !takes.includes("guidance_scale");
    const chosen = parts.label.value;
    parts.label.replaceChildren(
      ...Array.from({length: manifest.num_classes ?? 0}, (_, k) =>
        new Option(k, k, false, String(k) === chosen)),
    );
    finish("Ready.");
  },
  step({step, noisy, estimate}) {
    parts.progress.value = step;
    const text = `After step ${step} of ${order.steps}`;
    draw(parts.noisy, noisy, text);
    draw(parts.estimate, estimate, `${text}, estimated`);
  },
  done({milliseconds}) {
    addToGallery();
    const each = Math.round(milliseconds / order.steps);
    finish(`Done: ${describe(order)}; ${each} ms a step.`);
  },
  cancelled() {
    finish("Cancelled.");
  },
  error({message}) {
    complain(message);
    finish("That did not work.");
  },
};

parts.form.addEventListener("submit", start);
parts.cancel.addEventListener("click", cancel);
parts.accelerator.addEventListener("change", load);
addEventListener("keydown", (event) => {
  if (event.key === "Escape") cancel();
});

const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
parts.accelerator.options[1].disabled = !adapter;
load();
