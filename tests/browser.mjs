/* What the tests of pages share: a headless browser, and notes of what goes
   wrong in it and of what it fetches.

   CHROMIUM names the browser's program, /usr/bin/chromium unless set. */

import {join} from "node:path";
import {chromium} from "playwright-core";

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--no-first-run",
  "--disable-background-networking", "--disable-component-update",
  "--disable-sync",
];

/** Starts a browser, does some work in it and closes it. */
export async function withBrowser(work) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS,
  });
  try {
    await work(browser);
  } finally {
    await browser.close();
  }
}

/** Opens a page and notes all that goes wrong and all that is fetched. */
export async function open(browser, address, options) {
  const page = await browser.newPage(options);
  const notes = {problems: [], addresses: []};
  page.on("console", (message) => {
    if (message.type() === "error") notes.problems.push(message.text());
  });
  page.on("pageerror", (error) => notes.problems.push(error.message));
  page.on("request", (request) => notes.addresses.push(request.url()));
  await page.goto(address);
  return {page, notes};
}

/** Elements that a screen reader has no name for. */
export function unnamed(page, within = "body") {
  return page.evaluate((selector) => {
    const kinds = "input, select, button, canvas, [role=img], [role=option], "
      + "[role=region], [role=group]";
    return [...document.querySelectorAll(`:is(${selector}) :is(${kinds})`)]
      .filter((x) => !x.labels?.length && !x.ariaLabel && !x.textContent)
      .map((x) => x.outerHTML.slice(0, 80));
  }, within);
}

/** A picture of the whole page, or of one element without what floats. */
export async function photograph(page, folder, name, element = null) {
  await page.waitForTimeout(300);
  const path = join(folder, `${name}.png`);
  const style = ".md-header { visibility: hidden }";
  if (element) await element.screenshot({path, style});
  else await page.screenshot({path, fullPage: true});
}
