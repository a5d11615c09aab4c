/* The panel below a figure: its controls, and what they change. */

import {drawChart, drawSwatch} from "./live_chart.js";
import {
  digits, linesOf, measureName, meanAndDeviation, viewsOf,
} from "./live_data.js";
import {drawFields, drawSamples} from "./live_pictures.js";

const DRAW = {lines: drawChart, samples: drawSamples, fields: drawFields};

/** What the numbers of a study look like, as a reader chooses.

    A view is chosen, a part of it and what values are divided by; `hidden`
    has the names of lines that are not shown, `at` is the number of the point
    that the cursor is at. */
export class Panel {
  /** @param root an empty element.
      @param result of a study, see studies/report.py.
      @param source address of the result. */
  constructor(root, result, source) {
    this.root = d3.select(root).attr("class", "live-panel");
    this.views = viewsOf(result);
    this.seeds = result.setting.budget.seeds;
    this.hidden = new Set();
    this.at = 0;
    this.addControls();
    this.addReadOut();
    this.addSource(result.setting.budget, source);
    this.chooseView(0);
    this.redrawWhenResized();
  }

  addControls() {
    const controls = this.root.append("div").attr("class", "live-controls");
    this.viewChoice = addChoice(controls, "Show", (k) => this.chooseView(k));
    this.partChoice = addChoice(controls, "At", (k) => {
      this.part = this.view.parts[k];
      this.draw();
    });
    this.measureChoice = addChoice(controls, "Values", (k) => {
      this.reference = [null, ...this.view.references][k];
      this.chooseScale();
      this.draw();
    });
    this.scaleChoice = addChoice(controls, "y axis", (k) => {
      this.isLog = k === 1;
      this.draw();
    });
    this.toggles = this.root.append("div").attr("class", "live-toggles")
      .attr("role", "group").attr("aria-label", "What is shown");
    this.drawing = this.root.append("div").attr("class", "live-drawing");
  }

  addReadOut() {
    const label = this.root.append("label").attr("class", "live-cursor");
    this.cursorName = label.append("span");
    this.cursor = label.append("input").attr("type", "range").attr("min", 0)
      .on("input", () => this.moveTo(this.cursor.property("valueAsNumber")));
    this.said = this.root.append("p").attr("class", "live-said")
      .attr("aria-live", "polite");
    this.table = this.root.append("div").attr("class", "live-table")
      // The keyboard scrolls a wide table where the focus is.
      .attr("tabindex", 0).attr("role", "region")
      .attr("aria-label", "Values at the cursor").append("table")
      .attr("class", "live-values");
  }

  addSource({seeds, train_steps: steps}, source) {
    this.root.append("p").attr("class", "live-source")
      .text(`${seeds.length} seeds, ${steps.toLocaleString("en")} training `
        + "steps. Bands go from the least to the largest seed. All numbers: ")
      .append("a").attr("href", source).text(source.split("/").at(-1));
  }

  chooseView(number) {
    this.view = this.views[number];
    [this.part] = this.view.parts;
    this.reference = this.view.reference;
    const {parts, partLabel, references, x} = this.view;
    this.viewChoice.fill(this.views.map((view) => view.title), number);
    this.partChoice.fill(parts.map((part) => part.name), 0, partLabel);
    this.measureChoice.fill(
      [null, ...references].map((name) => measureName(this.view, name)),
      references.indexOf(this.reference) + 1);
    this.chooseScale();
    this.cursorName.text(`Cursor: ${x.label}`);
    this.cursor.attr("max", x.values.length - 1);
    this.at = Math.min(this.at, x.values.length - 1);
    this.addToggles();
    this.draw();
  }

  /** Logarithmic where that shows more, as in the figures; only lines. */
  chooseScale() {
    if (this.view.kind !== "lines") return this.scaleChoice.fill([], 0);
    const values = this.lines().flatMap((line) => line.values.flat());
    const [least, largest] = d3.extent(values);
    const canBeLog = least > 0;
    this.isLog = canBeLog && largest > 10 * least;
    const names = canBeLog ? ["linear", "logarithmic"] : ["linear"];
    return this.scaleChoice.fill(names, Number(this.isLog));
  }

