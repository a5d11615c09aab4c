/* npm start -- EXPORTED [PORT]: serves the page, the runtime and the model
   from one place. */

import {createReadStream} from "node:fs";
import {stat} from "node:fs/promises";
import {createServer} from "node:http";
import {extname, join, normalize, resolve, sep} from "node:path";
import {fileURLToPath} from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".tflite": "application/octet-stream",
  ".wasm": "application/wasm",
};
// Nothing can be fetched from elsewhere.
const HEADERS = {
  "Content-Security-Policy":
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; " +
    "img-src 'self' data:",
  "Cache-Control": "no-cache",
  "X-Content-Type-Options": "nosniff",
};

/** Where the files of an address lie; null for what is not served. */
function locate(address, exported) {
  let path;
  try {
    path = normalize(decodeURIComponent(new URL(address, "http://x").pathname));
  } catch {
    return null; // not an address
  }
  const [, first, ...rest] = path.split("/");
  if (rest.includes("..") || path.includes("\0")) return null;
  if (first === "model") return join(exported, ...rest);
  if (first === "runtime") {
    return join(here, "node_modules/@litertjs/core/wasm", ...rest);
  }
  const page = ["/", "/index.html", "/page.js", "/style.css",
    "/build/worker.js"];
  if (!page.includes(path)) return null;
  return join(here, path === "/" ? "index.html" : path.split("/").join(sep));
}

/**
 * Serves the page.
 *
 * @param {string} exported folder that the export wrote.
 * @param {number} port 0 for any free one.
 * @returns {Promise<import("node:http").Server>} once it listens.
 */
export async function serve(exported, port) {
  await stat(join(exported, "litert", "float32.tflite")).catch(() => {
    throw new Error(
      `There is no exported model. Received: ${exported}. Pass the folder ` +
      "that python -m export wrote.",
    );
  });
  const server = createServer(async (request, response) => {
    const path = locate(request.url, resolve(exported));
    const found = path && await stat(path).catch(() => null);
    const isRead = ["GET", "HEAD"].includes(request.method);
    if (!found?.isFile() || !isRead) {
      response.writeHead(isRead ? 404 : 405, HEADERS).end();
      return;
    }
    response.writeHead(200, {
      ...HEADERS,
      "Content-Type": TYPES[extname(path)] ?? "application/octet-stream",
      "Content-Length": found.size,
    });
    if (request.method === "HEAD") return response.end();
    createReadStream(path).on("error", () => response.destroy())
      .pipe(response);
  });
  return new Promise((done, fail) => {
    server.once("error", fail);
    server.listen(port, "127.0.0.1", () => done(server));
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [exported = "exported", port = "8080"] = process.argv.slice(2);
  try {
    const server = await serve(exported, Number(port));
    console.log(`http://127.0.0.1:${server.address().port}/`);
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
