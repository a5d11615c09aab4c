/* Samples beside the page, so that it stays responsive.

   To the worker: {type: "load", accelerator}, {type: "sample", order},
   {type: "cancel"}.
   From it: {type: "ready", manifest, mostSteps, takes}, {type: "step", step,
   noisy, estimate}, {type: "done", milliseconds}, {type: "cancelled"},
   {type: "error", message}. */

import {Sampler} from "./sampler.js";

let sampler = null;
let isCancelled = false;

/** Lets messages in: WebAssembly leaves no time for them by itself. */
function nextTask() {
  return new Promise((resolve) => setTimeout(resolve));
}

async function load({accelerator}) {
  sampler = await Sampler.load("/model", "/runtime/", accelerator);
  postMessage({
    type: "ready",
    manifest: sampler.manifest,
    mostSteps: sampler.mostSteps,
    takes: sampler.names,
  });
}

async function sample({order}) {
  isCancelled = false;
  const began = performance.now();
  for await (const state of sampler.sample(order)) {
    postMessage({type: "step", ...state});
    await nextTask();
    if (isCancelled) return postMessage({type: "cancelled"});
  }
  postMessage({type: "done", milliseconds: performance.now() - began});
}

function cancel() {
  isCancelled = true;
}

const handlers = {load, sample, cancel};

addEventListener("message", async ({data}) => {
  try {
    await handlers[data.type](data);
  } catch (error) {
    postMessage({type: "error", message: String(error.message ?? error)});
  }
});
