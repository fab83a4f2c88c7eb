// Searching all boards, choosing a threat, sorting and filtering a board; what is chosen stands in the address, so that it
// can be passed on: boards/lgg-linf-4-255.html#?text=fedbn&track=static&sort=drop, or index.html#?q=jpeg. Without this
// script every table is complete, in order of rank, and every panel is shown.
"use strict";

// Parts of the address behind #?, which the functions below share.
const address = {
  read() {
    // Anything else behind # is the name of a row or a board.
    const text = location.hash.startsWith("#?") ? location.hash.slice(2).replaceAll("%20", "+") : "";
    return new URLSearchParams(text);
  },
  write(facts) {
    const said = this.read();
    for (const [name, value] of Object.entries(facts)) {
      if (value) said.set(name, value);
      else said.delete(name);
    }
    const hash = String(said);
    history.replaceState(null, "", hash ? `#?${hash}` : location.pathname + location.search);
  },
};

// The tab of this page may lie outside of a narrow row of tabs.
for (const here of document.querySelectorAll(".where nav [aria-current]")) {
  here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.offsetLeft;
}

for (const command of document.querySelectorAll(".command")) {
  const copy = document.createElement("button");
  copy.type = "button";
  copy.className = "copy";
  copy.textContent = "Copy";
  command.append(copy);
  copy.addEventListener("click", async () => {
    const code = command.querySelector("code");
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

const tabs = document.querySelector(".tabs");
if (tabs) {
  const buttons = [...tabs.querySelectorAll("button")];
  const panels = [...document.querySelectorAll(".panel")];
  const choose = (id) => {
    const known = panels.some((panel) => panel.id === id) ? id : panels[0].id;
    for (const panel of panels) panel.hidden = panel.id !== known;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.panel === known));
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const { panel } = button.dataset;
      address.write({ threat: panel === panels[0].id ? "" : panel });
      choose(panel);
    });
  }
  addEventListener("hashchange", () => choose(address.read().get("threat")));
  tabs.hidden = false;
  choose(address.read().get("threat"));
}

// The search over all boards is made here, since it does nothing without this script.
const head = document.querySelector(".top");
if (head) {
  const MOST = 100;
  const root = head.querySelector(".home").getAttribute("href").replace("index.html", "");
  head.firstElementChild.insertAdjacentHTML("beforeend", '<form class="find" role="search">'
    + '<input type="search" name="q" placeholder="Search" aria-label="Search all boards" autocomplete="off"></form>');
  head.insertAdjacentHTML("afterend", '<section class="found" aria-label="Found on all boards" hidden>'
    + '<p role="status"></p><ol></ol></section>');
  const find = head.querySelector(".find");
  const { q } = find.elements;
  const place = head.nextElementSibling;
  const [status, list] = place.children;
  let index;
  let texts;

  function load() {
    index ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = `${root}assets/search.js`;
      script.addEventListener("load", () => {
        const { rows, boards, papers } = globalThis.searchIndex;
        texts = rows.map(([at, id, ...words]) =>
          `${boards[at]} ${words[0]} ${words[1]} ${papers[words[2]]} ${id}`.toLowerCase());
        done(globalThis.searchIndex);
      });
      script.addEventListener("error", failed);
      document.head.append(script);
    });
    return index;
  }

  async function look() {
    const words = q.value.toLowerCase().split(/\s+/).filter(Boolean);
    place.hidden = !words.length;
    if (!words.length) {
      list.replaceChildren();
      return;
    }
    const { rows, boards } = await load();
    const found = rows.filter((_, at) => words.every((word) => texts[at].includes(word)));
    const more = found.length > MOST ? `, the first ${MOST} below` : "";
    status.textContent = `${found.length} of ${rows.length} rows on all boards${more}. Worst case in percent.`;
    list.replaceChildren(...found.slice(0, MOST).map(([at, id, name, , , rank, worst, bounds]) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = `${root}entries/${encodeURIComponent(id)}.html`;
      link.textContent = name;
      const board = document.createElement("span");
      board.textContent = `${boards[at]}${rank ? `, rank ${rank}` : ", without a rank"}`;
      const figure = document.createElement("b");
      figure.textContent = worst || "\u2013";
      if (bounds) {
        const small = document.createElement("small");
        small.textContent = ` ${bounds}`;
        figure.append(small);
      }
      item.append(link, board, figure);
      return item;
    }));
  }

  let pause;
  q.addEventListener("focus", load, { once: true });
  q.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => {
      address.write({ q: q.value });
      look();
    }, 60);
  });
  find.addEventListener("submit", (event) => {
    event.preventDefault();
    list.querySelector("a")?.focus();
  });
  const follow = () => {
    const asked = address.read().get("q") ?? "";
    if (asked === q.value) return;
    q.value = asked;
    look();
  };
  addEventListener("hashchange", follow);
  follow();
}

