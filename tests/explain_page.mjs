/* node explain_page.mjs PAGE.html SHOTS: uses the page of kud-explain as people
   do, in a headless browser, and prints what it found as JSON. Screenshots go
   to the folder SHOTS. */

import {mkdir} from "node:fs/promises";
import {resolve} from "node:path";
import {pathToFileURL} from "node:url";
import {open, photograph, unnamed, withBrowser} from "./browser.mjs";

const [file, shots] = process.argv.slice(2);
const address = pathToFileURL(resolve(file)).href;

async function openReady(browser, options) {
  const {page, notes} = await open(browser, address, options);
  await page.waitForFunction(
    () => document.documentElement.dataset.readyAfter);
  return {page, notes};
}

function text(page, id) {
  return page.locator(`#${id}`).textContent();
}

/** A number that stands for what a canvas shows. */
async function look(page, id) {
  // Pictures are painted when they are decoded.
  await page.waitForTimeout(300);
  return page.evaluate((name) => {
    const canvas = document.getElementById(name);
    const {data} = canvas.getContext("2d")
      .getImageData(0, 0, canvas.width, canvas.height);
    return data.reduce((sum, value, at) => (31 * sum + value + at) % 1e9, 7);
  }, id);
}

function state(page) {
  return page.evaluate(() => ({
    name: document.getElementById("name").textContent,
    status: document.getElementById("status").textContent,
    selected: [...document.querySelectorAll("[aria-selected=true] title")]
      .map((x) => x.textContent),
    lit: document.querySelectorAll(".arc.lit").length,
    partners: [...document.querySelectorAll(".partner title")]
      .map((x) => x.textContent),
    facts: Object.fromEntries(
      [...document.querySelectorAll("#facts dt")].map((x) =>
        [x.textContent, x.nextElementSibling.textContent])),
    row: document.querySelector("#table tr.selected button")?.textContent,
  }));
}

function clickBlock(page, name) {
  return page.locator(".block", {has: page.locator(`title:text-is("${name}")`)})
    .locator(".shape").click();
}

/** Clicks every block; notes what is said of it. */
async function visitAll(page) {
  const names = await page.locator(".block title").allTextContents();
  const visited = {};
  for (const name of names) {
    await clickBlock(page, name);
    visited[name] = await state(page);
  }
  return visited;
}

async function useNoise(page) {
  const slider = page.locator("#noise");
  const seen = [];
  await slider.focus();
  await page.keyboard.press("Home");
  const count = Number(await slider.getAttribute("max")) + 1;
  for (let level = 0; level < count; level++) {
    seen.push({
      said: await slider.getAttribute("aria-valuetext"),
      noisy: await look(page, "noisy"),
      features: await look(page, "features"),
    });
    await page.keyboard.press("ArrowRight");
  }
  return seen;
}

async function useStrip(page) {
  const seen = [];
  for (const button of await page.locator("#strip button").all()) {
    await button.click();
    seen.push({
      said: await page.locator("#step").getAttribute("aria-valuetext"),
      x_t: await look(page, "strip-0"),
      current: await page.locator("#strip [aria-current=true]").textContent(),
    });
  }
  await page.locator("#step").focus();
  await page.keyboard.press("Home");
  return {seen, first: await page.locator("#step-value").textContent()};
}

/** Moves along the drawing and selects by the keyboard alone. */
async function useKeys(page) {
  const focused = () => page.evaluate(
    () => document.activeElement.querySelector("title")?.textContent);
  await page.locator(".block[tabindex='0']").focus();
  const steps = {};
  for (const key of ["Home", "ArrowRight", "ArrowDown", "ArrowLeft", "End"]) {
    await page.keyboard.press(key);
    steps[key] = await focused();
  }
  await page.keyboard.press("Enter");
  const byEnter = await text(page, "name");
  await page.keyboard.press("Home");
  await page.keyboard.press("Space");
  const bySpace = await text(page, "name");
  return {steps, byEnter, bySpace};
}

/** The other controls: what each changes. */
async function useButtons(page, skipped) {
  const found = {};
  await page.locator("#choice").selectOption(skipped);
  found.chosen = await text(page, "name");
  await page.locator("#follow").click();
  found.followed = await text(page, "name");
  await page.locator("#follow").click();
  found.back = await text(page, "name");
  await page.locator("#next").click();
  found.next = await text(page, "name");
  await page.locator("#previous").click();
  found.previous = await text(page, "name");
  await page.locator("#all-skips").check();
  found.litAll = await page.locator("#drawing.lit-all").count();
  const plain = await look(page, "noisy");
  await page.locator("#square").uncheck();
  found.squareChanges = plain !== await look(page, "noisy");
  const before = await look(page, "noisy");
  await page.locator("#heat").check();
  found.heatChanges = before !== await look(page, "noisy");
  found.heatCaption = await text(page, "noisy-caption");
  await page.locator("#table button").first().click();
  found.fromTable = await text(page, "name");
  found.leapt = await page.evaluate(() => document.activeElement.id);
  await page.locator("#theme").selectOption("dark");
  found.dark = await page.evaluate(
    () => getComputedStyle(document.body).backgroundColor);
  await page.locator("#theme").selectOption("light");
  found.light = await page.evaluate(
    () => getComputedStyle(document.body).backgroundColor);
  return found;
}

async function checkPhone(browser) {
  const {page, notes} = await openReady(browser, {
    viewport: {width: 360, height: 740}, colorScheme: "dark", hasTouch: true,
    reducedMotion: "reduce",
  });
  const [last] = (await page.locator(".block title").allTextContents())
    .slice(-1);
  await page.locator("#choice").selectOption(last);
  await photograph(page, shots, "phone_dark");
  const found = await page.evaluate(() => ({
    width: document.documentElement.scrollWidth,
    background: getComputedStyle(document.body).backgroundColor,
    animation: getComputedStyle(document.querySelector(".arc"))
      .animationName,
    inSight: (() => {
      const {left, right} = document
        .querySelector("[aria-selected=true] .shape").getBoundingClientRect();
      return left >= 0 && right <= innerWidth;
    })(),
  }));
  await page.close();
  return {...found, problems: notes.problems};
}

await mkdir(shots, {recursive: true});
await withBrowser(async (browser) => {
  const {page, notes} = await openReady(browser, {
    viewport: {width: 1200, height: 900}, colorScheme: "light",
  });
  const readyAfter = Number(await page.evaluate(
    () => document.documentElement.dataset.readyAfter));
  await photograph(page, shots, "desktop_light");
  const visited = await visitAll(page);
  const skipped = Object.keys(visited)
    .find((name) => visited[name].facts["Its skip goes to"]);
  await page.locator("#choice").selectOption(skipped);
  const noise = await useNoise(page);
  const strip = await useStrip(page);
  const keys = await useKeys(page);
  const buttons = await useButtons(page, skipped);
  await photograph(page, shots, "desktop_used");
  console.log(JSON.stringify({
    address, readyAfter, visited, skipped, noise, strip, keys, buttons,
    unnamed: await unnamed(page),
    phone: await checkPhone(browser),
    ...notes,
  }));
});
