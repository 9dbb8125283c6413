"use strict";
const table = document.querySelector("table"), body = table.tBodies[0], rows = [...body.rows];
const form = document.querySelector("form"), count = document.querySelector("#count"), more = document.createElement("button");
const byHash = new Map(rows.map(row => ["#" + row.id, row]));
const step = 500;  // rows that the page has at a time: a browser takes seconds to lay out some ten thousand
let most = step;
form.hidden = false;
more.type = "button";
table.after(more);
more.addEventListener("click", () => { most += step; show(); });

function show() {
  const words = form.words.value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = new Set([...form.querySelectorAll("[type=checkbox]:checked")].map(box => box.value));
  const found = rows.filter(row => wanted.has(row.dataset.o) && words.every(word => row.dataset.t.includes(word)));
  body.replaceChildren(...found.slice(0, most));
  count.textContent = `${found.length} of ${rows.length} tests`;
  more.hidden = found.length <= most;
  more.textContent = `Show more: ${Math.min(step, found.length - most)} of the ${found.length - most} that are left out`;
}
form.addEventListener("input", () => { most = step; show(); });
form.addEventListener("submit", event => event.preventDefault());

table.tHead.querySelectorAll("th").forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const down = head.ariaSort ? head.ariaSort === "ascending" : head.classList.contains("n");
    table.tHead.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
    head.ariaSort = down ? "descending" : "ascending";
    const keys = new Map(rows.map(row => [row, row.cells[column].dataset.v]));
    const number = head.classList.contains("n");
    rows.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (x === "" || y === "") return (x === "") - (y === "");  // what is not known comes last
      const order = number ? x - y : x < y ? -1 : +(x > y);
      return down ? -order : order;
    });
    show();
  });
});

function open() {  // what the time line leads to
  const row = byHash.get(location.hash);
  if (!row) return;
  if (!row.isConnected) body.prepend(row);
  row.querySelector("details").open = true;
  row.scrollIntoView({block: "center"});
}
addEventListener("hashchange", open);
show();
document.documentElement.classList.replace("starts", "runs");
open();
