// Keeps the console fresh: each part is fetched again and put in place when it changed. Nothing else runs here.
"use strict";
const page = document.getElementById("console");
const stale = document.getElementById("stale");
const parts = [...page.querySelectorAll("[data-fragment]")];
const shown = new Map();

async function refresh(part) {
  const answer = await fetch(`/fragments/${part.dataset.fragment}`, { headers: { accept: "text/html" } });
  if (!answer.ok) throw new Error(answer.statusText);
  const text = await answer.text();
  if (shown.get(part) === text || part.contains(document.activeElement)) return;
  shown.set(part, text);
  const places = [...part.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
  part.innerHTML = text;
  part.querySelectorAll(".scroll").forEach((box, i) => { box.scrollLeft = places[i] || 0; });
}

async function round() {
  if (!document.hidden) {
    const results = await Promise.allSettled(parts.map(refresh));
    stale.hidden = results.every((result) => result.status === "fulfilled");
    page.dataset.rounds = String(Number(page.dataset.rounds || 0) + 1);
  }
  setTimeout(round, Number(page.dataset.refreshMs));
}

page.addEventListener("submit", (event) => {
  const button = event.target.querySelector("[data-confirm]");
  if (button && !window.confirm(button.dataset.confirm)) event.preventDefault();
});
round();
