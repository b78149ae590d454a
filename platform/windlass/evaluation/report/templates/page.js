"use strict";
/* Charts come to life, tables sort, one tip names what is under the pointer or the focus. Without scripts the page
   stays whole: charts are drawn, tables are in order, nothing is hidden. */

const views = new Map();
const said = document.getElementById("said");
const tip = document.getElementById("tip");
const MARKS = ".role-mark [aria-label][role=graphics-symbol]";

/* ---- charts ---- */

async function draw(plot, key) {
  const source = document.querySelector(`script[data-spec="${key}"]`);
  const stage = document.createElement("div");
  const drawn = plot.firstElementChild;
  plot.append(stage);
  try {
    const result = await window.vegaEmbed(stage, JSON.parse(source.textContent), {
      actions: false, ast: true, defaultStyle: false, renderer: "svg", tooltip: () => {},
    });
    drawn.remove();
    views.get(plot)?.finalize();
    views.set(plot, result.view);
    prepare(plot, result.view);
  } catch (error) {
    stage.remove(); /* what was drawn before stays */
    throw error;
  }
}

/* One stop for the Tab key in each chart; arrows go from mark to mark. */
function prepare(plot, view) {
  const reach = () => {
    const all = [...plot.querySelectorAll(MARKS)];
    if (all.length && !all.some((mark) => mark.tabIndex === 0)) all[0].setAttribute("tabindex", "0");
    for (const mark of all) if (!mark.hasAttribute("tabindex")) mark.setAttribute("tabindex", "-1");
  };
  reach();
  view.addResizeListener(() => requestAnimationFrame(reach));
}

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return hide();
  const mark = event.target.closest?.(MARKS);
  if (!mark || !(event.key in STEPS)) return;
  event.preventDefault();
  const all = [...mark.closest(".plot").querySelectorAll(MARKS)];
  const place = Math.min(Math.max(all.indexOf(mark) + STEPS[event.key], 0), all.length - 1);
  mark.setAttribute("tabindex", "-1");
  all[place].setAttribute("tabindex", "0");
  all[place].focus();
});

function show(mark) {
  const [name, ...rest] = mark.getAttribute("aria-label").split(": ");
  const bold = document.createElement("b");
  bold.textContent = name;
  tip.replaceChildren(bold, rest.join(": "));
  tip.hidden = false;
  const box = mark.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left + box.width / 2 - tip.offsetWidth / 2), innerWidth - tip.offsetWidth - 8);
  const above = box.top - tip.offsetHeight - 8;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above > 8 ? above : box.bottom + 8}px`;
  light(mark.__data__?.datum?.candidate ?? "");
}

function hide() {
  tip.hidden = true;
  light("");
}

/* The same candidate in every chart and every table. */
function light(candidate) {
  for (const row of document.querySelectorAll("tr[data-candidate]"))
    row.classList.toggle("active", row.dataset.candidate === candidate);
  for (const view of views.values())
    if ("active" in view.getState().signals) view.signal("active", candidate).runAsync();
}

for (const [start, end] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
  document.addEventListener(start, (event) => {
    const mark = event.target.closest?.(MARKS);
    if (mark) return show(mark);
    const row = event.target.closest?.("tr[data-candidate]");
    if (row) light(row.dataset.candidate);
  });
  document.addEventListener(end, (event) => {
    if (event.target.closest?.(`${MARKS}, tr[data-candidate]`)) hide();
  });
}
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

for (const plot of document.querySelectorAll("[data-chart]")) {
  draw(plot, plot.dataset.chart);
  plot.addEventListener("dblclick", () => draw(plot, plot.dataset.chart));
}

for (const choice of document.querySelectorAll("[data-chart-choice]"))
  choice.addEventListener("change", () => {
    const figure = document.getElementById(choice.dataset.chartChoice);
    const plot = figure.querySelector(".plot");
    plot.dataset.chart = choice.value;
    const [option] = choice.selectedOptions;
    const [title, note] = figure.querySelectorAll("h3, .aside");
    title.textContent = option.textContent;
    note.textContent = option.dataset.note;
    note.hidden = !option.dataset.note;
    draw(plot, choice.value);
  });

/* ---- tables ---- */

function compare(one, other) {
  const [a, b] = [Number(one), Number(other)];
  if (one === "" || other === "") return one === other ? 0 : one === "" ? 1 : -1;
  return Number.isNaN(a) || Number.isNaN(b) ? one.localeCompare(other, undefined, { numeric: true }) : a - b;
}

function sort(table, column, header) {
  const direction = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  const sign = direction === "ascending" ? 1 : -1;
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const rows = [...table.tBodies[0].rows].sort((a, b) => sign * compare(value(a), value(b)));
  table.tBodies[0].append(...rows);
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction);
  said.textContent = `sorted by ${header.textContent}, ${direction}`;
}

for (const table of document.querySelectorAll("table[data-sortable]"))
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sort(table, column, header));
  });

/* ---- commands and print ---- */

if (navigator.clipboard)
  for (const block of document.querySelectorAll(".code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    block.append(button);
    button.addEventListener("click", async () => {
      const text = block.querySelector("pre").textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch { /* an embedding page may forbid it: the text is then selected, ready for the keyboard */
        getSelection().selectAllChildren(block.querySelector("pre"));
      }
    });
  }

const closed = [];
addEventListener("beforeprint", () => {
  closed.push(...document.querySelectorAll("details:not([open])"));
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed.splice(0)) details.open = false;
});