  /** A button for each line, pressed while the line is shown. */
  addToggles() {
    const names = [...this.part.lines.keys()];
    const panel = this;
    this.toggles.selectAll("button").remove();
    this.toggles.selectAll("button").data(names).join("button")
      .attr("type", "button")
      .each(function fill(name, index) {
        drawSwatch(d3.select(this).append("svg"), index);
        d3.select(this).append("span").text(name);
      })
      .attr("aria-pressed", (name) => !this.hidden.has(name))
      .on("click", function toggle(_, name) {
        const isHidden = panel.hidden.delete(name);
        if (!isHidden) panel.hidden.add(name);
        d3.select(this).attr("aria-pressed", isHidden);
        panel.draw();
      });
  }

  lines() {
    return linesOf(this.part, this.reference);
  }

  shownLines() {
    return this.lines().filter(({name}) => !this.hidden.has(name));
  }

  draw() {
    const {view, reference, isLog} = this;
    this.drawing.selectAll("*").remove();
    this.drawing.attr("class", `live-drawing live-${view.kind}`);
    this.moveCursor = DRAW[view.kind](this.drawing, {
      x: view.x,
      lines: this.shownLines(),
      label: measureName(view, reference),
      isLog,
      isRatio: reference !== null,
      onPoint: (at) => {
        if (at !== this.at) this.moveTo(at);
      },
    });
    this.moveTo(this.at);
  }

  redrawWhenResized() {
    let width = this.root.node().clientWidth;
    new ResizeObserver(([{contentRect}]) => {
      // Closed, it has no width to draw in.
      if (!contentRect.width || contentRect.width === width) return;
      width = contentRect.width;
      this.draw();
    }).observe(this.root.node());
  }

  moveTo(at) {
    this.at = at;
    this.moveCursor(at);
    const {view} = this;
    const name = view.x.names[at];
    this.cursor.property("value", at).attr("aria-valuetext", name);
    const readOut = READ[view.kind](this, this.shownLines());
    const said = readOut.rows.map(([line, first]) => `${line}: ${first}`);
    this.said.text(said.length ? `${name}. ${said.join("; ")}.`
      : "Nothing is shown. Press a name above.");
    const what = view.kind === "lines"
      ? measureName(view, this.reference) : view.title;
    fillTable(this.table, `${what}, ${name}`, readOut);
  }
}

/** A choice with a name; it is hidden while there is nothing to choose. */
function addChoice(root, label, onChange) {
  const box = root.append("label");
  const name = box.append("span").text(label);
  const select = box.append("select")
    .on("change", () => onChange(select.property("selectedIndex")));
  return {
    fill(options, chosen, otherLabel = label) {
      name.text(otherLabel);
      select.selectAll("option").data(options).join("option")
        .text((option) => option);
      select.property("selectedIndex", chosen);
      box.attr("hidden", options.length > 1 ? null : "");
    },
  };
}

/** What stands in the table, by the kind of view: its columns and rows. */
const READ = {
  lines(panel, lines) {
    const count = d3.max(lines, (line) => line.values.length) ?? 0;
    const seeds = d3.range(count).map((k) => `seed\u00a0${panel.seeds[k]}`);
    const rows = lines.map(({name, values}) => {
      const atCursor = values.map((points) => points[panel.at]);
      const each = atCursor.map((value) => digits(value));
      return [name, meanAndDeviation(atCursor), ...each];
    });
    return {columns: ["mean ± standard deviation", ...seeds], rows};
  },
  samples(panel, lines) {
    const rows = lines.map(({name, values}) => {
      const pixels = values[panel.at].flat(2);
      const all = values.flat(3);
      return [name, meanAndDeviation(pixels), meanAndDeviation(all)];
    });
    return {
      columns: ["pixels, mean ± standard deviation", "of all samples"], rows,
    };
  },
  fields(panel, lines) {
    const rows = lines.map(({name, values: field}) => {
      const value = field[Math.floor(field.length / 2)][panel.at];
      const size = panel.view.sizes[name];
      return [name, digits(value / d3.max(field.flat())), `${size} px`];
    });
    return {columns: ["influence / the largest", "can see"], rows};
  },
};

function fillTable(table, caption, {columns, rows}) {
  table.selectAll("*").remove();
  table.append("caption").text(caption);
  table.append("thead").append("tr").selectAll("th").data(["", ...columns])
    .join((enter) => enter.append((text) =>
      document.createElement(text ? "th" : "td")))
    .text((text) => text);
  const lines = table.append("tbody").selectAll("tr").data(rows).join("tr");
  lines.append("th").attr("scope", "row").text(([first]) => first);
  lines.selectAll("td").data(([, ...cells]) => cells).join("td")
    .text((cell) => cell);
}
