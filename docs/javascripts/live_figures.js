/* Puts "Explore the numbers" below each figure of a study.

   The figure stays as it is: this only adds to it, and loads nothing before
   somebody asks for it. A plain script, so that it runs where modules may not,
   as on a page that was opened as a file, and can say what to do there. */

(() => {
  const FIGURE = /studies\/(cifar10|digits)\/[a-z_]+\.png$/;
  const DATASETS = {cifar10: "CIFAR-10", digits: "digits"};
  const here = document.currentScript.src;
  let drawingLibrary = null;

  function addDetails(image) {
    const [, dataset] = image.src.match(FIGURE);
    const details = document.createElement("details");
    details.className = "live-figure";
    const summary = document.createElement("summary");
    summary.textContent = `Explore the numbers: ${DATASETS[dataset]}`;
    const panel = document.createElement("div");
    details.append(summary, panel);
    endOf(image).after(details);
    const source = image.src.replace(/\.png$/, ".json");
    details.addEventListener("toggle", () => fill(panel, source), {once: true});
  }

  /** The paragraph of a figure, or of the caption below it. */
  function endOf(image) {
    const paragraph = image.closest("p") ?? image;
    const next = paragraph.nextElementSibling;
    // A caption is a paragraph in italics.
    return next?.matches("p:has(> em:first-child:last-child)")
      ? next : paragraph;
  }

  /** Loads the numbers and shows them, or says why not. */
  async function fill(panel, source) {
    panel.textContent = "Loading the numbers …";
    try {
      const [{Panel}, result] = await Promise.all([
        import("./live_panel.js"), loadNumbers(source), loadDrawingLibrary(),
      ]);
      panel.replaceChildren();
      new Panel(panel, result, source);
    } catch (error) {
      console.warn(error);
      explain(error, panel, source);
    }
  }

  async function loadNumbers(source) {
    const response = await fetch(source);
    if (!response.ok) throw new Error(`the server answers ${response.status}`);
    return response.json();
  }

  /** D3, once for all figures; it is a script that makes a global `d3`. */
  function loadDrawingLibrary() {
    drawingLibrary ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL("d3.min.js", here);
      script.addEventListener("load", resolve);
      script.addEventListener("error", () => {
        drawingLibrary = null;
        reject(new Error("d3.min.js cannot be loaded"));
      });
      document.head.append(script);
    });
    return drawingLibrary;
  }

  /** Says what could not be loaded and what to do. */
  function explain(error, panel, source) {
    const isFile = location.protocol === "file:";
    const text = document.createElement("p");
    text.setAttribute("role", "alert");
    text.textContent = isFile
      ? `${source} could not be loaded: browsers load no data into a page `
        + "that was opened as a file. Run “python -m http.server” in the "
        + "folder of the site, then open http://localhost:8000."
      : `${source} could not be loaded or drawn: ${error.message}. Check the `
        + "connection, then try again.";
    panel.replaceChildren(text);
    if (isFile) return;
    const button = document.createElement("button");
    button.className = "md-button";
    button.type = "button";
    button.textContent = "Try again";
    button.addEventListener("click", () => fill(panel, source));
    panel.append(button);
  }

  // Backwards, as several may go after one paragraph.
  [...document.images].filter((image) => FIGURE.test(image.src)).reverse()
    .forEach(addDetails);
})();
