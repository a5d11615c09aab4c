/* node live_figures.mjs ADDRESS FOLDER SHOTS PAGE...: uses the live figures of
   pages of the site as people do, in a headless browser, and prints what it
   found as JSON. ADDRESS serves the site that is in FOLDER; screenshots go to
   the folder SHOTS. */

import {mkdir} from "node:fs/promises";
import {join, resolve} from "node:path";
import {pathToFileURL} from "node:url";
import {open, photograph, unnamed, withBrowser} from "./browser.mjs";

const [address, folder, shots, ...pages] = process.argv.slice(2);
const DESKTOP = {viewport: {width: 1200, height: 900}, colorScheme: "light"};
const PHONE = {
  viewport: {width: 360, height: 740}, colorScheme: "dark", hasTouch: true,
  reducedMotion: "reduce",
};

async function openFigure(figure) {
  await figure.locator("summary").click();
  await figure.locator(".live-toggles button").first().waitFor();
}

/** All that a reader sees of where the cursor is. */
function readOut(figure) {
  return figure.evaluate((node) => {
    const choices = [...node.querySelectorAll(".live-controls label")]
      .filter((label) => !label.hidden).map((label) => [
        label.querySelector("span").textContent,
        label.querySelector("select").selectedOptions[0].textContent]);
    const slider = node.querySelector("input");
    return {
      choices: Object.fromEntries(choices),
      at: slider.valueAsNumber,
      point: slider.getAttribute("aria-valuetext"),
      said: node.querySelector(".live-said").textContent,
      rows: [...node.querySelectorAll(".live-table tbody tr")]
        .map((row) => [...row.cells].map((cell) => cell.textContent)),
    };
  });
}

/** What is drawn, as one number; where, without the cursor. */
function look(figure) {
  return figure.evaluate((node) => {
    const drawing = node.querySelector(".live-drawing");
    const parts = [...drawing.querySelectorAll(".live-series, .live-axis")]
      .map((part) => part.outerHTML);
    for (const canvas of drawing.querySelectorAll("canvas")) {
      parts.push(...canvas.getContext("2d")
        .getImageData(0, 0, canvas.width, canvas.height).data);
    }
    return [...parts.join()].reduce(
      (sum, letter) => (31 * sum + letter.charCodeAt(0)) % 1e9, 7);
  });
}

const drawn = (figure) => figure.locator("[data-name]")
  .evaluateAll((nodes) => nodes.map((node) => node.dataset.name));

function choiceOf(figure, name) {
  const label = figure.page().locator(`span:text-is("${name}")`);
  return figure.locator(".live-controls label", {has: label})
    .locator("select");
}

/** Chooses each option of a choice in turn, if it is there. */
async function chooseEach(choice, work) {
  if (!await choice.count() || !await choice.isVisible()) return;
  const count = await choice.locator("option").count();
  for (let option = 0; option < count; option++) {
    await choice.selectOption({index: option});
    await work(option);
  }
}

/** Hides and shows each line by the keyboard; notes what is drawn then. */
async function useToggles(figure) {
  const all = await drawn(figure), before = await look(figure);
  const found = {all, toggles: []};
  for (const button of await figure.locator(".live-toggles button").all()) {
    await button.focus();
    await button.press("Space");
    found.toggles.push({
      name: await button.textContent(),
      pressed: await button.getAttribute("aria-pressed"),
      drawn: await drawn(figure),
      rows: (await readOut(figure)).rows.map(([name]) => name),
      changes: before !== await look(figure),
    });
    await button.press("Enter");
  }
  return {...found, isBack: before === await look(figure)};
}

/** Moves the cursor by keys, and by the pointer on what is drawn. */
async function useCursor(figure) {
  const slider = figure.locator("input");
  const said = [];
  for (const key of ["Home", "ArrowRight", "ArrowLeft", "End"]) {
    await slider.press(key);
    said.push(await readOut(figure));
  }
  const pointed = [];
  const drawing = figure.locator(
    ".live-chart, .live-fields canvas, .live-grid-of-samples").first();
  await drawing.scrollIntoViewIfNeeded();
  const {width, height} = await drawing.boundingBox();
  for (const [x, y] of [[0.05, 0.1], [0.99, 0.1]]) {
    await drawing.click({position: {x: x * width, y: y * height}});
    pointed.push((await readOut(figure)).at);
  }
  return {said, pointed, last: Number(await slider.getAttribute("max"))};
}