// A menu closes when one looks elsewhere.
const menu = document.querySelector(".menu");
if (menu) {
  document.addEventListener("click", ({ target }) => { if (!menu.contains(target)) menu.open = false; });
  document.addEventListener("keydown", ({ key }) => {
    if (key === "Escape" && menu.open) {
      menu.open = false;
      menu.firstElementChild.focus();
    }
  });
}

// A wide table is a region that the keyboard scrolls, named as its caption or the heading above it.
for (const region of document.querySelectorAll(".scroll")) {
  const heading = (part) => part.querySelector("h1, h2, h3, h4, summary");
  const name = region.querySelector("caption") ?? heading(region.closest("details, section, .published"));
  region.tabIndex = 0;
  region.setAttribute("role", "region");
  region.setAttribute("aria-label", name.textContent.trim());
}

// An image of a gallery is enlarged by a click, above the page and with what is said of it.
for (const gallery of document.querySelectorAll(".gallery")) {
  gallery.querySelector("p").append(" Click an image to enlarge it.");
}
for (const image of document.querySelectorAll(".gallery img")) {
  const link = document.createElement("button");
  link.type = "button";
  link.className = "enlarge";
  image.replaceWith(link);
  link.append(image);
  link.addEventListener("click", () => {
    const dialog = document.createElement("dialog");
    const close = document.createElement("button");
    close.type = "button";
    close.className = "close";
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    const figure = link.closest("figure").cloneNode(true);
    const big = figure.querySelector(".enlarge");
    big.replaceWith(big.firstElementChild);
    dialog.setAttribute("aria-label", figure.querySelector("img").alt);
    dialog.append(close, figure);
    dialog.addEventListener("click", ({ target }) => { if (target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  });
}

// A permanent link beside the name of each row.
for (const row of document.querySelectorAll("table.rows > tbody[id]")) {
  const link = document.createElement("a");
  link.className = "perma";
  link.href = `#${row.id}`;
  link.setAttribute("aria-label", "Link to this row");
  link.textContent = "#";
  row.querySelector("th").firstElementChild.after(" ", link);
}

const form = document.querySelector(".filters");
if (form) {
  const FIRST = 100;
  // A page of one board has no choice of boards.
  const CHOICES = ["text", "dataset", "threat", "track", "client", "marks"].filter((name) => form.elements[name]);
  const NAMES = [...CHOICES, "sort"];
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
    const asked = address.read();
    const state = Object.fromEntries(NAMES.map((name) => [name, asked.get(name) ?? ""]));
    return { ...state, cols: asked.has("cols") ? asked.get("cols").split(" ") : shown };
  }

  function write() {
    const facts = Object.fromEntries(NAMES.map((name) => [name, state[name]]));
    address.write({ ...facts, cols: state.cols.join() === shown.join() ? "" : state.cols.join(" ") || "none" });
  }

  function fill() {
    for (const name of CHOICES) form.elements[name].value = state[name];
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
      && state.text.toLowerCase().split(/\s+/).every((word) => textOf(row).includes(word));
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
        // A cell sorts by what it says first, unless it says what by; a figure that is missing comes last, whichever way.
        const text = cell.tagName === "TH" ? cell.textContent : cell.firstChild?.nodeValue?.trim() ?? "";
        return [cell.dataset.v ?? (text === "\u2013" ? "" : text), row];
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
    main.classList.toggle("many", state.cols.some((name) => !shown.includes(name) && name !== "none"));
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

  // A column is explained where it comes first.
  const told = new Map();
  for (const { table, heads, rest, ...entry } of tables) {
    for (const head of heads) {
      if (!head.dataset.key) continue;
      if (head.title) told.set(head.dataset.key, head.title);
      else head.title = told.get(head.dataset.key) ?? "";
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
      for (const name of CHOICES) state[name] = String(chosen.get(name));
      state.cols = chosen.getAll("cols").map(String);
      write();
      apply();
    }, 80);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    state = { ...Object.fromEntries(NAMES.map((name) => [name, ""])), cols: shown };
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
