/* npm test -- EXPORTED [FOLDER]: uses the page as people do, in a headless
   browser, and prints what it found as JSON. Screenshots go to FOLDER.

   CHROMIUM names the browser's program, /usr/bin/chromium unless set. */

import {mkdir} from "node:fs/promises";
import {join} from "node:path";
import {chromium} from "playwright-core";
import {serve} from "./server.mjs";

const ORDER = {label: "3", steps: "8", seed: "7", guidance: "2"};
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--no-first-run",
  "--disable-background-networking", "--disable-component-update",
  "--disable-sync",
];

/** Opens the page and notes all that goes wrong and all that is fetched. */
async function open(browser, address, options) {
  const page = await browser.newPage(options);
  const notes = {problems: [], addresses: []};
  page.on("console", (message) => {
    if (message.type() === "error") notes.problems.push(message.text());
  });
  page.on("pageerror", (error) => notes.problems.push(error.message));
  page.on("request", (request) => notes.addresses.push(request.url()));
  await page.goto(address);
  await page.locator("#generate:enabled, #error:visible")
    .waitFor({timeout: 120_000});
  if (await page.locator("#error").isVisible()) {
    throw new Error(await page.locator("#error").textContent());
  }
  return {page, notes};
}

async function fill(page, order) {
  for (const [id, value] of Object.entries(order)) {
    const field = page.locator(`#${id}`);
    if (!await field.isVisible()) continue;
    await (id === "label" ? field.selectOption(value) : field.fill(value));
  }
}

function statusStarts(page, word) {
  return page.waitForFunction(
    (text) => document.getElementById("status").textContent.startsWith(text),
    word, {timeout: 120_000},
  );
}

/** Bytes of the finished image: those of one channel of four. */
function pixelsOf(page) {
  return page.evaluate(() => {
    const canvas = document.getElementById("noisy");
    const {data} = canvas.getContext("2d")
      .getImageData(0, 0, canvas.width, canvas.height);
    return Array.from(data);
  });
}

/** Clicks through one image; notes what was announced on the way. */
async function generate(page) {
  await fill(page, ORDER);
  await page.evaluate(() => {
    window.progressSeen = [];
    const bar = document.getElementById("progress");
    new MutationObserver(() => window.progressSeen.push(bar.value))
      .observe(bar, {attributes: true});
  });
  await page.locator("#generate").click();
  await statusStarts(page, "Done");
  return {
    pixels: await pixelsOf(page),
    status: await page.locator("#status").textContent(),
    progress: await page.evaluate(() => window.progressSeen),
    label: await page.locator("#noisy").getAttribute("aria-label"),
    gallery: await page.locator("#gallery img").first().getAttribute("alt"),
  };
}

/** From seed to Generate to Cancel by the keyboard alone. */
async function cancelByKeyboard(page) {
  await fill(page, {steps: "400"});
  await page.locator("#seed").focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(
    () => document.getElementById("progress").value >= 2);
  const focused = await page.evaluate(() => document.activeElement.id);
  const began = Date.now();
  await page.keyboard.press("Escape");
  await statusStarts(page, "Cancelled");
  return {
    focused,
    milliseconds: Date.now() - began,
    then: await page.evaluate(() => document.activeElement.id),
    step: await page.evaluate(() => document.getElementById("progress").value),
  };
}

/** Elements of a form without a name for a screen reader. */
function unnamed(page) {
  return page.evaluate(() =>
    [...document.querySelectorAll("input, select, button, progress, canvas")]
      .filter((x) => !x.labels?.length && !x.ariaLabel && !x.textContent)
      .map((x) => x.id));
}

async function photograph(page, name) {
  if (!shots) return;
  await page.screenshot({path: join(shots, `${name}.png`), fullPage: true});
}

async function checkPhone(browser, address) {
  const {page, notes} = await open(browser, address, {
    viewport: {width: 360, height: 740}, colorScheme: "dark",
  });
  await generate(page);
  const width = await page.evaluate(() => document.body.scrollWidth);
  await photograph(page, "phone_dark");
  await page.close();
  return {width, problems: notes.problems};
}

const [exported, shots] = process.argv.slice(2);
if (shots) await mkdir(shots, {recursive: true});
const server = await serve(exported, 0);
const address = `http://127.0.0.1:${server.address().port}/`;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS,
});
try {
  const {page, notes} = await open(browser, address, {
    viewport: {width: 900, height: 900}, colorScheme: "light",
  });
  const first = await generate(page);
  await photograph(page, "desktop_light");
  const again = await generate(page);
  const report = {
    address,
    order: ORDER,
    first,
    isSameAgain: String(first.pixels) === String(again.pixels),
    cancelled: await cancelByKeyboard(page),
    unnamed: await unnamed(page),
    phone: await checkPhone(browser, address),
    ...notes,
  };
  console.log(JSON.stringify(report));
} finally {
  await browser.close();
  server.close();
}