/** Uses every control of every view of a figure that is open. */
async function useFigure(page, figure, name) {
  const found = {views: []};
  const visit = async () => {
    await photograph(page, shots, `${name}_${found.views.length}`, figure);
    const view = {...await useCursor(figure), ...await useToggles(figure)};
    view.readOuts = [];
    view.looks = {};
    for (const choice of ["y axis", "Values", "At", "When"]) {
      const looks = view.looks[choice] = [];
      await chooseEach(choiceOf(figure, choice), async () => {
        view.readOuts.push(await readOut(figure));
        looks.push(await look(figure));
      });
    }
    found.views.push(view);
  };
  const views = choiceOf(figure, "Show");
  // One view is no choice.
  if (await views.isVisible()) await chooseEach(views, visit);
  else await visit();
  return found;
}

async function usePage(browser, path) {
  const {page, notes} = await open(browser, address + path, DESKTOP);
  const found = {figures: {}, loadedUnasked: notes.addresses
    .filter((x) => /studies\/.*\.json$|d3/.test(x))};
  for (const figure of await page.locator(".live-figure").all()) {
    await openFigure(figure);
    const source = await figure.locator(".live-source a").getAttribute("href");
    const [dataset] = source.split("/").slice(-2);
    const name = `${path.split("/").at(-2)}_${dataset}`;
    found.figures[dataset] = await useFigure(page, figure, name);
  }
  found.colours = await page.locator(".live-figure").first().evaluate(
    (node) => Array.from({length: 7}, (_, k) => getComputedStyle(node)
      .getPropertyValue(`--live-line-${k}`).trim()));
  found.unnamed = await unnamed(page, ".live-figure");
  await page.close();
  return {...found, ...notes};
}

async function checkPhone(browser, path) {
  const {page, notes} = await open(browser, address + path, PHONE);
  const figure = page.locator(".live-figure").first();
  await openFigure(figure);
  const found = await figure.evaluate((node) => ({
    width: document.documentElement.scrollWidth,
    background: getComputedStyle(document.body).backgroundColor,
    transition: getComputedStyle(node.querySelector(".live-toggles button"))
      .transitionDuration,
    drawing: node.querySelector(".live-drawing").getBoundingClientRect().right,
  }));
  await photograph(page, shots, `phone_${path.split("/").at(-2)}`, figure);
  await page.close();
  return {...found, problems: notes.problems};
}

/** What a reader is told when numbers do not come, and what helps. */
async function checkFailure(browser, path) {
  const {page} = await open(browser, address + path, DESKTOP);
  await page.route("**/*.json", (route) => route.fulfill({status: 404}));
  const figure = page.locator(".live-figure").first();
  await figure.locator("summary").click();
  const said = await figure.locator("[role=alert]").textContent();
  await page.unroute("**/*.json");
  await figure.locator("button", {hasText: "Try again"}).click();
  await figure.locator(".live-toggles button").first().waitFor();
  await page.close();
  return said;
}

async function checkFile(browser, path) {
  const file = pathToFileURL(resolve(join(folder, path, "index.html"))).href;
  const {page} = await open(browser, file, DESKTOP);
  const figure = page.locator(".live-figure").first();
  await figure.locator("summary").click();
  const said = await figure.locator("[role=alert]").textContent();
  await page.close();
  return said;
}

/** Without scripts the figures are all there is. */
async function checkPlain(browser, path) {
  const {page} = await open(
    browser, address + path, {...DESKTOP, javaScriptEnabled: false});
  const found = {
    pictures: await page.locator("img[src*='cifar10/']").count(),
    figures: await page.locator(".live-figure").count(),
  };
  await page.close();
  return found;
}

await mkdir(shots, {recursive: true});
await withBrowser(async (browser) => {
  const found = {
    pages: {},
    phones: {},
    failure: await checkFailure(browser, pages[0]),
    file: await checkFile(browser, pages[0]),
    plain: await checkPlain(browser, pages[0]),
  };
  for (const path of pages) {
    found.pages[path] = await usePage(browser, path);
    found.phones[path] = await checkPhone(browser, path);
  }
  console.log(JSON.stringify(found));
});
