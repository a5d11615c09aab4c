/* Sampling with the signature `step` of an exported LiteRT file. */

import {Tensor, loadAndCompile, loadLiteRt} from "@litertjs/core";
import {standardNormal} from "./noise.js";

// What this page knows how to fill in.
const INPUTS = ["x_t", "step", "num_steps", "labels", "guidance_scale"];

/** A model, its manifest and the runtime. */
export class Sampler {
  /**
   * @param {string} folder address of the exported files.
   * @param {string} runtime address of the runtime's WebAssembly.
   * @param {"wasm"|"webgpu"} accelerator
   */
  static async load(folder, runtime, accelerator) {
    self.Module = {
      // Else it looks for its WebAssembly beside the worker.
      locateFile: (name) => runtime + name,
      // Else all that it tells counts as an error.
      printErr: (line) =>
        console[/^(INFO|WARNING)/.test(line) ? "debug" : "error"](line),
    };
    const [manifest, file] = await Promise.all([
      fetchOf(`${folder}/manifest.json`).then((x) => x.json()),
      fetchOf(`${folder}/litert/float32.tflite`).then((x) => x.arrayBuffer()),
      loadLiteRt(runtime, {threads: false}),
    ]);
    const model = await loadAndCompile(new Uint8Array(file), {accelerator});
    return new Sampler(manifest, model);
  }

  constructor(manifest, model) {
    this.manifest = manifest;
    this.shape = [1, ...manifest.image_shape];
    this.size = manifest.image_shape.reduce((a, b) => a * b);
    this.step = model.signatures.step;
    if (!this.step) {
      throw new Error("The file has no signature step. Export it again.");
    }
    this.names = this.step.getInputDetails().map((x) => x.name);
    const unknown = this.names.filter((x) => !INPUTS.includes(x));
    if (unknown.length) {
      throw new Error(`The page cannot fill in ${unknown.join(", ")}.`);
    }
  }

  get mostSteps() {
    return this.manifest.num_timesteps ?? 128;
  }

  /**
   * Goes from noise to an image.
   *
   * @param {{seed: number, steps: number, label: number, guidance: number}}
   *   order
   * @yields {{step: number, noisy: Float32Array, estimate: Float32Array}}
   *   after each step; `noisy` of the last is the image.
   */
  async* sample({seed, steps, label, guidance}) {
    let noisy = standardNormal(seed, this.size);
    for (let step = 0; step < steps; step++) {
      const result = await this.#run({
        x_t: new Tensor(noisy, this.shape),
        step: new Tensor(Int32Array.of(step), []),
        num_steps: new Tensor(Int32Array.of(steps), []),
        labels: new Tensor(Int32Array.of(label), [1]),
        guidance_scale: new Tensor(Float32Array.of(guidance), []),
      });
      noisy = result.x_next;
      yield {step: step + 1, noisy, estimate: result.x_0};
    }
  }

  /** Calls the signature; tensors live outside of JavaScript's memory. */
  async #run(tensors) {
    const inputs = {};
    for (const name of this.names) inputs[name] = tensors[name];
    const outputs = await this.step.run(inputs);
    const result = {};
    for (const [name, tensor] of Object.entries(outputs)) {
      // Copies, as the tensor's memory is freed below.
      result[name] = (await tensor.data()).slice();
      tensor.delete();
    }
    for (const tensor of Object.values(tensors)) tensor.delete();
    return result;
  }
}

async function fetchOf(address) {
  const answer = await fetch(address);
  if (!answer.ok) {
    throw new Error(`${address} cannot be read: ${answer.status}.`);
  }
  return answer;
}
