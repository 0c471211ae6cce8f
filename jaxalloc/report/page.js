// Draws the figures: those in view first, the others when there is time, those in a closed part when it is opened.
"use strict";
(() => {
  const templates = JSON.parse(document.getElementById("templates").textContent);
  const night = matchMedia("(prefers-color-scheme: dark)");
  const texts = new Map(
    [...document.querySelectorAll("script.figure")].map((element) => [element.dataset.name, element.textContent]),
  );
  const config = {
    responsive: true,
    displaylogo: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  };
  const NARROW = 520;

  // on a phone: no bar of colours beside a map, no names on the axes of a large one, less room for the rest
  function fit(figure, width) {
    const layout = figure.layout;
    if (width >= NARROW) return;
    layout.font = { size: 10 };
    layout.dragmode = false; // a finger scrolls the page
    for (const trace of figure.data) {
      if (trace.type !== "heatmap") continue;
      if (trace.xaxis === "x2") {
        trace.colorbar.len = 0.5;
        layout.height = Math.round(width + 90);
        layout.yaxis.showticklabels = layout.yaxis.showticklabels && layout.yaxis.ticktext.length <= 25;
        layout.xaxis2.showticklabels = layout.yaxis.showticklabels;
      } else {
        trace.showscale = false; // the numbers stand in the cells, or in their hover texts
      }
    }
  }

  function draw(element) {
    const figure = JSON.parse(texts.get(element.dataset.figure));
    figure.layout.template = templates[night.matches ? "dark" : "light"];
    fit(figure, element.clientWidth);
    element.style.minHeight = figure.layout.height + "px";
    element.dataset.narrow = element.clientWidth < NARROW;
    element.dataset.state = "drawing";
    return Plotly.newPlot(element, figure.data, figure.layout, config).then(() => {
      element.dataset.state = "drawn";
    });
  }

  const shown = (element) => element.closest("details:not([open])") === null && element.clientWidth > 0;
  const waiting = () => [...document.querySelectorAll("[data-figure]:not([data-state])")].filter(shown);

  function distance(element) {
    const box = element.getBoundingClientRect();
    return box.bottom < 0 ? -box.bottom : Math.max(0, box.top - innerHeight);
  }

  // Plotly's script, which the page holds compressed
  async function unpack() {
    const holder = document.getElementById("plotly");
    const letters = atob(holder.textContent);
    const bytes = new Uint8Array(letters.length);
    for (let k = 0; k < letters.length; k++) bytes[k] = letters.charCodeAt(k);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    holder.remove();
    document.body.append(script);
  }

  let working = false;
  async function work() {
    if (working) return;
    working = true;
    if (typeof Plotly === "undefined") await unpack();
    for (let left = waiting(); left.length; left = waiting()) {
      left.sort((a, b) => distance(a) - distance(b));
      await draw(left[0]);
      await new Promise((next) => setTimeout(next)); // the page stays alive in between
    }
    working = false;
    document.documentElement.dataset.ready = "true";
  }

  function again(elements) {
    for (const element of elements) delete element.dataset.state;
    delete document.documentElement.dataset.ready;
    work();
  }

  const drawn = () => [...document.querySelectorAll("[data-state]")];
  night.addEventListener("change", () => again(drawn()));
  addEventListener("resize", () => {
    const other = drawn().filter((element) => shown(element) && (element.clientWidth < NARROW) !== (element.dataset.narrow === "true"));
    if (other.length) again(other);
  });
  for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", work);
  // a link to a folded part opens it
  function reveal() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const folded = target && (target.matches("details") ? target : target.querySelector(":scope > details.part"));
    if (folded) folded.open = true;
  }
  addEventListener("hashchange", reveal);
  reveal();
  work();
})();
