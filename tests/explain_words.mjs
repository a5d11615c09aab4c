/* node explain_words.mjs PAGE.html: prints what the page of kud-explain says of
   what cannot be chosen, and whether its table fits a desktop, as JSON. */

import {resolve} from "node:path";
import {pathToFileURL} from "node:url";
import {open, withBrowser} from "./browser.mjs";

const address = pathToFileURL(resolve(process.argv[2])).href;

await withBrowser(async (browser) => {
  const {page, notes} = await open(browser, address, {
    viewport: {width: 1280, height: 900},
  });
  await page.waitForFunction(
    () => document.documentElement.dataset.readyAfter);
  // Pictures are painted when they are decoded.
  await page.waitForTimeout(300);
  const said = () => page.evaluate(() => ({
    ...Object.fromEntries([
      "summary", "clean-caption", "noisy-caption", "noise-value", "predicts",
      "strip-help", "no-square", "no-heat", "facts",
    ].map((id) => [id, document.getElementById(id).textContent])),
    disabled: [...document.querySelectorAll("#details :disabled")]
      .map((x) => x.id),
  }));
  const first = await said();
  const clean = await page.evaluate(() => {
    const canvas = document.getElementById("clean");
    const {data} = canvas.getContext("2d")
      .getImageData(0, 0, canvas.width, canvas.height);
    return [...data].filter((_, index) => index % 4 === 0);
  });
  await page.locator("#choice").selectOption("label_embedding");
  const {scrollWidth, clientWidth} = await page.evaluate(() => {
    const {scrollWidth, clientWidth} =
      document.getElementById("table").parentElement;
    return {scrollWidth, clientWidth};
  });
  console.log(JSON.stringify({
    first, vector: await said(), clean, scrollWidth, clientWidth,
    problems: notes.problems,
  }));
});
