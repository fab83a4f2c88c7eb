// Sorting, filtering and searching the tables; what is chosen stands in the address, so that it can be passed on:
// index.html#?q=fedbn&track=static&sort=drop. Without this script the tables are complete, in order of rank.
"use strict";

for (const copy of document.querySelectorAll(".copy")) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    const code = copy.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent.trim());
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      copy.textContent = "Selected";
    }
    setTimeout(() => { copy.textContent = "Copy"; }, 2000);
  });
}

const form = document.querySelector(".filters");
if (form) {
  const FIRST = 100;
  const main = document.querySelector("[data-cols]");
  const status = form.querySelector("[role=status]");
  const phone = matchMedia("(max-width: 44rem)");
  const collator = new Intl.Collator("en", { numeric: true });
  const shown = phone.matches ? [] : main.dataset.cols.split(" ");
  const tables = [...document.querySelectorAll("table.rows")].map((table) => {
    const rows = [...table.tBodies];
    return {
      table, rows, heads: [...table.tHead.rows[0].cells], rest: table.parentElement.nextElementSibling,
      group: table.closest(".group"), board: table.closest(".board"), all: false, sorted: "",
    };
  });
  let state = read();

  function read() {
    // Anything else behind # is the name of a row or a board.
    const asked = new URLSearchParams(location.hash.startsWith("#?") ? decode(location.hash.slice(2)) : "");
    const text = (name) => asked.get(name) ?? "";
    return {
      q: text("q"), dataset: text("dataset"), threat: text("threat"), track: text("track"), client: text("client"),
      marks: text("marks"), sort: text("sort"), cols: asked.has("cols") ? text("cols").split(" ") : shown,
    };
  }

  function decode(text) {
    return text.replaceAll("%20", "+");
  }

  function write() {
    const said = new URLSearchParams();
    for (const name of ["q", "dataset", "threat", "track", "client", "marks", "sort"]) {
      if (state[name]) said.set(name, state[name]);
    }
    if (state.cols.join() !== shown.join()) said.set("cols", state.cols.join(" "));
    const hash = String(said);
    history.replaceState(null, "", hash ? `#?${hash}` : location.pathname + location.search);
  }

  function fill() {
    for (const name of ["q", "dataset", "threat", "track", "client", "marks"]) form.elements[name].value = state[name];
    for (const box of form.querySelectorAll("[name=cols]")) box.checked = state.cols.includes(box.value);
  }

  // The text of a row, and the clients of a row or of its table, read once.
  const texts = new WeakMap();
  const clients = new WeakMap();
  function textOf(row) {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  }
  function clientsOf(part) {
    if (!clients.has(part)) clients.set(part, new Set(JSON.parse(part.dataset.client ?? "[]")));
    return clients.get(part);
  }

  function fits(row, group) {
    const track = row.dataset.track ?? group.dataset.track;
    const from = row.dataset.client ? row : group;
    return (!state.track || track === state.track)
      && (!state.client || clientsOf(from).has(state.client))
      && (!state.marks || (state.marks === "some") === ("marked" in row.dataset))
      && state.q.toLowerCase().split(/\s+/).every((word) => textOf(row).includes(word));
  }

  function order(entry) {
    if (entry.sorted === state.sort) return;
    entry.sorted = state.sort;
    const key = state.sort.replace(/^-/, "");
    const at = entry.heads.findIndex((head) => head.dataset.key === key);
    for (const head of entry.heads) head.removeAttribute("aria-sort");
    let rows = entry.rows;
    if (at >= 0) {
      const down = state.sort.startsWith("-");
      entry.heads[at].setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = entry.rows.map((row) => {
        const cell = row.rows[0].cells[at];
        // A heading's cell sorts by its name; a figure that is missing comes last, whichever way.
        return [cell.dataset.v ?? (cell.tagName === "TH" ? cell.textContent : ""), row];
      });
      keyed.sort(([one], [other]) => {
        if (one === "" || other === "") return (one === "") - (other === "");
        const found = isNaN(one) || isNaN(other) ? collator.compare(one, other) : one - other;
        return down ? -found : found;
      });
      rows = keyed.map(([, row]) => row);
    }
    entry.table.append(...rows);
  }

  function apply() {
    main.dataset.cols = state.cols.join(" ");
    let count = 0;
    let total = 0;
    const seen = new Set();
    const filled = new Set();
    for (const entry of tables) {
      order(entry);
      const { board, group } = entry;
      const fitting = (!state.dataset || board.dataset.dataset === state.dataset)
        && (!state.threat || board.dataset.threat === state.threat);
      let here = 0;
      for (const row of entry.table.tBodies) {
        const fit = fitting && fits(row, group);
        here += fit;
        row.hidden = !fit || (here > FIRST && !entry.all);
        row.classList.remove("more");
      }
      total += entry.rows.length;
      count += here;
      group.hidden = !here;
      if (here) filled.add(board);
      seen.add(board);
      if (entry.rest?.matches(".rest")) {
        entry.rest.hidden = entry.all || here <= FIRST;
        entry.rest.firstElementChild.textContent = `Show all ${here} rows`;
      }
    }
    for (const board of seen) board.hidden = !filled.has(board);
    status.textContent = (count === total ? "" : `${count} of `) + (total === 1 ? "1 row" : `${total} rows`);
  }

  function reach() {
    // A link to a row that is folded away or filtered out shows it.
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (!target || !main.contains(target)) return;
    const entry = tables.find(({ rows }) => rows.includes(target));
    if (entry && target.hidden) {
      entry.all = true;
      apply();
    }
    const folded = target.closest("details");
    if (folded) folded.open = true;
    target.scrollIntoView();
  }

  for (const { table, heads, rest, ...entry } of tables) {
    for (const head of heads) {
      if (!head.dataset.key) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const { key } = head.dataset;
        const best = "low" in head.dataset ? key : `-${key}`;
        const worst = "low" in head.dataset ? `-${key}` : key;
        state.sort = state.sort === best ? worst : state.sort === worst ? "" : best;
        write();
        apply();
      });
    }
    if (rest?.matches(".rest")) {
      rest.firstElementChild.addEventListener("click", () => {
        tables.find((each) => each.table === table).all = true;
        apply();
      });
    }
  }
  let waiting;
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const chosen = new FormData(form);
      for (const name of ["q", "dataset", "threat", "track", "client", "marks"]) state[name] = String(chosen.get(name));
      state.cols = chosen.getAll("cols").map(String);
      write();
      apply();
    }, 80);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    state = { ...state, q: "", dataset: "", threat: "", track: "", client: "", marks: "", sort: "", cols: shown };
    fill();
    write();
    apply();
  });
  addEventListener("hashchange", () => {
    if (location.hash.startsWith("#?") || !location.hash) {
      state = read();
      fill();
      apply();
    } else reach();
  });
  form.querySelector("details").open = !phone.matches || state.cols.join() !== shown.join();
  form.hidden = false;
  fill();
  apply();
  reach();
}
